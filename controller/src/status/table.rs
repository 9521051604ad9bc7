//! A status as people read it.

use std::{
    fmt::{Display, Write},
    time::Duration,
};

use anstyle::{AnsiColor, Style};
use proto::{state::State, time::human};

use super::{ClassStatus, MachineStatus, Status};

/// What machines say of themselves is cut to this many characters.
const LONGEST: usize = 60;
/// Less time than this is worth a look.
const SHORT: i64 = 30;

const MACHINE: [&str; 11] = [
    "machine", "state", "label", "age", "left", "beat", "type", "zone", "usage", "template", "note",
];
const CLASS: [&str; 7] = [
    "class", "created", "idle", "claimed", "running", "all", "vcpu",
];

/// A text and how a terminal shows it.
struct Cell(String, Style);

impl Cell {
    fn new(text: impl Display) -> Self {
        Self(text.to_string(), Style::new())
    }

    fn coloured(text: impl Display, colour: AnsiColor) -> Self {
        Self(text.to_string(), colour.on_default())
    }
}

/// The tables and the lines below them. In `colour` for a terminal.
pub fn text(status: &Status, colour: bool) -> String {
    let mut text = format!(
        "pool {} at {} ({})\n",
        status.pool, status.at, status.github_url
    );
    if status.machines.is_empty() {
        text.push_str("no machines\n");
    } else {
        let rows = status.machines.iter().map(row);
        text.push_str(&table(&MACHINE, rows, colour));
    }
    text.push('\n');
    let total = status.total();
    let classes = status.classes.iter().map(|class| {
        let name = class.name.as_ref().map_or("", |name| name.as_str());
        counts(name, class)
    });
    let rows = classes.chain([counts("all", &total)]);
    text.push_str(&table(&CLASS, rows, colour));
    if let Some(cost) = &status.cost {
        let _ = write!(text, "\nabout {:.3} USD an hour", cost.usd_per_hour);
        if !cost.unpriced.is_empty() {
            let unpriced = cost.unpriced.iter();
            let unpriced: Vec<String> = unpriced
                .map(|(kind, count)| format!("{count} × {kind}"))
                .collect();
            let _ = write!(text, ", and what has no price: {}", unpriced.join(", "));
        }
        text.push('\n');
    }
    text
}

/// Columns as wide as their widest cell.
fn table<const N: usize>(
    head: &[&str; N],
    rows: impl Iterator<Item = [Cell; N]>,
    colour: bool,
) -> String {
    let head = head.map(|name| Cell(name.to_owned(), Style::new().bold()));
    let rows: Vec<[Cell; N]> = [head].into_iter().chain(rows).collect();
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].0.chars().count());
        cells.max().unwrap_or_default()
    };
    let widths: [usize; N] = std::array::from_fn(width);
    let mut text = String::new();
    for row in &rows {
        let mut line = String::new();
        for (Cell(cell, style), width) in row.iter().zip(widths) {
            let space = " ".repeat(width - cell.chars().count() + 2);
            if colour {
                let _ = write!(line, "{style}{cell}{style:#}{space}");
            } else {
                let _ = write!(line, "{cell}{space}");
            }
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn row(machine: &MachineStatus) -> [Cell; 11] {
    let age = |seconds| human(Duration::from_secs(seconds));
    let left = match machine.left_sec {
        None => Cell::new("-"),
        Some(left) if left < 0 => {
            let over = format!("{} over", age(left.unsigned_abs()));
            Cell::coloured(over, AnsiColor::Red)
        }
        Some(left) if left < SHORT => Cell::coloured(age(left.unsigned_abs()), AnsiColor::Yellow),
        Some(left) => Cell::new(age(left.unsigned_abs())),
    };
    let note = match (&machine.trouble, &machine.job) {
        (Some(trouble), _) => Cell::coloured(plain(trouble), AnsiColor::Red),
        (None, Some(job)) => Cell::new(format!("job {}", plain(job))),
        (None, None) => Cell::new(""),
    };
    let state = match machine.state {
        State::Created => AnsiColor::Cyan,
        State::Idle => AnsiColor::Green,
        State::Claimed => AnsiColor::Yellow,
        State::Running => AnsiColor::Blue,
        State::Terminated => AnsiColor::BrightBlack,
    };
    let beat = machine.heartbeat_sec;
    [
        Cell::new(&machine.id),
        Cell::coloured(machine.state, state),
        Cell::new(machine.label.as_ref().map_or("-", |label| label.as_str())),
        Cell::new(age(machine.age_sec)),
        left,
        Cell::new(beat.map_or_else(|| "never".to_owned(), age)),
        Cell::new(plain(&machine.instance_type)),
        Cell::new(plain(&machine.zone)),
        Cell::new(machine.usage_class),
        Cell::new(machine.template_version),
        note,
    ]
}

fn counts(name: &str, class: &ClassStatus) -> [Cell; 7] {
    [
        Cell::new(name),
        Cell::new(class.created),
        Cell::new(class.idle),
        Cell::new(class.claimed),
        Cell::new(class.running),
        Cell::new(class.machines()),
        Cell::new(class.cpu),
    ]
}

/// One line of a text from elsewhere, without anything that a terminal or GitHub acts upon.
fn plain(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let line: String = line.chars().filter(|c| !c.is_control()).collect();
    let line = line.replace("##[", "## [");
    let mut plain: String = line.chars().take(LONGEST).collect();
    if line.chars().count() > LONGEST {
        plain.push('…');
    }
    plain
}

#[cfg(test)]
mod tests {
    use proto::{ids::PoolName, instance::InstanceRecord, time::Time};

    use super::*;
    use crate::status::{Known, prices::Prices};

    fn example(colour: bool) -> String {
        let (pool, large): (PoolName, _) = ("p".parse().unwrap(), "large".parse().unwrap());
        let known = Known {
            pool: &pool,
            github_url: "https://github.com/acme/web",
            classes: vec![&large],
            healthy_within: Duration::from_secs(15),
        };
        let record = InstanceRecord {
            heartbeat: Some(Time::from_millis(99_000)),
            label: Some("42-gpu".parse().unwrap()),
            job: Some(proto::instance::Job {
                name: "::error::\u{1b}[31mboo\nnext".into(),
                since: Time::EPOCH,
            }),
            ..InstanceRecord::example(State::Running)
        };
        let prices = Prices::parse(r#"{"c5.large": {"spot": 1}}"#).unwrap();
        let now = Time::from_millis(100_000);
        text(
            &Status::of(&known, vec![record], Some(&prices), now),
            colour,
        )
    }

    #[test]
    fn people_see_columns() {
        let text = example(false);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].starts_with("pool p at 1970-01-01T00:01:40.000Z"));
        let column = |name| lines[1].find(name).unwrap();
        for (name, value) in [("label", "42-gpu"), ("left", "40s over"), ("beat", "1.00s")] {
            assert_eq!(lines[2].find(value), Some(column(name)), "{text}");
        }
        assert!(
            text.contains("large  0        0     0        1        1    2\n"),
            "{text}"
        );
        assert!(
            text.ends_with("no price: 1 × m6i.large on-demand\n"),
            "{text}"
        );
    }

    #[test]
    fn colours_are_the_terminals_alone_and_texts_of_others_have_none() {
        let plain = example(false);
        assert!(!plain.contains('\u{1b}'), "{plain:?}");
        assert!(plain.contains("job ::error::[31mboo next"), "{plain:?}");
        assert!(example(true).contains("\u{1b}["));
    }
}
