//! The plan's second half: which machines have to end, and which the queues have lost.
//!
//! A machine ends for one reason alone; the first that applies counts: its provision is undone,
//! EC2 has it no more, its time is over, its class is gone, its template is old.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use proto::{
    ids::{ClassName, InstanceId},
    instance::InstanceRecord,
    provision::ProvisionRecord,
    signal::Signal,
    state::State,
    time::Time,
};

use super::{Observed, forge, is_wanted, version_to_come};
use crate::{
    ports::Machine,
    refresh::{
        ClassSpec, RefreshSettings,
        step::{Because, Step, Stray},
    },
};

/// How long a machine may be without a record, or a record without its machine. A provision
/// writes records at once, and `DescribeInstances` may lag behind a launch.
const GRACE: Duration = Duration::from_mins(5);
/// How long a machine must have been idle before its message counts as lost: the release that
/// pooled it sends the message last.
const UNLISTED: Duration = Duration::from_mins(1);
/// So many stale messages cost a provision one more round of receive and claim.
const WORTH_A_SWEEP: u64 = 10;

pub(super) fn plan(settings: &RefreshSettings, observed: &Observed, now: Time) -> Vec<Step> {
    let records: &[InstanceRecord] = observed.records.as_deref().unwrap_or_default();
    let mut steps = undone(observed, records, now);
    let mut ending: BTreeSet<InstanceId> = steps
        .iter()
        .filter_map(Step::undone)
        .flatten()
        .cloned()
        .collect();

    let alive = observed.machines.as_deref().map(alive);
    for record in records {
        if ending.contains(record.id()) {
            continue;
        }
        if let Some(step) = end_of(settings, observed, record, alive.as_ref(), now) {
            ending.insert(record.id().clone());
            steps.push(step);
        }
    }
    if observed.records.is_some() {
        steps.extend(strays(observed, records, &ending, now));
    }
    steps.extend(forge::releases(observed, records, &ending));
    if observed.records.is_some() && observed.machines.is_some() {
        let raised = super::floor::plan(settings, observed, records, &mut ending, now);
        steps.extend(raised);
    }
    steps.extend(lost_messages(settings, observed, records, &ending, now));
    if observed.records.is_some() {
        steps.extend(stale_messages(settings, observed, records, &ending));
    }
    steps
}

fn alive(machines: &[Machine]) -> BTreeSet<&InstanceId> {
    machines
        .iter()
        .filter(|machine| machine.alive)
        .map(|machine| &machine.id)
        .collect()
}

/// The provisions whose controller died, each with all machines that can be told to be its own:
/// those that the journal names, those that bear its label, those that its fleet launched.
fn undone(observed: &Observed, records: &[InstanceRecord], now: Time) -> Vec<Step> {
    let provisions = observed.provisions.iter().flatten();
    provisions
        .filter(|provision| provision.is_orphaned(now))
        .map(|provision| Step::Undo {
            record: Box::new(provision.clone()),
            machines: machines_of(provision, observed, records),
        })
        .collect()
}

fn machines_of(
    provision: &ProvisionRecord,
    observed: &Observed,
    records: &[InstanceRecord],
) -> Vec<InstanceId> {
    let labelled = records
        .iter()
        .filter(|record| record.label.as_ref() == Some(&provision.label))
        .map(InstanceRecord::id);
    let launched = observed
        .machines
        .iter()
        .flatten()
        .filter(|machine| machine.alive && machine.fleet.as_ref() == Some(&provision.client_token))
        .map(|machine| &machine.id);
    let all: BTreeSet<&InstanceId> = provision
        .machines()
        .chain(labelled)
        .chain(launched)
        .collect();
    all.into_iter().cloned().collect()
}

/// Why this record's machine has to end, if it has to.
fn end_of(
    settings: &RefreshSettings,
    observed: &Observed,
    record: &InstanceRecord,
    alive: Option<&BTreeSet<&InstanceId>>,
    now: Time,
) -> Option<Step> {
    let gone = alive.is_some_and(|alive| !alive.contains(record.id()));
    if gone && now.since(record.created_at) > GRACE {
        return Some(Step::Close {
            arn: record.arn.clone(),
            state: record.state,
            generation: record.generation,
        });
    }
    let because = expired(record, now)
        .or_else(|| retired(settings, record))
        .or_else(|| resized(settings, record))
        .or_else(|| outdated(observed, record));
    because.map(|because| Step::Terminate {
        arn: record.arn.clone(),
        because,
    })
}

fn expired(record: &InstanceRecord, now: Time) -> Option<Because> {
    let threshold = record.threshold.filter(|threshold| *threshold <= now)?;
    Some(Because::Expired {
        state: record.state,
        threshold,
    })
}

fn retired(settings: &RefreshSettings, record: &InstanceRecord) -> Option<Because> {
    let unwanted = !is_wanted(settings, &record.resource_class);
    (record.is_free() && unwanted).then(|| Because::ClassRetired {
        class: record.resource_class.clone(),
        generation: record.generation,
    })
}

/// Nobody asks for the size that its class had before.
fn resized(settings: &RefreshSettings, record: &InstanceRecord) -> Option<Because> {
    let named = |spec: &&ClassSpec| spec.name == record.resource_class;
    let spec = settings.classes.iter().find(named)?;
    let other = (spec.cpu, spec.mmem) != (record.cpu, record.mmem);
    (record.is_free() && other).then(|| Because::ClassResized {
        class: record.resource_class.clone(),
        generation: record.generation,
    })
}

fn outdated(observed: &Observed, record: &InstanceRecord) -> Option<Because> {
    let template = observed.template.as_ref()?.as_ref()?;
    let current = version_to_come(observed.content.as_ref()?, template);
    let old = current != Some(record.template_version);
    (record.is_free() && old).then_some(Because::OldTemplate {
        version: record.template_version,
        generation: record.generation,
    })
}

/// Machines that bear the pool's tag and that no live record knows.
fn strays(
    observed: &Observed,
    records: &[InstanceRecord],
    ending: &BTreeSet<InstanceId>,
    now: Time,
) -> Vec<Step> {
    let known: BTreeSet<&InstanceId> = records.iter().map(InstanceRecord::id).collect();
    let unknown = observed.machines.iter().flatten().filter(|machine| {
        machine.alive && !known.contains(&machine.id) && !ending.contains(&machine.id)
    });
    unknown
        .filter_map(|machine| {
            let stray = |because| Step::TerminateStray {
                id: machine.id.clone(),
                because,
            };
            match observed.unlisted.get(&machine.id) {
                None if now.since(machine.launched_at) > GRACE => Some(stray(Stray::NoRecord)),
                Some(record) if record.state == State::Terminated => Some(stray(Stray::Terminated)),
                // The index does not list it.
                Some(record) if record.threshold.is_none() => Some(Step::Terminate {
                    arn: record.arn.clone(),
                    because: Because::Endless {
                        generation: record.generation,
                    },
                }),
                // Too young to tell, or its record is live and the index lags behind.
                None | Some(_) => None,
            }
        })
        .collect()
}

/// A queue that holds fewer messages than its class has machines that have been idle for a while has
/// lost some. Which, it does not tell: all of those are listed again, and doubles do no harm.
fn lost_messages(
    settings: &RefreshSettings,
    observed: &Observed,
    records: &[InstanceRecord],
    ending: &BTreeSet<InstanceId>,
    now: Time,
) -> Vec<Step> {
    let mut listable: BTreeMap<&ClassName, Vec<&InstanceRecord>> = BTreeMap::new();
    for record in records {
        if is_listable(record) && !ending.contains(record.id()) {
            listable
                .entry(&record.resource_class)
                .or_default()
                .push(record);
        }
    }
    listable
        .into_iter()
        .filter(|(class, _)| is_wanted(settings, class))
        .filter_map(|(class, idle)| {
            let queue = observed.queues.get(class)?.as_ref();
            let depth = queue.map_or(0, |queue| queue.messages);
            let records: Vec<InstanceRecord> = idle
                .into_iter()
                .filter(|record| now.since(record.since) > UNLISTED)
                .cloned()
                .collect();
            let lost = depth < u64::try_from(records.len()).unwrap_or(u64::MAX);
            lost.then(|| Step::Resend {
                class: class.clone(),
                records,
            })
        })
        .collect()
}

/// A queue that holds more messages than its class has idle machines holds stale ones. A few are
/// left for provisions to delete: a sweep hides the good ones for a moment.
fn stale_messages(
    settings: &RefreshSettings,
    observed: &Observed,
    records: &[InstanceRecord],
    ending: &BTreeSet<InstanceId>,
) -> Vec<Step> {
    let wanted = settings.classes.iter().map(|spec| &spec.name);
    wanted
        .filter_map(|class| {
            let depth = observed.queues.get(class)?.as_ref()?.messages;
            let idle = records.iter().filter(|record| {
                record.resource_class == *class
                    && record.state == State::Idle
                    && !ending.contains(record.id())
            });
            let idle = u64::try_from(idle.count()).unwrap_or(u64::MAX);
            let surplus = depth.saturating_sub(idle);
            let worth_it = surplus >= WORTH_A_SWEEP || (surplus > 0 && idle == 0);
            worth_it.then(|| Step::Sweep {
                class: class.clone(),
                surplus,
            })
        })
        .collect()
}

/// Whether the machine is free and said so: one that is still cleaning up is not listed.
fn is_listable(record: &InstanceRecord) -> bool {
    record.state == State::Idle
        && record.unhealthy().is_none()
        && (record.says(Signal::RemoveRegOk) || record.says(Signal::Ok))
}
