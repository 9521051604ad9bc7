//! How many idle machines there should be: one rule a line, such as
//! `large on-demand 2 mon-fri 08-18 Europe/Berlin`.

use jiff::{
    civil::{Time as Clock, Weekday},
    tz::TimeZone,
};

use super::BadInput;
use crate::refresh::{
    ClassSpec,
    bounds::{Hours, IdleRules, Rule},
};

const FORM: &str = "give lines such as `large on-demand 2` or \
                    `large on-demand 2 mon-fri 08-18 Europe/Berlin`";
/// More idle machines than this are a slip of the pen.
const MOST: u32 = 1000;
/// As users write them, Monday first.
const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// Reads the inputs `min-idle` and `max-idle`.
pub(super) fn rules(
    min: Option<&str>,
    max: Option<&str>,
    classes: &[ClassSpec],
) -> Result<IdleRules, BadInput> {
    let rules = IdleRules {
        min: parse("min-idle", min, classes)?,
        max: parse("max-idle", max, classes)?,
    };
    for low in rules.min.iter().filter(|rule| rule.hours.is_none()) {
        let same = |rule: &&Rule| rule.hours.is_none() && rule.kind == low.kind;
        let high = rules.max.iter().rfind(same);
        if let Some(high) = high.filter(|high| high.count < low.count) {
            let (class, usage) = &low.kind;
            let wrong = format!(
                "{} {class} {usage} machines are more than `max-idle` allows ({})",
                low.count, high.count
            );
            return Err(BadInput::new(
                "min-idle",
                wrong,
                "let it be the smaller one",
            ));
        }
    }
    Ok(rules)
}

fn parse(
    input: &'static str,
    text: Option<&str>,
    classes: &[ClassSpec],
) -> Result<Vec<Rule>, BadInput> {
    let lines = text.unwrap_or_default().lines().map(str::trim);
    lines
        .filter(|line| !line.is_empty())
        .map(|line| {
            rule(line, classes).map_err(|wrong| {
                let line: String = line.chars().take(80).collect();
                BadInput::new(input, format!("`{line}`: {wrong}"), FORM)
            })
        })
        .collect()
}

/// One line, or what is wrong with it.
fn rule(line: &str, classes: &[ClassSpec]) -> Result<Rule, String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let (kind, hours) = match words[..] {
        [class, usage, count] => ((class, usage, count), None),
        [class, usage, count, days, hours] => ((class, usage, count), Some((days, hours, "UTC"))),
        [class, usage, count, days, hours, zone] => {
            ((class, usage, count), Some((days, hours, zone)))
        }
        _ => return Err("it has neither three, five nor six words".to_owned()),
    };
    let (class, usage, count) = kind;
    let known = classes.iter().find(|spec| spec.name.as_str() == class);
    let class = known.ok_or_else(|| format!("there is no class {class}"))?;
    let number = count.parse().ok().filter(|count| *count <= MOST);
    Ok(Rule {
        kind: (class.name.clone(), usage.parse()?),
        count: number.ok_or_else(|| format!("{count} is no number from 0 to {MOST}"))?,
        hours: hours
            .map(|(days, hours, zone)| week(days, hours, zone))
            .transpose()?,
    })
}

fn week(days: &str, hours: &str, zone: &str) -> Result<Hours, String> {
    let (from, to) = hours
        .split_once('-')
        .ok_or_else(|| format!("{hours} are no hours"))?;
    Ok(Hours {
        days: weekdays(days)?,
        from: clock(from)?,
        to: clock(to)?,
        zone: TimeZone::get(zone).map_err(|_| format!("there is no time zone {zone}"))?,
    })
}

/// `mon-fri`, `sat,sun`, `fri-mon`.
fn weekdays(text: &str) -> Result<Vec<Weekday>, String> {
    let mut days = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (weekday(first)?, weekday(last)?);
        let mut day = first;
        loop {
            days.push(day);
            if day == last {
                break;
            }
            day = day.next();
        }
    }
    Ok(days)
}

fn weekday(text: &str) -> Result<Weekday, String> {
    let lower = text.to_ascii_lowercase();
    let found = (0_i8..).zip(DAYS).find(|(_, name)| *name == lower);
    let day = found.and_then(|(number, _)| Weekday::from_monday_zero_offset(number).ok());
    day.ok_or_else(|| format!("{text} is none of {}", DAYS.join(", ")))
}

/// `08` or `08:30`; `24` is the next midnight.
fn clock(text: &str) -> Result<Clock, String> {
    let (hour, minute) = text.split_once(':').unwrap_or((text, "0"));
    let number = |text: &str| text.parse::<i8>().ok();
    let time = number(hour)
        .zip(number(minute))
        .and_then(|time| match time {
            (24, 0) => Some(Clock::midnight()),
            (hour, minute) => Clock::new(hour, minute, 0, 0).ok(),
        });
    time.ok_or_else(|| format!("{text} is no time of day such as 08 or 08:30"))
}

#[cfg(test)]
mod tests {
    use proto::instance::UsageClass;

    use super::*;
    use crate::settings::classes;

    fn parsed(min: &str) -> Result<Vec<Rule>, String> {
        let classes = classes::parse(None).unwrap();
        rules(Some(min), None, &classes)
            .map(|rules| rules.min)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn a_rule_a_line() {
        let rules = parsed(
            "large on-demand 2\n\n  xlarge spot 1 mon-fri 08:30-18 Europe/Berlin\n\
             large spot 0 sat,sun 22-24\n",
        )
        .unwrap();
        assert_eq!(rules.len(), 3);
        assert_eq!((rules[0].count, &rules[0].hours), (2, &None));
        assert_eq!(rules[1].kind.1, UsageClass::Spot);
        let week = rules[1].hours.as_ref().unwrap();
        assert_eq!(week.days.len(), 5);
        assert_eq!(week.from, Clock::constant(8, 30, 0, 0));
        assert_eq!(week.zone.iana_name(), Some("Europe/Berlin"));
        let nights = rules[2].hours.as_ref().unwrap();
        assert_eq!(nights.days, [Weekday::Saturday, Weekday::Sunday]);
        assert_eq!(nights.to, Clock::midnight());
        assert_eq!(
            weekdays("fri-mon").unwrap().len(),
            4,
            "a week goes on after Sunday"
        );
    }

    #[test]
    fn what_is_no_rule_is_named() {
        for (line, words) in [
            ("large on-demand", "neither three"),
            ("huge on-demand 1", "no class huge"),
            ("large cheap 1", "on-demand, spot"),
            ("large spot many", "many is no number"),
            ("large spot 1 mon-fry 8-18", "fry is none of mon"),
            ("large spot 1 mon 8", "8 are no hours"),
            ("large spot 1 mon 8-25", "25 is no time of day"),
            (
                "large spot 1 mon 8-18 Mars/Phobos",
                "no time zone Mars/Phobos",
            ),
        ] {
            let error = parsed(line).unwrap_err();
            assert!(error.contains(words), "{line}: {error}");
            assert!(error.contains("input `min-idle`"), "{line}: {error}");
        }
        let classes = classes::parse(None).unwrap();
        let upside_down = rules(Some("large spot 3"), Some("large spot 2"), &classes);
        assert!(upside_down.is_err());
    }
}
