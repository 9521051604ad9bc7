//! Taking a provision back: in order when it merely failed, by force when anything else happened.

use std::time::Duration;

use futures::future::join_all;
use proto::{
    ids::InstanceId,
    provision::{Phase, ProvisionRecord},
    state::{RECORD_KEPT, Terminate, Transition},
    table::Outcome,
};
use tokio::time::timeout;

use super::{ProvisionError, Setup};
use crate::{journal::Journal, output::Console, release, world::World};

/// GitHub sends SIGTERM 7.5 s after SIGINT and SIGKILL 2.5 s later: all of an undo by force has
/// to fit.
const BY_FORCE: Duration = Duration::from_secs(4);
/// How long a fleet request under way may take to say what it launched.
pub(super) const LAUNCH_GRACE: Duration = Duration::from_secs(3);

/// What could not be taken back, in words. Refresh will.
#[derive(Debug)]
pub struct Left(pub Vec<String>);

/// The orderly way: claimed machines go the way of a release, new ones are terminated.
pub(super) async fn roll_back(
    world: &World,
    journal: &mut Journal<'_>,
    setup: &Setup,
    error: &ProvisionError,
    console: &Console,
) -> Result<(), Left> {
    let reason = error.to_string();
    let mut left = Vec::new();
    let text = reason.clone();
    if let Err(error) = journal
        .write(|record| {
            record.phase = Phase::RollingBack;
            record.error = Some(text);
        })
        .await
    {
        left.push(format!("the journal still says open: {error}"));
    }
    let record = journal.record().clone();
    left.extend(terminate(world, &record, &record.launched, &reason).await);
    let terms = release::Terms {
        label: &record.label,
        parameters: &setup.parameters,
        tokens: Some(&setup.tokens),
        template_version: Some(setup.template.version),
    };
    match release::give_back(world, &terms, &record.claimed, console).await {
        Ok(_) => {}
        Err(error) => left.push(error.to_string()),
    }
    if left.is_empty()
        && let Err(error) = journal.write(|record| record.phase = Phase::RolledBack).await
    {
        left.push(format!("the journal still says rolling back: {error}"));
    }
    if left.is_empty() { Ok(()) } else { Err(Left(left)) }
}

/// The way by force: every machine of the provision that still bears its label is terminated, and
/// the journal closed. Within a few seconds, whatever hangs; also for refresh, which finds the
/// journals of controllers that died.
pub async fn terminate_everything(
    world: &World,
    record: &ProvisionRecord,
    reason: &str,
) -> Result<(), Left> {
    let ids: Vec<InstanceId> = record.machines().cloned().collect();
    let left = timeout(BY_FORCE, terminate(world, record, &ids, reason))
        .await
        .unwrap_or_else(|_| vec![format!("AWS did not answer within {} s", BY_FORCE.as_secs())]);
    if !left.is_empty() {
        return Err(Left(left));
    }
    let now = world.now();
    let closed = ProvisionRecord {
        phase: Phase::RolledBack,
        error: Some(reason.to_owned()),
        expires_at: Some((now + RECORD_KEPT).as_secs()),
        ..record.next(now)
    };
    match timeout(BY_FORCE, world.table.put_provision(&closed)).await {
        Ok(Ok(Outcome::Applied(_))) => Ok(()),
        Ok(Ok(Outcome::Conflict(Some(current)))) if !current.phase.is_open() => Ok(()),
        Ok(Ok(Outcome::Conflict(_))) => Err(Left(vec!["somebody else writes its journal".into()])),
        Ok(Err(error)) => Err(Left(vec![format!("its journal could not be closed: {error}")])),
        Err(_) => Err(Left(vec!["its journal could not be closed in time".into()])),
    }
}

/// Locks those machines of the provision in the table that are still its own, then ends them at
/// EC2; what could not be done, in words.
async fn terminate(
    world: &World,
    record: &ProvisionRecord,
    ids: &[InstanceId],
    reason: &str,
) -> Vec<String> {
    let now = world.now();
    let transition = Transition::Terminate {
        reason: reason.chars().take(200).collect(),
        only: Terminate::Of(record.label.clone()),
    };
    let change = transition.change(now);
    let locks = ids.iter().map(async |id| {
        let outcome = world.table.change_instance(&world.arn(id), &change).await;
        (id.clone(), outcome)
    });
    let (mut ended, mut left) = (Vec::new(), Vec::new());
    for (id, outcome) in join_all(locks).await {
        match outcome {
            Ok(Outcome::Applied(_)) => ended.push(id),
            Ok(Outcome::Conflict(Some(current))) if transition.is_done(&current) => ended.push(id),
            // Launched a moment ago: it has no record, and nobody else knows of it.
            Ok(Outcome::Conflict(None)) => ended.push(id),
            // A candidate that was never ours, or that somebody else has by now.
            Ok(Outcome::Conflict(Some(_))) => {}
            Err(error) => left.push(format!("{id}: {error}")),
        }
    }
    if ended.is_empty() {
        return left;
    }
    match world.fleet.terminate(&ended).await {
        Ok(refused) => left.extend(refused.into_iter().map(|(id, error)| format!("{id}: {error}"))),
        Err(error) => left.push(error.to_string()),
    }
    left
}
