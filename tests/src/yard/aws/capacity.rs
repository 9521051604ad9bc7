//! How many instances can still be launched, by type and zone.

use wildmatch::WildMatch;

/// A limit on further launches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Instance types with `*` wildcards, optionally of one usage class:
    /// `c5.*`, `spot/c5.*`, `on-demand/*`.
    pub type_pattern: String,
    /// One zone, or all zones together.
    pub zone: Option<String>,
    /// How many more may be launched.
    pub left: u32,
}

impl Capacity {
    fn covers(&self, instance_type: &str, spot: bool, zone: &str) -> bool {
        let pattern = WildMatch::new(&self.type_pattern);
        let usage = if spot { "spot" } else { "on-demand" };
        self.zone.as_deref().is_none_or(|own| own == zone)
            && (pattern.matches(instance_type)
                || pattern.matches(&format!("{usage}/{instance_type}")))
    }
}

/// All limits; what none of them covers is unlimited.
#[derive(Clone, Debug, Default)]
pub(super) struct Capacities(Vec<Capacity>);

impl Capacities {
    pub(super) fn new(limits: Vec<Capacity>) -> Self {
        Self(limits)
    }

    /// Replaces the limit of the same pattern and zone; `None` lifts it.
    pub(super) fn set(&mut self, type_pattern: &str, zone: Option<&str>, left: Option<u32>) {
        self.0
            .retain(|limit| limit.type_pattern != type_pattern || limit.zone.as_deref() != zone);
        if let Some(left) = left {
            self.0.push(Capacity {
                type_pattern: type_pattern.to_owned(),
                zone: zone.map(str::to_owned),
                left,
            });
        }
    }

    /// Whether one more instance fits; if so, it is counted.
    pub(super) fn take(&mut self, instance_type: &str, spot: bool, zone: &str) -> bool {
        let mut covering: Vec<_> = self
            .0
            .iter_mut()
            .filter(|limit| limit.covers(instance_type, spot, zone))
            .collect();
        let fits = covering.iter().all(|limit| limit.left > 0);
        if fits {
            for limit in &mut covering {
                limit.left -= 1;
            }
        }
        fits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_covering_limit_counts() {
        let mut all = Capacities::default();
        all.set("c5.*", None, Some(2));
        all.set("*", Some("us-east-1a"), Some(1));
        assert!(all.take("c5.large", false, "us-east-1a"));
        assert!(!all.take("c5.large", false, "us-east-1a"));
        assert!(all.take("c5.large", false, "us-east-1b"));
        assert!(!all.take("c5.large", false, "us-east-1b"));
        assert!(all.take("m5.large", false, "us-east-1b"));
        all.set("c5.*", None, None);
        assert!(all.take("c5.large", false, "us-east-1b"));
    }

    #[test]
    fn a_usage_class_can_be_short_alone() {
        let mut all = Capacities::default();
        all.set("spot/*", None, Some(0));
        assert!(!all.take("c5.large", true, "us-east-1a"));
        assert!(all.take("c5.large", false, "us-east-1a"));
    }
}
