//! Provision: exactly the machines that a run asked for, or none.
//!
//! A saga. [`select`] claims idle machines, [`launch`] makes what is missing, [`wait`] waits until
//! all of them are registered, then they are committed; [`undo`] takes everything back. Each step
//! with an effect outside the table stands in the [`Journal`] before it happens.
//!
//! ```text
//!   open ─▶ select ─▶ launch ─▶ wait ─▶ commit ─▶ committed
//!              ▲                  │
//!              └── one is lost ───┤
//!                                 └─▶ roll back (expected failure: give back, terminate what is new)
//!   anything unexpected, a signal ──▶ terminate everything
//! ```

mod launch;
mod select;
mod undo;
mod wait;

use std::{collections::BTreeMap, time::Duration};

use futures::future::join_all;
use proto::{
    config::{Config, GithubTokens, LaunchTemplate, Parameters, ResourceClass},
    ids::{InstanceId, Label},
    provision::{Phase, ProvisionRecord},
    state::Transition,
    table::{Outcome, TableError},
    time::{Time, human},
};
use tokio_util::sync::CancellationToken;

use crate::{
    journal::{Journal, JournalError},
    output::Console,
    ports::PortError,
    release::GiveBackError,
    settings::{BadInput, run::ProvisionSettings},
    world::World,
};

/// Why a provision failed.
#[derive(Debug, thiserror::Error)]
pub enum ProvisionError {
    /// An input that the pool's configuration does not allow.
    #[error(transparent)]
    Input(#[from] BadInput),
    /// Refresh has not done its part.
    #[error("the pool is not ready: {0}; run `controller refresh` first")]
    NotSetUp(&'static str),
    /// The label has machines already, or another step is about to get them.
    #[error("label {label} is already {phase}: give this provision a `name` of its own")]
    Taken {
        /// The label.
        label: Label,
        /// Where that provision stands.
        phase: Phase,
    },
    /// EC2 gave fewer machines than were missing.
    #[error("EC2 launched {launched} of {wanted} machines: {causes}")]
    Short {
        /// How many it launched; they were terminated.
        launched: usize,
        /// How many were missing.
        wanted: usize,
        /// EC2's reasons, each once.
        causes: String,
    },
    /// A machine will not serve.
    #[error("machine {id} {what}")]
    Machine {
        /// Which.
        id: InstanceId,
        /// What is wrong with it.
        what: String,
    },
    /// GitHub cancelled the step.
    #[error("cancelled")]
    Cancelled,
    /// The journal could not be written.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The table could not be asked.
    #[error(transparent)]
    Table(#[from] TableError),
    /// AWS could not be asked.
    #[error(transparent)]
    Port(#[from] PortError),
    /// A roll-back met trouble.
    #[error(transparent)]
    GiveBack(#[from] GiveBackError),
}

impl ProvisionError {
    /// Whether this is scarcity or ill health, which ends in an orderly roll-back; everything else
    /// ends in termination.
    fn is_expected(&self) -> bool {
        match self {
            Self::Short { .. } | Self::Machine { .. } => true,
            Self::Input(_)
            | Self::NotSetUp(_)
            | Self::Taken { .. }
            | Self::Cancelled
            | Self::Journal(_)
            | Self::Table(_)
            | Self::Port(_)
            | Self::GiveBack(_) => false,
        }
    }
}

/// A provision that failed, with what could not be taken back.
#[derive(Debug)]
pub struct Failure {
    /// The first error.
    pub error: ProvisionError,
    /// What is left for refresh, in words; empty when nothing is.
    pub left: Vec<String>,
}

impl From<ProvisionError> for Failure {
    fn from(error: ProvisionError) -> Self {
        Self {
            error,
            left: Vec::new(),
        }
    }
}

/// A machine of the run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ready {
    /// Its id.
    pub id: InstanceId,
    /// Such as `m6i.large`.
    pub instance_type: String,
    /// Such as `us-east-1a`; empty when EC2 did not say.
    pub zone: String,
    /// Whether it came from the pool.
    pub reused: bool,
    /// From its claim or launch until it was seen registered.
    pub after: Duration,
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
    /// Where the time went.
    pub phases: BTreeMap<&'static str, Duration>,
}

/// What provision needs of the configuration, all there.
#[derive(Clone, Debug)]
struct Setup {
    class: ResourceClass,
    template: LaunchTemplate,
    parameters: Parameters,
    tokens: GithubTokens,
}

impl Setup {
    fn new(
        config: Config,
        settings: &ProvisionSettings,
        now: Time,
    ) -> Result<Self, ProvisionError> {
        let class = config
            .class(&settings.resource_class)
            .cloned()
            .ok_or_else(|| BadInput {
                input: "resource-class",
                wrong: format!("`{}` is unknown to pool", settings.resource_class),
                allowed: format!("allowed: {}", class_names(&config)),
            });
        if config.resource_classes.is_empty() {
            return Err(ProvisionError::NotSetUp("it has no resource classes"));
        }
        let tokens = config
            .github_tokens
            .ok_or(ProvisionError::NotSetUp("it has no registration token"))?;
        if tokens.expires_at <= now {
            return Err(ProvisionError::NotSetUp(
                "its registration token has expired",
            ));
        }
        Ok(Self {
            class: class?,
            template: config
                .launch_template
                .ok_or(ProvisionError::NotSetUp("it has no launch template"))?,
            parameters: config
                .parameters
                .ok_or(ProvisionError::NotSetUp("it has no parameters"))?,
            tokens,
        })
    }
}

fn class_names(config: &Config) -> String {
    let names: Vec<&str> = config
        .resource_classes
        .iter()
        .map(|class| class.name.as_str())
        .collect();
    names.join(", ")
}

/// A machine that the saga holds.
#[derive(Clone, Debug)]
struct Held {
    ready: Ready,
    /// When it was claimed or launched.
    since: Time,
    /// Until when it must be registered.
    deadline: Time,
    /// The generation in which it was seen ready.
    generation: Option<u64>,
}

struct Saga<'a> {
    world: &'a World,
    console: &'a Console,
    settings: &'a ProvisionSettings,
    setup: Setup,
    journal: Journal<'a>,
    held: Vec<Held>,
    /// A fleet request under way: it outlives a cancelled step, so that what it launches is known.
    launching: launch::InFlight,
    deadline: Time,
    phases: BTreeMap<&'static str, Duration>,
}

/// Gets the machines that `settings` ask for. `client_token` must never have been used before.
///
/// # Errors
///
/// A [`Failure`]: everything was given back or terminated, apart from what it names.
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
    let journal = open_journal(world, settings, &setup, client_token).await?;
    let mut saga = Saga {
        world,
        console,
        settings,
        deadline: started + setup.parameters.fleet_timeout(),
        setup,
        journal,
        held: Vec::new(),
        launching: launch::InFlight::default(),
        phases: BTreeMap::new(),
    };
    let result = tokio::select! {
        // Dropped in the middle of a call when the step is cancelled: the journal and the label
        // say what has to be taken back.
        result = saga.forward() => result,
        () = cancelled.cancelled() => Err(ProvisionError::Cancelled),
    };
    match result {
        Ok(()) => Ok(saga.done(started)),
        Err(error) => {
            let left = saga.backward(&error).await;
            Err(Failure { error, left })
        }
    }
}

async fn open_journal<'a>(
    world: &'a World,
    settings: &ProvisionSettings,
    setup: &Setup,
    client_token: String,
) -> Result<Journal<'a>, ProvisionError> {
    let now = world.now();
    let earlier = world
        .table
        .provisions_of(&settings.run)
        .await?
        .into_iter()
        .find(|record| record.label == settings.label);
    let revision = match &earlier {
        None => 1,
        Some(record) => match record.phase {
            Phase::Released | Phase::RolledBack => record.revision + 1,
            Phase::Open | Phase::Committed | Phase::RollingBack => {
                return Err(ProvisionError::Taken {
                    label: record.label.clone(),
                    phase: record.phase,
                });
            }
        },
    };
    let record = ProvisionRecord {
        run: settings.run.clone(),
        label: settings.label.clone(),
        revision,
        request: settings.request(&setup.parameters),
        phase: Phase::Open,
        client_token,
        claimed: Vec::new(),
        launched: Vec::new(),
        started_at: now,
        beat: now,
        error: None,
        expires_at: None,
    };
    Ok(Journal::open(world, record).await?)
}

impl Saga<'_> {
    /// The steps, in order, until all machines serve.
    async fn forward(&mut self) -> Result<(), ProvisionError> {
        let wanted = self.settings.count as usize;
        while self.held.iter().any(|held| held.generation.is_none()) || self.held.len() < wanted {
            if self.held.len() < wanted {
                let began = self.world.now();
                self.select(wanted).await?;
                self.spent("pool", began);
            }
            if self.held.len() < wanted {
                let began = self.world.now();
                self.launch(wanted - self.held.len()).await?;
                self.spent("launch", began);
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

    fn spent(&mut self, phase: &'static str, began: Time) {
        *self.phases.entry(phase).or_default() += self.world.now().since(began);
    }

    /// Every record to `running`, then the journal closed.
    async fn commit(&mut self) -> Result<(), ProvisionError> {
        let now = self.world.now();
        let max_runtime = Duration::from_secs(self.journal.record().request.max_runtime_sec);
        let commits = self.held.iter().map(async |held| {
            let transition = Transition::Commit {
                label: self.settings.label.clone(),
                generation: held.generation.unwrap_or_default(),
                healthy_within: self.setup.parameters.healthy_within(),
                max_runtime,
            };
            let arn = self.world.arn(&held.ready.id);
            match self
                .world
                .table
                .change_instance(&arn, &transition.change(now))
                .await?
            {
                Outcome::Applied(_) => Ok(()),
                Outcome::Conflict(Some(current)) if transition.is_done(&current) => Ok(()),
                Outcome::Conflict(_) => Err(ProvisionError::Machine {
                    id: held.ready.id.clone(),
                    what: "was taken away at the last moment".to_owned(),
                }),
            }
        });
        join_all(commits)
            .await
            .into_iter()
            .collect::<Result<(), _>>()?;
        self.journal
            .write(|record| record.phase = Phase::Committed)
            .await?;
        Ok(())
    }

    /// Takes everything back; what is left for refresh, in words.
    async fn backward(&mut self, error: &ProvisionError) -> Vec<String> {
        self.console.say(format!("taking back: {error}"));
        let result = if error.is_expected() {
            undo::roll_back(
                self.world,
                &mut self.journal,
                &self.setup,
                error,
                self.console,
            )
            .await
        } else {
            if let Some(answer) = self.launching.finish(undo::LAUNCH_GRACE).await {
                let ids = answer.launched.into_iter().map(|launched| launched.id);
                self.journal.note_launched(ids);
            }
            let record = self.journal.record().clone();
            undo::terminate_everything(self.world, &record, &error.to_string()).await
        };
        match result {
            Ok(()) => Vec::new(),
            Err(left) => left.0,
        }
    }

    fn done(self, started: Time) -> Provisioned {
        let took = self.world.now().since(started);
        let mut machines: Vec<Ready> = self.held.into_iter().map(|held| held.ready).collect();
        machines.sort_by_key(|ready| !ready.reused);
        let times: Vec<String> = self
            .phases
            .iter()
            .map(|(phase, time)| format!("{phase} {}", human(*time)))
            .collect();
        self.console
            .say(format!("ready in {} ({})", human(took), times.join(", ")));
        Provisioned {
            label: self.settings.label.clone(),
            machines,
            took,
            phases: self.phases,
        }
    }
}
