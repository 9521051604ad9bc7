//! The floor and the ceiling: at least and at most so many idle machines of a kind.
//!
//! A machine of the floor is launched without a run, pooled once it is ready, and kept: its
//! threshold is moved ahead by each refresh, so that it outlives the time that others may idle,
//! but not for long a pool that nobody refreshes any more.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use proto::{
    config::{FloorTrouble, KEPT},
    ids::InstanceId,
    instance::InstanceRecord,
    signal::Signal,
    state::State,
    time::Time,
};

use super::Observed;
use crate::refresh::{
    RefreshSettings,
    bounds::{Bounds, Kind},
    step::{Because, Step},
};

/// A machine whose last beat is older does not count: it could not be claimed.
const BEATS_WITHIN: Duration = Duration::from_mins(1);

/// Steps towards the bounds. Machines in `ending` end anyway; what ends here joins them.
pub(super) fn plan(
    settings: &RefreshSettings,
    observed: &Observed,
    records: &[InstanceRecord],
    ending: &mut BTreeSet<InstanceId>,
    now: Time,
) -> Vec<Step> {
    let mut steps = Vec::new();
    for record in records {
        if is_unclaimed(record) && !ending.contains(record.id()) {
            if record.says(Signal::Ok) {
                steps.push(Step::Pool(Box::new(record.clone())));
            } else if record.says(Signal::Failed) {
                ending.insert(record.id().clone());
                steps.push(unready(record));
            }
        }
    }
    let mut kinds: BTreeMap<Kind, Vec<&InstanceRecord>> = BTreeMap::new();
    for record in records {
        if !ending.contains(record.id()) {
            let kind = (record.resource_class.clone(), record.usage_class);
            kinds.entry(kind).or_default().push(record);
        }
    }
    let mut bounds = settings.idle.at(now);
    for kind in kinds.keys() {
        bounds.entry(kind.clone()).or_default();
    }
    for (kind, bounds) in bounds {
        let machines = kinds.remove(&kind).unwrap_or_default();
        let troubles = observed.config.refresh.iter().flat_map(|it| &it.floor);
        let blocked = is_blocked(troubles, &kind, now);
        for step in of_kind(settings, &kind, bounds, &machines, blocked, now) {
            if let Step::Terminate { arn, .. } = &step {
                ending.insert(arn.id().clone());
            }
            steps.push(step);
        }
    }
    steps
}

/// A machine of the floor that is not pooled yet.
fn is_unclaimed(record: &InstanceRecord) -> bool {
    record.state == State::Created && record.label.is_none()
}

/// Ends a machine of the floor that did not come up.
pub(in crate::refresh) fn unready(record: &InstanceRecord) -> Step {
    let report = record.fresh_report();
    let why = report.and_then(|report| report.detail.as_deref());
    let why = why.and_then(|detail| detail.lines().next());
    Step::Terminate {
        arn: record.arn.clone(),
        because: Because::Unready {
            why: why
                .unwrap_or("its agent was not heard of in time")
                .to_owned(),
            generation: record.generation,
        },
    }
}

fn is_blocked<'a>(
    mut troubles: impl Iterator<Item = &'a FloorTrouble>,
    kind: &Kind,
    now: Time,
) -> bool {
    troubles.any(|trouble| trouble.is_of(kind) && trouble.not_before > now)
}

fn of_kind(
    settings: &RefreshSettings,
    kind: &Kind,
    bounds: Bounds,
    machines: &[&InstanceRecord],
    blocked: bool,
    now: Time,
) -> Vec<Step> {
    let mut idle: Vec<&InstanceRecord> = machines
        .iter()
        .copied()
        .filter(|record| record.is_free())
        .collect();
    // Youngest first: what is kept lasts longest, and surplus goes oldest first.
    idle.sort_by(|a, b| (b.created_at, b.id()).cmp(&(a.created_at, a.id())));
    let most = bounds.max.map_or(usize::MAX, |max| max as usize);
    let surplus = idle.split_off(most.min(idle.len()));
    let end = |record: &InstanceRecord, because| Step::Terminate {
        arn: record.arn.clone(),
        because,
    };
    let mut steps: Vec<Step> = surplus
        .into_iter()
        .rev()
        .map(|record| {
            let generation = record.generation;
            end(record, Because::Surplus { most, generation })
        })
        .collect();

    let least = bounds.min as usize;
    let (mut kept, mut rest) = (Vec::new(), Vec::new());
    for record in idle {
        if kept.len() < least && is_good(settings, record, now) {
            kept.push(record);
        } else {
            rest.push(record);
        }
    }
    // In a pool that keeps some, the threshold of the others is not their idle time.
    let idle_time = settings.parameters.idle_time();
    let too_long = rest.into_iter().rev();
    let too_long = too_long.filter(|record| now.since(record.since) > idle_time);
    steps.extend(too_long.map(|record| {
        let (since, generation) = (record.since, record.generation);
        end(record, Because::IdleForLong { since, generation })
    }));
    let soon = |record: &&&InstanceRecord| record.threshold < Some(now + KEPT / 2);
    let short: Vec<InstanceRecord> = kept.iter().filter(soon).copied().cloned().collect();
    if !short.is_empty() {
        steps.push(Step::Keep {
            kind: kind.clone(),
            records: short,
            until: now + KEPT,
        });
    }
    let coming = machines.iter().filter(|record| is_unclaimed(record));
    let missing = least.saturating_sub(kept.len() + coming.count());
    if missing > 0 && !blocked {
        steps.push(Step::Raise {
            kind: kind.clone(),
            count: u32::try_from(missing).unwrap_or(u32::MAX),
            least: bounds.min,
        });
    }
    steps
}

/// Whether a provision could claim it, and may for some time to come.
fn is_good(settings: &RefreshSettings, record: &InstanceRecord, now: Time) -> bool {
    let age = now.since(record.created_at);
    let old = settings.parameters.max_age_sec;
    record.unhealthy().is_none()
        && !record.is_interrupted()
        && record.beats(now, BEATS_WITHIN)
        && old.is_none_or(|most| age.as_secs() < most)
}

/// The first pause after a launch of the floor that failed; each failure doubles it.
const FIRST_PAUSE: Duration = Duration::from_mins(5);
/// Pauses do not grow beyond this.
const LONGEST_PAUSE: Duration = Duration::from_hours(2);

/// The troubles of the floor after a refresh that tried these steps: those that `failed` says
/// nothing of are over.
pub(in crate::refresh) fn troubles_after(
    before: &[FloorTrouble],
    settings: &RefreshSettings,
    steps: &[Step],
    failed: impl Fn(&Step) -> Option<String>,
    now: Time,
) -> Vec<FloorTrouble> {
    let bounds = settings.idle.at(now);
    let wanted = |trouble: &&FloorTrouble| bounds.keys().any(|kind| trouble.is_of(kind));
    let mut troubles: Vec<FloorTrouble> = before.iter().filter(wanted).cloned().collect();
    for step in steps {
        let Step::Raise { kind, .. } = step else {
            continue;
        };
        let earlier = troubles.iter().position(|trouble| trouble.is_of(kind));
        let earlier = earlier.map(|i| troubles.remove(i));
        if let Some(why) = failed(step) {
            let failures = earlier.map_or(0, |trouble| trouble.failures) + 1;
            let doubled = 2_u32.saturating_pow(failures.saturating_sub(1).min(10));
            troubles.push(FloorTrouble {
                resource_class: kind.0.clone(),
                usage_class: kind.1,
                failures,
                not_before: now + (FIRST_PAUSE * doubled).min(LONGEST_PAUSE),
                why: why.chars().take(200).collect(),
            });
        }
    }
    troubles
}
