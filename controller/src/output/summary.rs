//! What a step leaves on the run's page.

use std::fmt::Write as _;

use proto::time::human;

use super::{Trouble, chain, harmless::harmless};
use crate::{exit::Exit, provision::Provisioned, release::GivenBack};

/// Width of the longest bar of the chart, in characters.
const LONGEST_BAR: f64 = 40.0;

/// `1 machine`, `2 machines`.
pub(crate) fn count(machines: usize) -> String {
    match machines {
        1 => "1 machine".to_owned(),
        many => format!("{many} machines"),
    }
}

/// A provision's machines, and where its time went.
pub(super) fn success(provisioned: &Provisioned) -> String {
    let mut text = format!(
        "### Paddock: {} for `{}` in {}\n\n{} reused, {} new.\n\n\
         | machine | type | zone | usage | from | seconds to ready |\n\
         |---|---|---|---|---|---:|\n",
        count(provisioned.machines.len()),
        provisioned.label,
        human(provisioned.took),
        provisioned.reused(),
        provisioned.created(),
    );
    for ready in &provisioned.machines {
        let _ = writeln!(
            text,
            "| `{}` | {} | {} | {} | {} | {} |",
            ready.id,
            ready.instance_type,
            ready.zone,
            ready.usage,
            if ready.reused { "reused" } else { "new" },
            ready.after.map_or_else(
                || "–".to_owned(),
                |after| format!("{:.2}", after.as_secs_f64())
            )
        );
    }
    let phases = &provisioned.phases;
    let longest = phases.iter().map(|(_, time)| time.as_secs_f64());
    let longest = longest.fold(f64::MIN_POSITIVE, f64::max);
    if !phases.is_empty() {
        text.push_str("\n```text\n");
        for (phase, time) in phases {
            let bar = bar(time.as_secs_f64() / longest);
            let _ = writeln!(text, "{phase:<9} {bar} {}", human(*time));
        }
        text.push_str("```\n");
    }
    text
}

/// A bar for a share of the longest, 0 to 1; something is always to be seen.
fn bar(share: f64) -> String {
    let mut bar = String::from("█");
    let mut drawn = 1.0;
    while drawn + 0.5 <= share * LONGEST_BAR {
        bar.push('█');
        drawn += 1.0;
    }
    bar
}

/// What became of a run's machines.
pub(super) fn released(given: &GivenBack) -> String {
    let mut text = format!(
        "### Paddock: {} released\n\n| machine | |\n|---|---|\n",
        count(given.pooled.len() + given.terminated.len() + given.gone.len())
    );
    for id in &given.pooled {
        let _ = writeln!(text, "| `{id}` | back in the pool |");
    }
    for (id, why) in &given.terminated {
        // What an agent said may hold anything.
        let why = harmless(why).replace('\n', " ").replace('|', "\\|");
        let _ = writeln!(text, "| `{id}` | terminated: {why} |");
    }
    for id in &given.gone {
        let _ = writeln!(text, "| `{id}` | gone already |");
    }
    text
}

/// Why a step failed, what to do, and what is left.
pub(super) fn failure(trouble: &Trouble<'_>) -> String {
    let mut text = String::from(match trouble.exit {
        Exit::Cancelled => "### Paddock: cancelled\n",
        Exit::Done | Exit::Failed | Exit::BadInput | Exit::Unfinished => "### Paddock: failed\n",
    });
    let error = chain(trouble.error).replace("```", "'''");
    if error != "cancelled" {
        let _ = write!(text, "\n```text\n{error}\n```\n");
    }
    if let Some(remedy) = &trouble.remedy {
        let _ = writeln!(text, "\n**What to do:** {remedy}.");
    }
    match trouble.exit {
        Exit::BadInput => text.push_str("\nNothing was touched.\n"),
        Exit::Failed | Exit::Cancelled => text.push_str("\nNothing of it is left.\n"),
        Exit::Done | Exit::Unfinished => {}
    }
    if !trouble.left.is_empty() {
        text.push_str("\n**Left for the next refresh:**\n\n");
        for left in trouble.left {
            let _ = writeln!(text, "- {left}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::{io, time::Duration};

    use proto::instance::UsageClass;

    use super::*;
    use crate::provision::Ready;

    #[test]
    fn success_shows_machines_and_times() {
        let text = success(&Provisioned {
            label: "7".parse().unwrap(),
            machines: vec![Ready {
                id: "i-0123456789abcdef0".parse().unwrap(),
                instance_type: "m6i.large".into(),
                zone: "us-east-1a".into(),
                usage: UsageClass::Spot,
                reused: true,
                after: Some(Duration::from_millis(420)),
            }],
            took: Duration::from_secs(1),
            phases: vec![
                ("pool", Duration::from_millis(100)),
                ("machines", Duration::from_millis(400)),
            ],
        });
        assert!(
            text.contains(
                "| `i-0123456789abcdef0` | m6i.large | us-east-1a | spot | reused | 0.42 |"
            ),
            "{text}"
        );
        assert!(text.contains("1 machine for `7`"), "{text}");
        let bars: Vec<usize> = text
            .lines()
            .map(|line| line.matches('█').count())
            .filter(|bar| *bar > 0)
            .collect();
        assert_eq!(bars, [10, 40], "{text}");
    }

    #[test]
    fn failure_says_what_to_do() {
        let error = io::Error::other("```no```");
        let text = failure(&Trouble {
            error: &error,
            remedy: Some("do this".into()),
            left: &["a machine".into()],
            refresh: None,
            exit: Exit::Unfinished,
        });
        assert!(text.contains("**What to do:** do this."), "{text}");
        assert!(text.contains("- a machine"), "{text}");
        assert!(!text.contains("```no"), "{text}");
    }
}
