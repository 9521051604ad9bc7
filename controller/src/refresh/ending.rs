//! Ends machines, in two phases: each record is locked as `terminated` under its condition, then
//! all machines whose record is locked are terminated in one batch. A condition that fails means
//! that the machine has moved on since it was looked at: it is left alone.
//!
//! A run that dies between the phases leaves machines whose record says `terminated`: the next
//! refresh finds them at EC2 and ends them.

use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt, stream};
use proto::{
    ids::{Home, InstanceArn, InstanceId},
    instance::InstanceRecord,
    provision::{Phase, ProvisionRecord},
    state::{RECORD_KEPT, Terminate, Transition},
    table::{Outcome, TableError},
};

use super::{Failed, RefreshPorts, StepError, step::Step};

/// So many records are locked at a time.
const AT_A_TIME: usize = 16;

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
    let locks: Vec<(&Step, Result<Locked, StepError>)> = stream::iter(steps.iter().copied())
        .map(|step| async move { (step, lock(ports, home, step).await) })
        .buffered(AT_A_TIME)
        .collect()
        .await;
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
        match ports.fleet.terminate(&ids).await {
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

async fn lock(ports: &RefreshPorts, home: &Home, step: &Step) -> Result<Locked, StepError> {
    Ok(match step {
        Step::Terminate { arn, because } => {
            match lock_record(ports, arn, because.to_string(), because.lock()).await? {
                Lock::Ours => Locked::machines(vec![arn.id().clone()]),
                Lock::MovedOn(now) => Locked::nothing(moved_on(arn.id(), now.as_deref())),
            }
        }
        Step::Close { arn, .. } => {
            let reason = "EC2 has it no more".to_owned();
            match lock_record(ports, arn, reason, Terminate::Gone).await? {
                Lock::Ours => Locked::machines(Vec::new()),
                Lock::MovedOn(now) => Locked::nothing(moved_on(arn.id(), now.as_deref())),
            }
        }
        Step::TerminateStray { id, .. } => Locked::machines(vec![id.clone()]),
        Step::Undo { record, machines } => undo(ports, home, record, machines).await?,
        Step::Table(_)
        | Step::PutSchema { .. }
        | Step::PutTemplate { .. }
        | Step::RecordTemplate { .. }
        | Step::PruneTemplate { .. }
        | Step::PutClass { .. }
        | Step::RetireClass(_)
        | Step::PutParameters { .. }
        | Step::RenewTokens { .. }
        | Step::Resend { .. }
        | Step::Sweep { .. } => Locked::machines(Vec::new()),
    })
}

/// What came of locking a record.
enum Lock {
    /// The record says `terminated`: by this write, by one whose answer was lost, or by somebody
    /// else's, who wants the same.
    Ours,
    /// The condition does not hold any more; the record as it is.
    MovedOn(Option<Box<InstanceRecord>>),
}

async fn lock_record(
    ports: &RefreshPorts,
    arn: &InstanceArn,
    reason: String,
    only: Terminate,
) -> Result<Lock, TableError> {
    let end = Transition::Terminate { reason, only };
    let change = end.change(ports.clock.now());
    Ok(match ports.table.change_instance(arn, &change).await? {
        Outcome::Applied(_) => Lock::Ours,
        Outcome::Conflict(Some(record)) if end.is_done(&record) => Lock::Ours,
        Outcome::Conflict(record) => Lock::MovedOn(record.map(Box::new)),
    })
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
    let mut ids = Vec::new();
    for id in machines {
        let reason = format!("the controller of provision {} died", record.label);
        let arn = InstanceArn::new(home, id);
        let only = Terminate::Of(record.label.clone());
        match lock_record(ports, &arn, reason, only).await? {
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
