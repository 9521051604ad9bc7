//! The figures as Markdown tables.

use std::{fmt::Write as _, time::Duration};

use super::{
    round::{WORKS, Work},
    sample::{Parts, Sample},
};

/// The controller's calls of AWS that are allowed for this work, and the predecessor's.
const CALLS: [(&str, usize, usize); 2] = [("provision 10 warm", 40, 75), ("release 10", 35, 43)];

/// The memory that a step may have resident, and the predecessor's, in megabytes.
const MEMORY: (f64, f64) = (40.0, 68.0);

/// How long a step may take until its first call of AWS, in milliseconds.
const FIRST_CALL: f64 = 60.0;

/// Renders all tables.
pub fn render(samples: &[(Work, Sample)]) -> String {
    let mut text = times(samples);
    text.push('\n');
    text.push_str(&parts(samples));
    text.push('\n');
    text.push_str(&costs(samples));
    text
}

fn of<'a>(samples: &'a [(Work, Sample)], work: &Work) -> Vec<&'a Sample> {
    let found = samples.iter().filter(|(of, _)| of == work);
    found.map(|(_, sample)| sample).collect()
}

fn times(samples: &[(Work, Sample)]) -> String {
    let mut text = String::from(
        "| seconds | min | median | max | target for the median | predecessor | |\n\
         |---|---|---|---|---|---|---|\n",
    );
    for work in WORKS {
        let took = of(samples, &work)
            .iter()
            .map(|sample| sample.took.as_secs_f64())
            .collect();
        let [min, median, max] = spread(took);
        let _ = writeln!(
            text,
            "| {} | {min:.2} | {median:.2} | {max:.2} | ≤ {:.1} | ({}) | {} |",
            work.name,
            work.target,
            work.predecessor,
            met(median <= work.target),
        );
    }
    text
}

fn parts(samples: &[(Work, Sample)]) -> String {
    let mut text = String::from(
        "| where the time goes (medians, ms) | process start | AWS | agents | until seen | own \
         work, end |\n|---|---|---|---|---|---|\n",
    );
    let columns: [fn(&Parts) -> Duration; 5] = [
        |parts| parts.start,
        |parts| parts.aws,
        |parts| parts.agents,
        |parts| parts.seeing,
        |parts| parts.own,
    ];
    for work in WORKS {
        let samples = of(samples, &work);
        let _ = write!(text, "| {} |", work.name);
        for column in columns {
            let millis = |sample: &&Sample| column(&sample.parts).as_secs_f64() * 1000.0;
            let [_, median, _] = spread(samples.iter().map(millis).collect());
            let _ = write!(text, " {median:.0} |");
        }
        text.push('\n');
    }
    text
}

fn costs(samples: &[(Work, Sample)]) -> String {
    let mut text = String::from(
        "| the controller's | min | median | max | target | predecessor | |\n\
         |---|---|---|---|---|---|---|\n",
    );
    let mut details = String::new();
    for (name, limit, predecessor) in CALLS {
        let Some(work) = WORKS.iter().find(|work| work.name == name) else {
            continue;
        };
        let mut found = of(samples, work);
        found.sort_by_key(|sample| total(sample));
        #[expect(clippy::cast_precision_loss, reason = "a few dozen")]
        let [min, median, max] = spread(found.iter().map(|sample| total(sample) as f64).collect());
        #[expect(clippy::cast_precision_loss, reason = "a few dozen")]
        let verdict = met(median <= limit as f64);
        let _ = writeln!(
            text,
            "| AWS calls, {name} | {min:.0} | {median:.0} | {max:.0} | ≤ {limit} | \
             ({predecessor}) | {verdict} |",
        );
        if let Some(middle) = found.get(found.len() / 2) {
            let calls: Vec<String> = middle
                .calls
                .iter()
                .map(|(action, count)| format!("{count} {action}"))
                .collect();
            let _ = writeln!(details, "\nCalls of {name}: {}.", calls.join(", "));
        }
    }
    let all = || samples.iter().map(|(_, sample)| sample);
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52 bytes")]
    let memory = all().map(|sample| sample.memory as f64 / 1e6).collect();
    let [min, median, max] = spread(memory);
    let _ = writeln!(
        text,
        "| resident memory, MB | {min:.0} | {median:.0} | {max:.0} | ≤ {:.0} | ({:.0}) | {} |",
        MEMORY.0,
        MEMORY.1,
        met(max <= MEMORY.0),
    );
    let first = all().map(|sample| sample.parts.start.as_secs_f64() * 1000.0);
    let [min, median, max] = spread(first.collect());
    let _ = writeln!(
        text,
        "| process start to first AWS call, ms | {min:.0} | {median:.0} | {max:.0} | ≤ \
         {FIRST_CALL:.0} | | {} |",
        met(median <= FIRST_CALL),
    );
    text + &details
}

fn total(sample: &Sample) -> usize {
    sample.calls.values().sum()
}

fn met(holds: bool) -> &'static str {
    if holds { "met" } else { "**missed**" }
}

/// Minimum, median, maximum; the upper median of an even number.
fn spread(mut values: Vec<f64>) -> [f64; 3] {
    values.sort_by(f64::total_cmp);
    let at = |index: usize| values.get(index).copied().unwrap_or(f64::NAN);
    [
        at(0),
        at(values.len() / 2),
        at(values.len().saturating_sub(1)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::float_cmp, reason = "nothing is computed")]
    fn the_median_is_in_the_middle() {
        assert_eq!(spread(vec![3.0, 1.0, 2.0]), [1.0, 2.0, 3.0]);
    }
}
