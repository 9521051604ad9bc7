//! Metrics: what a command saw, for CloudWatch. Off unless refresh is given `metrics: true`.
//!
//! Refresh measures the pool as it found it, provision what it got and how soon. Only kinds of
//! machines that there are, or that rules are about, are measured: each kind costs.

use std::collections::BTreeSet;

use proto::{
    ids::{ClassName, InstanceId},
    instance::InstanceRecord,
    state::State,
    time::Time,
};

use crate::{
    provision::Provisioned,
    refresh::{
        bounds::{IdleRules, Kind},
        plan::Observed,
        step::{Because, Step},
    },
};

/// What a value counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Things.
    Count,
    /// Time.
    Seconds,
}

/// One value.
#[derive(Clone, Debug, PartialEq)]
pub struct Measure {
    /// The metric's name.
    pub name: &'static str,
    /// Of which machines; none where that is not known.
    pub kind: Option<Kind>,
    /// The value.
    pub value: f64,
    /// What it counts.
    pub unit: Unit,
}

/// What a provision of this class got.
pub fn of_provision(class: &ClassName, provisioned: &Provisioned) -> Vec<Measure> {
    let mut measures = Vec::new();
    for ready in &provisioned.machines {
        let (counted, timed) = if ready.reused {
            ("PoolHits", "SecondsToReadyReused")
        } else {
            ("PoolMisses", "SecondsToReadyNew")
        };
        let of = |name, value, unit| Measure {
            name,
            kind: Some((class.clone(), ready.usage)),
            value,
            unit,
        };
        measures.push(of(counted, 1.0, Unit::Count));
        let after = ready
            .after
            .map(|after| of(timed, after.as_secs_f64(), Unit::Seconds));
        measures.extend(after);
    }
    measures
}

/// The pool as refresh found it, and what of it has to end. Of what could not be looked at nothing
/// is said: a zero would be taken for an empty pool.
pub fn of_pool(observed: &Observed, steps: &[Step], rules: &IdleRules, now: Time) -> Vec<Measure> {
    let Some(records) = &observed.records else {
        return Vec::new();
    };
    let orphans_known = observed.machines.is_some();
    let kind_of = |record: &InstanceRecord| (record.resource_class.clone(), record.usage_class);
    let known: BTreeSet<&InstanceId> = records.iter().map(InstanceRecord::id).collect();
    let ends = |why: fn(&Step) -> bool| -> BTreeSet<&InstanceId> {
        let steps = steps.iter().filter(|step| why(step));
        steps.filter_map(ended).collect()
    };
    let (expired, orphaned) = (ends(is_expiry), ends(is_orphan));
    let bounded = rules.at(now).into_keys();
    let kinds: BTreeSet<Kind> = records.iter().map(kind_of).chain(bounded).collect();
    let mut measures = Vec::new();
    for kind in kinds {
        let own = || records.iter().filter(|record| kind_of(record) == kind);
        let mut count = |name, of: &dyn Fn(&InstanceRecord) -> bool| {
            let found = own().filter(|record| of(record)).count();
            measures.push(counted(name, Some(kind.clone()), found));
        };
        for state in State::LIVE {
            count(name_of(state), &|record| record.state == state);
        }
        count("Interrupted", &InstanceRecord::is_interrupted);
        count("Expired", &|record| expired.contains(record.id()));
        if orphans_known {
            count("Orphaned", &|record| orphaned.contains(record.id()));
        }
        let idle = own().filter(|record| record.state == State::Idle);
        if let Some(oldest) = idle.map(|record| now.since(record.since)).max() {
            measures.push(Measure {
                name: "OldestIdle",
                kind: Some(kind),
                value: oldest.as_secs_f64(),
                unit: Unit::Seconds,
            });
        }
    }
    let strays = orphaned.difference(&known).count();
    if strays > 0 {
        measures.push(counted("Orphaned", None, strays));
    }
    measures
}

fn counted(name: &'static str, kind: Option<Kind>, count: usize) -> Measure {
    Measure {
        name,
        kind,
        value: f64::from(u32::try_from(count).unwrap_or(u32::MAX)),
        unit: Unit::Count,
    }
}

fn name_of(state: State) -> &'static str {
    match state {
        State::Created => "Created",
        State::Idle => "Idle",
        State::Claimed => "Claimed",
        State::Running => "Running",
        State::Terminated => "Terminated",
    }
}

/// The machine that a step ends, if it ends one.
fn ended(step: &Step) -> Option<&InstanceId> {
    if let Step::Terminate { arn, .. } | Step::Close { arn, .. } = step {
        Some(arn.id())
    } else if let Step::TerminateStray { id, .. } = step {
        Some(id)
    } else {
        None
    }
}

fn is_expiry(step: &Step) -> bool {
    let Step::Terminate { because, .. } = step else {
        return false;
    };
    matches!(because, Because::Expired { .. })
}

/// A machine without a record, or a record without its machine.
fn is_orphan(step: &Step) -> bool {
    matches!(step, Step::Close { .. } | Step::TerminateStray { .. })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proto::{
        ids::{Home, InstanceArn},
        instance::UsageClass,
    };

    use super::*;
    use crate::{provision::Ready, refresh::step::Stray};

    fn values(measures: &[Measure], name: &str) -> Vec<f64> {
        let named = measures.iter().filter(|measure| measure.name == name);
        named.map(|measure| measure.value).collect()
    }

    #[test]
    fn a_pool_is_counted_by_kind() {
        let idle = InstanceRecord::example(State::Idle);
        let other: InstanceId = "i-00000000000000002".parse().unwrap();
        let home = Home::of_arn("arn:aws:ec2:us-east-1:123456789012:x").unwrap();
        let spot = InstanceRecord {
            arn: InstanceArn::new(&home, &other),
            usage_class: UsageClass::Spot,
            ..InstanceRecord::example(State::Running)
        };
        let steps = [
            Step::Terminate {
                arn: idle.arn.clone(),
                because: Because::Expired {
                    state: State::Idle,
                    threshold: Time::EPOCH,
                },
            },
            Step::TerminateStray {
                id: "i-00000000000000001".parse().unwrap(),
                because: Stray::NoRecord,
            },
        ];
        let now = Time::from_millis(90_000);
        let rules = IdleRules::default();
        let mut observed = Observed {
            records: Some(vec![idle.clone(), idle, spot]),
            machines: Some(vec![]),
            ..Observed::default()
        };
        let measures = of_pool(&observed, &steps, &rules, now);
        assert_eq!(values(&measures, "Idle"), [2.0, 0.0]);
        assert_eq!(values(&measures, "Running"), [0.0, 1.0]);
        assert_eq!(values(&measures, "OldestIdle"), [90.0]);
        assert_eq!(values(&measures, "Expired"), [2.0, 0.0]);
        assert_eq!(values(&measures, "Orphaned"), [0.0, 0.0, 1.0]);

        // What could not be looked at is not zero.
        observed.machines = None;
        let measures = of_pool(&observed, &[], &rules, now);
        assert_eq!(values(&measures, "Idle"), [2.0, 0.0]);
        assert_eq!(values(&measures, "Orphaned"), [0.0; 0]);
        observed.records = None;
        assert_eq!(of_pool(&observed, &[], &rules, now), []);
    }

    #[test]
    fn a_provision_tells_hits_from_misses() {
        let ready = |reused, seconds| Ready {
            id: "i-00000000000000001".parse().unwrap(),
            instance_type: "m6i.large".into(),
            zone: "us-east-1a".into(),
            usage: UsageClass::OnDemand,
            reused,
            after: Some(Duration::from_secs(seconds)),
        };
        let provisioned = Provisioned {
            label: "7".parse().unwrap(),
            machines: vec![ready(true, 2), ready(true, 3), ready(false, 40)],
            took: Duration::from_secs(41),
            phases: Vec::new(),
        };
        let measures = of_provision(&"large".parse().unwrap(), &provisioned);
        assert_eq!(values(&measures, "PoolHits"), [1.0, 1.0]);
        assert_eq!(values(&measures, "PoolMisses"), [1.0]);
        assert_eq!(values(&measures, "SecondsToReadyReused"), [2.0, 3.0]);
        assert_eq!(values(&measures, "SecondsToReadyNew"), [40.0]);
    }
}
