//! Provision: exactly the machines that a run asked for, or none.
//!
//! A saga. [`select`] claims idle machines, [`launch`] makes what is missing, [`wait`] waits until
//! all of them are registered, then they are committed; [`undo`] takes everything back. Each step
//! with an effect outside the table stands in the [`Journal`] before it happens.
//!
//! ```text
//!   (settle what is earlier) ─▶ open ─▶ select ─▶ launch ─▶ wait ─▶ commit ─▶ committed
//!                                          ▲                  │
//!                                          └── one is lost ───┤
//!                                                             └─▶ roll back (expected failure: give back, terminate what is new)
//!   anything unexpected, a signal ──▶ terminate everything
//! ```

pub(crate) mod advice;
mod commit;
mod earlier;
mod error;
mod launch;
mod prepare;
mod select;
mod setup;
mod undo;
mod wait;

use std::{collections::BTreeSet, time::Duration};

use proto::{
    config::Config,
    ids::{InstanceId, Label},
    instance::UsageClass,
    time::Time,
};
use tokio_util::sync::CancellationToken;

pub use self::error::{Failure, ProvisionError};
use self::{error::Course, prepare::Prepared, setup::Setup};
use crate::{
    journal::Journal,
    output::{Console, chain},
    settings::run::ProvisionSettings,
    world::World,
};

/// A machine of the run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ready {
    /// Its id.
    pub id: InstanceId,
    /// Such as `m6i.large`.
    pub instance_type: String,
    /// Such as `us-east-1a`; empty when EC2 did not say.
    pub zone: String,
    /// On demand or spot.
    pub usage: UsageClass,
    /// Whether it came from the pool.
    pub reused: bool,
    /// From its claim or launch until it was seen registered; none if that was long ago, in an
    /// earlier run of the step.
    pub after: Option<Duration>,
}

/// What a provision got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Provisioned {
    /// What jobs put in `runs-on`.
    pub label: Label,
    /// The machines, reused ones first.
    pub machines: Vec<Ready>,
    /// From start to end.
    pub took: Duration,
    /// Where the time went, in the order in which it began.
    pub phases: Vec<(&'static str, Duration)>,
}

impl Provisioned {
    /// How many of its machines come from the pool.
    pub fn reused(&self) -> usize {
        self.machines.iter().filter(|ready| ready.reused).count()
    }

    /// How many of its machines are new.
    pub fn created(&self) -> usize {
        self.machines.len() - self.reused()
    }
}

/// A machine that the saga holds.
#[derive(Clone, Debug)]
struct Held {
    ready: Ready,
    /// When it was claimed or launched.
    since: Time,
    /// Until when it must be registered.
    deadline: Time,
    /// The generation in which it is held.
    generation: u64,
    /// Whether it was seen registered.
    registered: bool,
}

struct Saga<'a> {
    world: &'a World,
    console: &'a Console,
    settings: &'a ProvisionSettings,
    setup: Setup,
    journal: Journal<'a>,
    held: Vec<Held>,
    /// What is being looked for now: what was asked for, or what to fall back to.
    usage: UsageClass,
    /// Idle machines that will do, as far as a look at the start showed.
    hoped_for: Option<BTreeSet<InstanceId>>,
    /// Counts fleet requests, from 1: each has a client token of its own.
    requests: u32,
    /// A fleet request under way: it outlives a cancelled step, so that what it launches is known.
    launching: launch::InFlight,
    deadline: Time,
    phases: Vec<(&'static str, Duration)>,
}

/// Gets the machines that `settings` ask for. `client_token` must never have been used before.
///
/// # Errors
///
/// A [`Failure`]: everything was given back or terminated, apart from what it names.
// Where it waits for two things at once it looks at them in order, not by lot: a simulation
// replays what happened here.
pub async fn provision(
    world: &World,
    settings: &ProvisionSettings,
    config: Config,
    client_token: String,
    console: &Console,
    cancelled: &CancellationToken,
) -> Result<Provisioned, Failure> {
    let started = world.now();
    let setup = Setup::new(config, settings, started)?;
    let prepared = tokio::select! {
        biased;
        prepared = prepare::prepare(world, settings, &setup, console) => prepared?,
        () = cancelled.cancelled() => return Err(ProvisionError::Cancelled.into()),
    };
    let (revision, hoped_for) = match prepared {
        Prepared::Begin(revision, hoped_for) => (revision, hoped_for),
        Prepared::Done(provisioned) => return Ok(provisioned),
    };
    let record = prepare::first_record(world, settings, &setup, revision, &client_token);
    let opened = tokio::select! {
        biased;
        opened = Journal::open(world, record.clone()) => opened.map_err(ProvisionError::from),
        () = cancelled.cancelled() => Err(ProvisionError::Cancelled),
    };
    let journal = match opened {
        Ok(journal) => journal,
        Err(error) => {
            let left = undo::abandon(world, &record, &error).await.err();
            let left = left.map_or_else(Vec::new, |left| left.0);
            return Err(Failure { error, left });
        }
    };
    let mut saga = Saga {
        world,
        console,
        settings,
        deadline: started + setup.parameters.fleet_timeout(),
        setup,
        journal,
        held: Vec::new(),
        usage: settings.usage_class,
        hoped_for: Some(hoped_for),
        requests: 1,
        launching: launch::InFlight::default(),
        phases: Vec::new(),
    };
    saga.spent("prepare", started);
    let result = tokio::select! {
        biased;
        // Dropped in the middle of a call when the step is cancelled: the journal and the label
        // say what has to be taken back.
        result = saga.forward() => result,
        () = cancelled.cancelled() => Err(ProvisionError::Cancelled),
    };
    match result {
        Ok(()) => Ok(saga.done(started)),
        Err(error) => Err(saga.backward(error, cancelled).await),
    }
}

impl Saga<'_> {
    /// The steps, in order, until all machines serve.
    async fn forward(&mut self) -> Result<(), ProvisionError> {
        let wanted = self.settings.count as usize;
        while self.held.iter().any(|held| !held.registered) || self.held.len() < wanted {
            if self.held.len() < wanted {
                let began = self.world.now();
                self.select(wanted).await?;
                self.spent("pool", began);
            }
            if self.held.len() < wanted {
                let began = self.world.now();
                let launched = self.launch(wanted - self.held.len()).await;
                self.spent("launch", began);
                match launched {
                    Err(error) if error.course() == Course::Elsewhere && self.can_fall_back() => {
                        self.console
                            .say(format!("{error}; falling back to on-demand machines"));
                        self.usage = UsageClass::OnDemand;
                        continue;
                    }
                    launched => launched?,
                }
            }
            let began = self.world.now();
            self.wait().await?;
            self.spent("machines", began);
        }
        let began = self.world.now();
        self.commit().await?;
        self.spent("commit", began);
        Ok(())
    }

    fn can_fall_back(&self) -> bool {
        match self.usage {
            UsageClass::Spot => self.settings.fallback,
            UsageClass::OnDemand => false,
        }
    }

    fn spent(&mut self, phase: &'static str, began: Time) {
        let spent = self.world.now().since(began);
        match self.phases.iter_mut().find(|(name, _)| *name == phase) {
            Some((_, sum)) => *sum += spent,
            None => self.phases.push((phase, spent)),
        }
    }

    /// Takes everything back.
    async fn backward(&mut self, error: ProvisionError, cancelled: &CancellationToken) -> Failure {
        let (world, journal) = (self.world, &mut self.journal);
        let mut error = error;
        let in_order = match error.course() {
            Course::Elsewhere | Course::RollBack => !self.launching.is_lost(),
            Course::Terminate => false,
        };
        if in_order {
            let reused = self.held.iter().filter(|held| held.ready.reused);
            let claimed: Vec<_> = reused
                .map(|held| (held.ready.id.clone(), Some(held.generation)))
                .collect();
            self.console.say(format!(
                "failed: giving back {} reused, terminating {} new",
                claimed.len(),
                journal.record().launched.len()
            ));
            let orderly =
                undo::roll_back(world, journal, &self.setup, &claimed, &error, self.console);
            // A step that is cancelled meanwhile has no time left for order.
            let result = tokio::select! {
                result = orderly => Some(result),
                () = cancelled.cancelled() => None,
            };
            if let Some(result) = result {
                let left = result.err().map_or_else(Vec::new, |left| left.0);
                return Failure { error, left };
            }
            error = ProvisionError::CancelledFailing(Box::new(error));
        }
        self.console.say("ending every machine of this provision");
        let reason = chain(&error);
        let ended =
            undo::terminate_everything(world, &self.journal, &mut self.launching, &reason).await;
        let left = ended.err().map_or_else(Vec::new, |left| left.0);
        Failure { error, left }
    }

    fn done(self, started: Time) -> Provisioned {
        let mut machines: Vec<Ready> = self.held.into_iter().map(|held| held.ready).collect();
        machines.sort_by_key(|ready| !ready.reused);
        Provisioned {
            label: self.settings.label.clone(),
            machines,
            took: self.world.now().since(started),
            phases: self.phases,
        }
    }
}
