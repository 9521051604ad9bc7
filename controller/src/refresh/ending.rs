//! Ends machines, in two phases: each record is locked as `terminated` under its condition, then
//! all machines whose record is locked are terminated in one batch. A condition that fails means
//! that the machine has moved on since it was looked at: it is left alone.
//!
//! A run that dies between the phases leaves machines whose record says `terminated`: the next
//! refresh finds them at EC2 and ends them.

use std::collections::{BTreeMap, BTreeSet};

use proto::{
    ids::{Home, InstanceArn, InstanceId},
    instance::InstanceRecord,
    provision::{Phase, ProvisionRecord},
    state::{RECORD_KEPT, Terminate, Transition},
    table::{Outcome, TableError},
};

use super::{Failed, RefreshPorts, StepError, step::Step};
use crate::ports::Unknown;

/// A step whose records are locked.
struct Locked {
    /// The machines that are ours to terminate.
    ids: Vec<InstanceId>,
    /// What was left alone, and why.
    left_alone: Option<String>,
    /// The journal to close once they are terminated.
    journal: Option<ProvisionRecord>,
}

impl Locked {
    fn machines(ids: Vec<InstanceId>) -> Self {
        Self {
            ids,
            left_alone: None,
            journal: None,
        }
    }

    fn nothing(why: String) -> Self {
        Self {
            ids: Vec::new(),
            left_alone: Some(why),
            journal: None,
        }
    }
}

/// A machine that could not be terminated.
#[derive(Debug, thiserror::Error)]
#[error("machine {id} is still there: run refresh again")]
struct StillThere {
    id: InstanceId,
    source: StepError,
}

/// Does all steps that end machines; what failed, with its cause.
pub(super) async fn end(
    ports: &RefreshPorts,
    home: &Home,
    steps: &[&Step],
    out: &mut (dyn FnMut(&str) + Send),
) -> Vec<(Failed, StepError)> {
    let mut failed = Vec::new();
    let mut note = |step: &Step, error: StepError| {
        failed.push((Failed::Step(Box::new(step.clone())), error));
    };
    let mut locks = lock_records(ports, steps).await;
    for step in steps.iter().copied() {
        if let Step::TerminateStray { id, .. } = step {
            locks.push((step, Ok(Locked::machines(vec![id.clone()]))));
        } else if let Step::Undo { record, machines } = step {
            locks.push((step, undo(ports, home, record, machines).await));
        }
    }
    let mut locked = Vec::new();
    for (step, result) in locks {
        match result {
            Ok(done) => {
                if let Some(why) = &done.left_alone {
                    out(&format!("  left alone: {why}"));
                }
                locked.push((step, done));
            }
            Err(error) => note(step, error),
        }
    }

    let ids: BTreeSet<InstanceId> = locked
        .iter()
        .flat_map(|(_, done)| done.ids.iter().cloned())
        .collect();
    let ids: Vec<InstanceId> = ids.into_iter().collect();
    let mut left: BTreeMap<InstanceId, StepError> = BTreeMap::new();
    if !ids.is_empty() {
        match ports.fleet.terminate(&ids, Unknown::Gone).await {
            Ok(refused) => left.extend(refused.into_iter().map(|(id, error)| (id, error.into()))),
            Err(error) => {
                // One failure for many machines: each gets its words.
                let words = format!("{error}: {}", error.source);
                left.extend(ids.into_iter().map(|id| (id, words.clone().into())));
            }
        }
    }
    for (step, done) in locked {
        let mut still_there = None;
        for id in &done.ids {
            if let Some(source) = left.remove(id) {
                still_there = Some(StillThere {
                    id: id.clone(),
                    source,
                });
            }
        }
        if let Some(error) = still_there {
            note(step, error.into());
        } else if let Some(journal) = done.journal
            && let Err(error) = close_journal(ports, &journal).await
        {
            note(step, error.into());
        }
    }
    failed
}

/// Locks the records of all steps that are about one record each.
async fn lock_records<'a>(
    ports: &RefreshPorts,
    steps: &[&'a Step],
) -> Vec<(&'a Step, Result<Locked, StepError>)> {
    let mut about = Vec::new();
    for step in steps.iter().copied() {
        if let Step::Terminate { arn, because } = step {
            let reason = because.to_string();
            let only = because.lock();
            about.push((step, arn.clone(), Transition::Terminate { reason, only }));
        } else if let Step::Close {
            arn, generation, ..
        } = step
        {
            let reason = "EC2 has it no more".to_owned();
            let only = Terminate::Generation(*generation);
            about.push((step, arn.clone(), Transition::Terminate { reason, only }));
        }
    }
    let ends: Vec<_> = about
        .iter()
        .map(|(_, arn, end)| (arn.clone(), end.clone()))
        .collect();
    let locks = lock_all(ports, &ends).await;
    let locked = about.into_iter().zip(locks).map(|((step, arn, _), lock)| {
        let locked = lock.map(|lock| match lock {
            Lock::Ours if matches!(step, Step::Close { .. }) => Locked::machines(Vec::new()),
            Lock::Ours => Locked::machines(vec![arn.id().clone()]),
            Lock::MovedOn(now) => Locked::nothing(moved_on(arn.id(), now.as_deref())),
        });
        (step, locked.map_err(Into::into))
    });
    locked.collect()
}

/// What came of locking a record.
enum Lock {
    /// The record says `terminated`: by this write, by one whose answer was lost, or by somebody
    /// else's, who wants the same.
    Ours,
    /// The condition does not hold any more; the record as it is.
    MovedOn(Option<Box<InstanceRecord>>),
}

/// Locks records, each for its own reason and under its own condition.
async fn lock_all(
    ports: &RefreshPorts,
    ends: &[(InstanceArn, Transition)],
) -> Vec<Result<Lock, TableError>> {
    let now = ports.clock.now();
    let changes: Vec<_> = ends
        .iter()
        .map(|(arn, end)| (arn.clone(), end.change(now)))
        .collect();
    let outcomes = ports.table.change_instances(&changes).await;
    let locks = ends.iter().zip(outcomes).map(|((_, end), outcome)| {
        outcome.map(|outcome| match outcome {
            Outcome::Applied(()) => Lock::Ours,
            Outcome::Conflict(Some(record)) if end.is_done(&record) => Lock::Ours,
            Outcome::Conflict(record) => Lock::MovedOn(record.map(Box::new)),
        })
    });
    locks.collect()
}

fn moved_on(id: &InstanceId, now: Option<&InstanceRecord>) -> String {
    match now {
        Some(record) => format!("{id} is {} by now", record.state),
        None => format!("{id} has no record by now"),
    }
}

/// Takes a dead controller's journal over, then locks its machines. A controller that was only
/// slow loses its journal here and can write nothing more.
async fn undo(
    ports: &RefreshPorts,
    home: &Home,
    record: &ProvisionRecord,
    machines: &[InstanceId],
) -> Result<Locked, StepError> {
    let mut journal = record.next(ports.clock.now());
    journal.phase = Phase::RollingBack;
    if let Outcome::Conflict(_) = ports.table.put_provision(&journal).await? {
        let why = format!("somebody is at work on provision {}", record.label);
        return Ok(Locked::nothing(why));
    }
    let ends: Vec<_> = machines
        .iter()
        .map(|id| {
            let reason = format!("the controller of provision {} died", record.label);
            let only = Terminate::Of(record.label.clone());
            let end = Transition::Terminate { reason, only };
            (InstanceArn::new(home, id), end)
        })
        .collect();
    let mut ids = Vec::new();
    for (id, lock) in machines.iter().zip(lock_all(ports, &ends).await) {
        match lock? {
            Lock::Ours => ids.push(id.clone()),
            // Launched, but its record was never written. A machine that was only about to be
            // claimed always has one.
            Lock::MovedOn(None) if !record.claimed.contains(id) => ids.push(id.clone()),
            // It was given back already, or never was this provision's.
            Lock::MovedOn(_) => {}
        }
    }
    Ok(Locked {
        ids,
        left_alone: None,
        journal: Some(journal),
    })
}

/// Nothing of the provision is left: says so in its journal.
async fn close_journal(ports: &RefreshPorts, journal: &ProvisionRecord) -> Result<(), TableError> {
    let now = ports.clock.now();
    let mut closed = journal.next(now);
    closed.phase = Phase::RolledBack;
    closed.expires_at = Some((now + RECORD_KEPT).as_secs());
    if closed.error.is_none() {
        closed.error = Some("its controller died; refresh finished the roll-back".to_owned());
    }
    ports.table.put_provision(&closed).await.map(drop)
}
