//! The plan's second half: which machines have to end, and which lack something.
//!
//! A machine ends for one reason alone; the first that applies counts: its provision is undone,
//! EC2 has it no more, its time is over, its class is gone, its template is old.

use std::{collections::BTreeSet, time::Duration};

use proto::{
    ids::InstanceId,
    instance::InstanceRecord,
    provision::ProvisionRecord,
    signal::{Report, Signal},
    state::State,
    time::Time,
};

use super::{Observed, forge, is_wanted, queues, version_to_come};
use crate::{
    ports::Machine,
    refresh::{
        ClassSpec, RefreshSettings,
        step::{Because, Step, Stray, TokenTo},
    },
};

/// How long a machine may be without a record, or a record without its machine. A provision
/// writes records at once, and `DescribeInstances` may lag behind a launch.
const GRACE: Duration = Duration::from_mins(5);
/// How long a release has to hand the token over itself: it looks once a second.
const TOKEN_GRACE: Duration = Duration::from_secs(15);

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
    steps.extend(deregistrations(records, &ending, now));
    if observed.records.is_some() && observed.machines.is_some() {
        let raised = super::floor::plan(settings, observed, records, &mut ending, now);
        steps.extend(raised);
    }
    steps.extend(queues::lost_messages(
        settings, observed, records, &ending, now,
    ));
    if observed.records.is_some() {
        steps.extend(queues::stale_messages(settings, observed, records, &ending));
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

/// A release hands machines that had a job the removal token once the job is over. One that died
/// before left machines that cannot deregister, and would hold them until their idle time ends.
fn deregistrations(
    records: &[InstanceRecord],
    ending: &BTreeSet<InstanceId>,
    now: Time,
) -> Option<Step> {
    let machines: Vec<_> = records
        .iter()
        .filter(|record| lacks_removal(record) && now.since(record.since) > TOKEN_GRACE)
        .filter(|record| !ending.contains(record.id()))
        .map(|record| (record.arn.clone(), record.generation))
        .collect();
    let to = TokenTo::Deregister;
    (!machines.is_empty()).then_some(Step::HandToken { to, machines })
}

/// Whether its runner is registered for a run that has let go of it, and nothing keeps it so but
/// the token that it waits for.
fn lacks_removal(record: &InstanceRecord) -> bool {
    let registered =
        |report: &Report| report.signal == Signal::RegOk && report.generation < record.generation;
    record.is_free() && record.token.is_none() && record.report.as_ref().is_some_and(registered)
}
