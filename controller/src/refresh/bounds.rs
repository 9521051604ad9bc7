//! How many idle machines there should be at least and at most, by class, usage and hour.

use std::collections::BTreeMap;

use jiff::{
    Timestamp,
    civil::{Time as Clock, Weekday},
    tz::TimeZone,
};
use proto::{ids::ClassName, instance::UsageClass, time::Time};

/// Machines of one kind.
pub type Kind = (ClassName, UsageClass);

/// A number for one kind of machine, perhaps at some hours only.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// Of which machines.
    pub kind: Kind,
    /// How many.
    pub count: u32,
    /// When; none: always.
    pub hours: Option<Hours>,
}

/// Hours of a week, by the clock of some place.
#[derive(Clone, Debug, PartialEq)]
pub struct Hours {
    /// The days on which they begin.
    pub days: Vec<Weekday>,
    /// When they begin.
    pub from: Clock,
    /// When they end: on the same day, or on the next one if that is not later than `from`.
    pub to: Clock,
    /// Whose clock.
    pub zone: TimeZone,
}

impl Hours {
    /// Whether `now` lies in them.
    pub fn contains(&self, now: Time) -> bool {
        let local = Timestamp::from(now).to_zoned(self.zone.clone());
        let (day, time) = (local.weekday(), local.time());
        let today = self.days.contains(&day);
        if self.from < self.to {
            return today && (self.from..self.to).contains(&time);
        }
        let yesterday = self.days.contains(&day.previous());
        (today && time >= self.from) || (yesterday && time < self.to)
    }
}

/// How many idle machines of one kind there should be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bounds {
    /// At least; never more than `max`.
    pub min: u32,
    /// At most, if there is a limit.
    pub max: Option<u32>,
}

/// The rules for all kinds of machines.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct IdleRules {
    /// At least so many idle machines.
    pub min: Vec<Rule>,
    /// At most so many.
    pub max: Vec<Rule>,
}

impl IdleRules {
    /// What holds at `now`, for every kind that some rule is about. Of several rules for one kind
    /// that hold, the last one counts.
    pub fn at(&self, now: Time) -> BTreeMap<Kind, Bounds> {
        let holds = |rule: &&Rule| rule.hours.as_ref().is_none_or(|hours| hours.contains(now));
        let mut bounds: BTreeMap<Kind, Bounds> = BTreeMap::new();
        for rule in self.min.iter().chain(&self.max) {
            bounds.entry(rule.kind.clone()).or_default();
        }
        for rule in self.min.iter().filter(holds) {
            bounds.entry(rule.kind.clone()).or_default().min = rule.count;
        }
        for rule in self.max.iter().filter(holds) {
            bounds.entry(rule.kind.clone()).or_default().max = Some(rule.count);
        }
        for bounds in bounds.values_mut() {
            bounds.min = bounds.min.min(bounds.max.unwrap_or(u32::MAX));
        }
        bounds
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Time {
        text.parse().unwrap()
    }

    fn hours(days: &[Weekday], from: i8, to: i8, zone: &str) -> Hours {
        Hours {
            days: days.to_vec(),
            from: Clock::constant(from, 0, 0, 0),
            to: Clock::constant(to, 0, 0, 0),
            zone: TimeZone::get(zone).unwrap(),
        }
    }

    #[test]
    fn hours_are_those_of_their_place_in_summer_and_winter() {
        let berlin = hours(&[Weekday::Wednesday], 8, 18, "Europe/Berlin");
        // Wednesdays; UTC+1 in winter, UTC+2 in summer.
        for (instant, inside) in [
            ("2026-01-14T06:59:59Z", false),
            ("2026-01-14T07:00:00Z", true),
            ("2026-01-14T16:59:59Z", true),
            ("2026-01-14T17:00:00Z", false),
            ("2026-07-15T05:59:59Z", false),
            ("2026-07-15T06:00:00Z", true),
            ("2026-07-16T06:00:00Z", false),
        ] {
            assert_eq!(berlin.contains(at(instant)), inside, "{instant}");
        }
    }

    #[test]
    fn hours_may_end_on_the_next_day() {
        let night = hours(&[Weekday::Friday], 22, 6, "UTC");
        assert!(!night.contains(at("2026-01-16T21:59:59Z")));
        assert!(night.contains(at("2026-01-16T22:00:00Z")));
        assert!(night.contains(at("2026-01-17T05:59:59Z")));
        assert!(!night.contains(at("2026-01-17T06:00:00Z")));
        assert!(!night.contains(at("2026-01-16T05:00:00Z")));
        let whole_day = hours(&[Weekday::Friday], 0, 0, "UTC");
        assert!(whole_day.contains(at("2026-01-16T23:59:59Z")));
        assert!(!whole_day.contains(at("2026-01-17T00:00:00Z")));
    }

    #[test]
    fn the_last_rule_that_holds_counts_and_the_ceiling_wins() {
        let kind = ("large".parse().unwrap(), UsageClass::OnDemand);
        let rule = |count, hours| Rule {
            kind: kind.clone(),
            count,
            hours,
        };
        let day = Some(hours(&[Weekday::Wednesday], 8, 18, "UTC"));
        let rules = IdleRules {
            min: vec![rule(1, None), rule(5, day)],
            max: vec![rule(3, None)],
        };
        let bounds = |instant| rules.at(at(instant))[&kind];
        let max = Some(3);
        assert_eq!(bounds("2026-01-14T03:00:00Z"), Bounds { min: 1, max });
        assert_eq!(bounds("2026-01-14T09:00:00Z"), Bounds { min: 3, max });
    }
}
