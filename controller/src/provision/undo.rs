//! Taking a provision back: in order when it merely failed, by force when anything else happened.

mod dead;

use std::time::Duration;

use futures::future::join_all;
use proto::{
    ids::InstanceId,
    provision::{Phase, ProvisionRecord},
    state::{RECORD_KEPT, Terminate, Transition},
    table::Outcome,
};
use tokio::time::timeout;

pub(super) use self::dead::{late_claims, take_over};
use super::{
    ProvisionError, Setup,
    launch::{Fate, InFlight},
};
use crate::{
    journal::Journal,
    output::{Console, chain},
    ports::Unknown,
    release,
    world::World,
};

/// GitHub sends SIGTERM 7.5 s after SIGINT and SIGKILL 2.5 s later: all of an undo by force has
/// to fit, and the process's end too.
const BY_FORCE: Duration = Duration::from_secs(6);
/// How long a fleet request under way may take to say what it launched; the rest is for ending it.
const LAUNCH_GRACE: Duration = Duration::from_millis(2500);

/// A provision that was at work so short a time ago may have machines that EC2 does not know yet;
/// EC2 promises nothing, but is far quicker.
const YOUNG: Duration = Duration::from_mins(5);

/// What could not be taken back, in words. Refresh will.
#[derive(Debug)]
pub(super) struct Left(pub(super) Vec<String>);

/// The orderly way: claimed machines go the way of a release, new ones are terminated.
pub(super) async fn roll_back(
    world: &World,
    journal: &mut Journal<'_>,
    setup: &Setup,
    claimed: &[(InstanceId, Option<u64>)],
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
        left.push(format!("the journal still says open: {}", chain(&error)));
    }
    let record = journal.record().clone();
    left.extend(terminate(world, &record, &record.launched, &reason).await);
    let terms = release::Terms {
        label: &record.label,
        parameters: &setup.parameters,
        tokens: Some(&setup.tokens),
        template_version: Some(setup.template.version),
        timeout: setup.parameters.release_timeout(),
        classes: &setup.classes,
    };
    let giving = release::give_back(world, &terms, claimed, console);
    match journal.during(giving).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => left.push(chain(&error)),
        Err(error) => left.push(chain(&error)),
    }
    if left.is_empty()
        && let Err(error) = journal
            .write(|record| record.phase = Phase::RolledBack)
            .await
    {
        left.push(format!(
            "the journal still says rolling back: {}",
            chain(&error)
        ));
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
    journal: &Journal<'_>,
    launching: &mut InFlight,
    reason: &str,
) -> Result<(), Left> {
    let by_force = async {
        let mut record = journal.record().clone();
        let fate = launching.finish(LAUNCH_GRACE).await;
        let closed_as = match fate {
            Fate::Nothing => Phase::RolledBack,
            Fate::Launched(launched) => {
                record
                    .launched
                    .extend(launched.into_iter().map(|launched| launched.id));
                Phase::RolledBack
            }
            // Stays open: refresh takes it over, by when EC2 shows what bears the token.
            Fate::Unknown => Phase::RollingBack,
        };
        // A write that was under way when the step was cancelled may have been applied: then the
        // journal is ahead of what we know, and may name machines that we do not.
        while let Some(ahead) = end(world, &record, closed_as, reason).await? {
            let known: Vec<InstanceId> = record.launched;
            record = ahead;
            record.launched.extend(known);
        }
        match closed_as {
            Phase::RollingBack => Err(Left(vec![format!(
                "EC2 never answered fleet request {}: whatever it launched",
                record.client_token
            )])),
            Phase::Open | Phase::Committed | Phase::RolledBack | Phase::Released => Ok(()),
        }
    };
    timeout(BY_FORCE, by_force).await.unwrap_or_else(|_| {
        Err(Left(vec![format!(
            "whatever the provision has: AWS did not answer within {} s",
            BY_FORCE.as_secs()
        )]))
    })
}

/// Closes a journal whose first write failed or was given up, if it was applied all the same.
/// Nothing else has happened yet.
pub(super) async fn abandon(
    world: &World,
    record: &ProvisionRecord,
    error: &ProvisionError,
) -> Result<(), Left> {
    let close = async {
        let found = world.table.provisions_of(&record.run).await;
        let records =
            found.map_err(|error| Left(vec![format!("its journal: {}", chain(&error))]))?;
        let ours = records
            .into_iter()
            .find(|found| found.client_token == record.client_token && found.phase.is_open());
        match ours {
            None => Ok(()),
            Some(ours) => end(world, &ours, Phase::RolledBack, &error.to_string())
                .await
                .map(drop),
        }
    };
    timeout(BY_FORCE, close)
        .await
        .unwrap_or_else(|_| Err(Left(vec!["its journal: AWS did not answer in time".into()])))
}

/// Terminates what a record names, then closes it; the record as it is, if it is ahead.
async fn end(
    world: &World,
    record: &ProvisionRecord,
    closed_as: Phase,
    reason: &str,
) -> Result<Option<ProvisionRecord>, Left> {
    let ids: Vec<InstanceId> = record.machines().cloned().collect();
    let left = terminate(world, record, &ids, reason).await;
    if !left.is_empty() {
        return Err(Left(left));
    }
    let now = world.now();
    let closed = ProvisionRecord {
        phase: closed_as,
        error: Some(reason.to_owned()),
        expires_at: (!closed_as.is_open()).then(|| (now + RECORD_KEPT).as_secs()),
        ..record.next(now)
    };
    match world.table.put_provision(&closed).await {
        Ok(Outcome::Applied(_)) => Ok(None),
        Ok(Outcome::Conflict(Some(current)))
            if matches!(current.phase, Phase::Released | Phase::RolledBack) =>
        {
            Ok(None)
        }
        // Also when it was just committed: a release would look for machines that have ended.
        Ok(Outcome::Conflict(Some(current))) if current.started_at == record.started_at => {
            Ok(Some(current))
        }
        Ok(Outcome::Conflict(_)) => Err(Left(vec!["its journal is another provision's".into()])),
        Err(error) => Err(Left(vec![format!(
            "its journal could not be closed: {}",
            chain(&error)
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
            Err(error) => left.push(format!("{id}: {}", chain(&error))),
        }
    }
    if ended.is_empty() {
        return left;
    }
    let unknown = if now.since(record.beat) < YOUNG {
        Unknown::NotYet
    } else {
        Unknown::Gone
    };
    match world.fleet.terminate(&ended, unknown).await {
        Ok(refused) => left.extend(
            refused
                .into_iter()
                .map(|(id, error)| format!("{id}: {}", chain(&error))),
        ),
        Err(error) => {
            let ids: Vec<&str> = ended.iter().map(InstanceId::as_str).collect();
            left.push(format!("{}: {}", ids.join(", "), chain(&error)));
        }
    }
    left
}
