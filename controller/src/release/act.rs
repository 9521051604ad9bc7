//! The single steps of a release: each a write to the table, or a call that follows one.

use std::time::Duration;

use futures::future::join_all;
use proto::{
    change::Change,
    ids::InstanceId,
    instance::{InstanceRecord, Secret},
    message::PoolMessage,
    state::{State, Terminate, Transition},
    table::{Outcome, TableError, TableErrorKind},
};

use super::{GiveBackError, GivenBack, Terms, look::fate};
use crate::{
    output::{Console, chain},
    ports::Unknown,
    world::World,
};

/// What freeing one machine came to; with the generation that it is in now.
pub(super) enum Freed {
    /// Idle, in this generation; its agent deregisters it.
    Idle(u64),
    /// Its time is over: to be terminated, and why.
    Ended(u64, String),
    /// Gone, or another run's by now; in words.
    NotOurs(String),
}

/// How much longer than its release waits for it a machine with a job may stay: the release ends
/// it, if its job does not end in time, not its threshold.
const BUSY_GRACE: Duration = Duration::from_mins(2);

/// Takes a machine from its run. It gets the removal token with it, unless a job runs.
pub(super) async fn free(
    world: &World,
    terms: &Terms<'_>,
    id: &InstanceId,
    generation: Option<u64>,
) -> Result<Freed, TableError> {
    let (arn, now) = (world.arn(id), world.now());
    let stay = terms.parameters.stay();
    let step = |token: Option<Secret>, idle_time: Duration| Transition::Release {
        label: terms.label.clone(),
        generation,
        token,
        idle_time,
    };
    let with_token = step(terms.removal_token(), stay);
    let change = with_token.change(now);
    let mut outcome = world.table.change_instance(&arn, &change).await?;
    if let Outcome::Conflict(Some(current)) = &outcome
        && current.job.is_some()
        && !with_token.is_done(current)
    {
        let change = step(None, stay.max(terms.timeout + BUSY_GRACE)).change(now);
        outcome = world.table.change_instance(&arn, &change).await?;
    }
    Ok(match outcome {
        Outcome::Applied(record) => Freed::Idle(record.generation),
        // Released before, by us or by another job of the run: go on where that ended.
        Outcome::Conflict(Some(current)) if with_token.is_done(&current) => {
            Freed::Idle(current.generation)
        }
        Outcome::Conflict(Some(current))
            if current.label.as_ref() == Some(terms.label)
                && generation.is_none_or(|generation| current.generation == generation)
                && current.state != State::Terminated =>
        {
            Freed::Ended(current.generation, "its time was over".to_owned())
        }
        Outcome::Conflict(current) => Freed::NotOurs(fate(current.as_ref())),
    })
}

/// Hands the removal token to machines whose job has ended, in these generations. One that took
/// another job meanwhile does not get it; a table out of reach is asked again at the next look.
pub(super) async fn hand_tokens(
    world: &World,
    terms: &Terms<'_>,
    machines: Vec<(InstanceId, u64)>,
) -> Result<(), TableError> {
    let Some(token) = terms.removal_token() else {
        return Ok(());
    };
    let writes = machines.into_iter().map(async |(id, generation)| {
        let hand = Change::hand_token(generation, token.clone());
        world.table.change_instance(&world.arn(&id), &hand).await
    });
    for written in join_all(writes).await {
        match written {
            Ok(Outcome::Applied(_) | Outcome::Conflict(_)) => {}
            Err(error) if error.kind == TableErrorKind::Unavailable => {
                tracing::warn!("{}; trying again", chain(&error));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Lists clean machines, a queue at a time.
pub(super) async fn pool(
    world: &World,
    terms: &Terms<'_>,
    clean: &[InstanceRecord],
    given: &mut GivenBack,
    console: &Console,
) -> Result<(), GiveBackError> {
    if clean.is_empty() {
        return Ok(());
    }
    let now = world.now();
    for class in terms.classes {
        let listed: Vec<&InstanceRecord> = clean
            .iter()
            .filter(|record| record.resource_class == class.name)
            .collect();
        if listed.is_empty() {
            continue;
        }
        let messages: Vec<PoolMessage> = listed
            .iter()
            .map(|record| PoolMessage::of(record, now))
            .collect();
        world.pool.send(&class.queue_url, &messages).await?;
        for record in listed {
            console.say(format!("{} is back in the pool", record.id()));
            given.pooled.push(record.id().clone());
        }
    }
    let usual = now + terms.parameters.stay();
    for record in clean {
        // It was allowed to stay for its job.
        if record.threshold > Some(usual) {
            let change = Change::stay_idle(record.generation, now, usual);
            world.table.change_instance(&record.arn, &change).await?;
        }
    }
    Ok(())
}

/// Terminates machines that must not be pooled, if they are still in the generation looked at.
pub(super) async fn end(
    world: &World,
    unfit: Vec<(InstanceId, u64, String)>,
    given: &mut GivenBack,
    console: &Console,
) -> Result<(), GiveBackError> {
    let now = world.now();
    let mut ended = Vec::new();
    for (id, generation, why) in unfit {
        let transition = Transition::Terminate {
            reason: why.chars().take(200).collect(),
            only: Terminate::Generation(generation),
        };
        match world
            .table
            .change_instance(&world.arn(&id), &transition.change(now))
            .await?
        {
            Outcome::Applied(_) => {
                console.say(format!("{id} is terminated: {why}"));
                ended.push(id.clone());
                given.terminated.push((id, why));
            }
            Outcome::Conflict(_) => given.gone.push(id),
        }
    }
    if !ended.is_empty() {
        for (id, error) in world.fleet.terminate(&ended, Unknown::Gone).await? {
            // Its record says terminated: its agent, or else refresh, ends it.
            tracing::warn!("{id} could not be terminated: {}", chain(&error));
        }
    }
    Ok(())
}
