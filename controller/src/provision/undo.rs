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
pub(super) struct Left(pub(super) Vec<String>);

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
        && let Err(error) = journal
            .write(|record| record.phase = Phase::RolledBack)
            .await
    {
        left.push(format!("the journal still says rolling back: {error}"));
    }
    if left.is_empty() {
        Ok(())
    } else {
        Err(Left(left))
    }
}

/// The way by force: every machine of the provision that still bears its label is terminated, and
/// the journal closed. Within a few seconds, whatever hangs.
pub(super) async fn terminate_everything(
    world: &World,
    record: &ProvisionRecord,
    reason: &str,
) -> Result<(), Left> {
    let by_force = async {
        let mut record = record.clone();
        // A write that was under way when the step was cancelled may have been applied: then the
        // journal is ahead of what we know, and may name machines that we do not.
        while let Some(ahead) = end(world, &record, reason).await? {
            let known: Vec<InstanceId> = record.launched;
            record = ahead;
            record.launched.extend(known);
        }
        Ok(())
    };
    timeout(BY_FORCE, by_force).await.unwrap_or_else(|_| {
        Err(Left(vec![format!(
            "AWS did not answer within {} s",
            BY_FORCE.as_secs()
        )]))
    })
}

/// Terminates what a record names, then closes it; the record as it is, if it is ahead.
async fn end(
    world: &World,
    record: &ProvisionRecord,
    reason: &str,
) -> Result<Option<ProvisionRecord>, Left> {
    let ids: Vec<InstanceId> = record.machines().cloned().collect();
    let left = terminate(world, record, &ids, reason).await;
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
    match world.table.put_provision(&closed).await {
        Ok(Outcome::Applied(_)) => Ok(None),
        Ok(Outcome::Conflict(Some(current))) if !current.phase.is_open() => Ok(None),
        Ok(Outcome::Conflict(Some(current))) if current.started_at == record.started_at => {
            Ok(Some(current))
        }
        Ok(Outcome::Conflict(_)) => Err(Left(vec!["its journal is another provision's".into()])),
        Err(error) => Err(Left(vec![format!(
            "its journal could not be closed: {error}"
        )])),
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
            // Without a record it was launched a moment ago, and nobody else knows of it.
            Ok(Outcome::Applied(_) | Outcome::Conflict(None)) => ended.push(id),
            Ok(Outcome::Conflict(Some(current))) if transition.is_done(&current) => ended.push(id),
            // A candidate that was never ours, or that somebody else has by now.
            Ok(Outcome::Conflict(Some(_))) => {}
            Err(error) => left.push(format!("{id}: {error}")),
        }
    }
    if ended.is_empty() {
        return left;
    }
    match world.fleet.terminate(&ended).await {
        Ok(refused) => left.extend(
            refused
                .into_iter()
                .map(|(id, error)| format!("{id}: {error}")),
        ),
        Err(error) => left.push(error.to_string()),
    }
    left
}
