//! Release: a run gives its machines back; also the way back of a provision that failed.
//!
//! `running → idle` in the table, then each machine's agent deregisters its runner and cleans up;
//! only then does the queue list it. It may be repeated at any point, and by two jobs at once.
//!
//! GitHub's removal token reaches a machine only while its record shows no job, which could read it
//! with the machine's role. What remains: a job that begins between the agent's last word and the
//! write may see the token until the agent takes it out again, at its next call.

mod act;
mod look;

use std::{collections::BTreeMap, time::Duration};

use futures::future::join_all;
use proto::{
    config::{Config, GithubTokens, Parameters, ResourceClass},
    ids::{InstanceId, Label},
    instance::Secret,
    provision::{Phase, ProvisionRecord},
    table::TableError,
};

pub use self::look::{Verdict, judge};
use self::{
    act::{Freed, end, free, hand_tokens, pool},
    look::worn_out,
};
use crate::{
    backoff::Looks,
    journal::{Journal, JournalError},
    output::{Console, chain},
    ports::PortError,
    settings::run::ReleaseSettings,
    world::World,
};

/// Machines could not be given back.
#[derive(Debug, thiserror::Error)]
pub enum GiveBackError {
    /// The table could not be asked.
    #[error(transparent)]
    Table(#[from] TableError),
    /// AWS could not be asked.
    #[error(transparent)]
    Port(#[from] PortError),
    /// The journal could not be written.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// Refresh has not done its part.
    #[error("the pool is not ready: it has no parameters; run `controller refresh` first")]
    NotSetUp,
}

/// What became of the machines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GivenBack {
    /// Warm, clean and listed.
    pub pooled: Vec<InstanceId>,
    /// Terminated, and why.
    pub terminated: Vec<(InstanceId, String)>,
    /// Not ours any more: gone, or another run's.
    pub gone: Vec<InstanceId>,
}

impl GivenBack {
    /// Whether there was no machine at all.
    pub fn is_empty(&self) -> bool {
        self.pooled.is_empty() && self.terminated.is_empty() && self.gone.is_empty()
    }
}

/// On what terms machines are given back.
pub(crate) struct Terms<'a> {
    /// Whose they are.
    pub(crate) label: &'a Label,
    /// The pool's times.
    pub(crate) parameters: &'a Parameters,
    /// GitHub's tokens, if there are any.
    pub(crate) tokens: Option<&'a GithubTokens>,
    /// What idle machines have to be made from; older ones are terminated.
    pub(crate) template_version: Option<i64>,
    /// How long to wait for them; one that is not clean by then is terminated.
    pub(crate) timeout: Duration,
    /// The pool's classes, each with its queue.
    pub(crate) classes: &'a [ResourceClass],
}

impl Terms<'_> {
    /// What a machine needs to deregister its runner.
    fn removal_token(&self) -> Option<Secret> {
        self.tokens.map(|tokens| tokens.removal.clone())
    }
}

/// Gives back all machines of a run, or those of one label.
///
/// # Errors
///
/// When AWS cannot be asked; what could be given back, was. Repeating the release goes on where this
/// one ended.
pub async fn release(
    world: &World,
    settings: &ReleaseSettings,
    config: &Config,
    console: &Console,
) -> Result<GivenBack, GiveBackError> {
    let parameters = config.parameters.as_ref().ok_or(GiveBackError::NotSetUp)?;
    let mut all = GivenBack::default();
    let mut trouble = None;
    for record in world.table.provisions_of(&settings.run).await? {
        if settings
            .label
            .as_ref()
            .is_some_and(|label| *label != record.label)
        {
            continue;
        }
        match record.phase {
            Phase::Committed => {}
            Phase::Released | Phase::RolledBack => {
                console.say(format!("label {}: {} already", record.label, record.phase));
                continue;
            }
            Phase::Open | Phase::RollingBack => {
                console.say(format!(
                    "label {}: its provision is {}; it or refresh will end that",
                    record.label, record.phase
                ));
                continue;
            }
        }
        let terms = Terms {
            label: &record.label,
            parameters,
            tokens: config.github_tokens.as_ref(),
            template_version: config
                .launch_template
                .as_ref()
                .map(|template| template.version),
            timeout: settings
                .timeout
                .unwrap_or_else(|| parameters.release_timeout()),
            classes: &config.resource_classes,
        };
        let machines = settings.machines_of(&record);
        if machines.is_empty() && !record.lent().is_empty() {
            continue;
        }
        let label = record.label.clone();
        match give_back_all(world, &terms, &machines, record.clone(), console).await {
            Ok(given) => {
                all.pooled.extend(given.pooled);
                all.terminated.extend(given.terminated);
                all.gone.extend(given.gone);
            }
            // The run's other labels have nothing to do with it.
            Err(error) if trouble.is_none() => trouble = Some(error),
            Err(error) => console.warn(format_args!("label {label}: {}", chain(&error))),
        }
    }
    trouble.map_or(Ok(all), Err)
}

/// Gives one label's machines back, and says so in its journal.
async fn give_back_all(
    world: &World,
    terms: &Terms<'_>,
    machines: &[(InstanceId, Option<u64>)],
    record: ProvisionRecord,
    console: &Console,
) -> Result<GivenBack, GiveBackError> {
    let given = give_back(world, terms, machines, console).await?;
    let mut journal = Journal::resume(world, record);
    match journal.write(|record| record.phase = Phase::Released).await {
        // Another release of the same run was faster.
        Ok(()) | Err(JournalError::TakenOver(_)) => Ok(given),
        Err(error @ JournalError::Table(_)) => Err(error.into()),
    }
}

/// Gives machines of one label back, each with the generation in which its run has it, where that
/// is known; those that do not bear the label (any more) are left alone.
pub(crate) async fn give_back(
    world: &World,
    terms: &Terms<'_>,
    machines: &[(InstanceId, Option<u64>)],
    console: &Console,
) -> Result<GivenBack, GiveBackError> {
    let started = world.now();
    let deadline = started + terms.timeout;
    let mut given = GivenBack::default();
    let mut open: BTreeMap<InstanceId, u64> = BTreeMap::new();
    let mut unfit: Vec<(InstanceId, u64, String)> = Vec::new();
    let releases = machines
        .iter()
        .map(async |(id, generation)| (id, free(world, terms, id, *generation).await));
    for (id, freed) in join_all(releases).await {
        match freed? {
            Freed::Idle(generation) => {
                open.insert(id.clone(), generation);
            }
            Freed::Ended(generation, why) => unfit.push((id.clone(), generation, why)),
            Freed::NotOurs(why) => {
                console.say(format!("{id} is gone already: {why}"));
                given.gone.push(id.clone());
            }
        }
    }
    let mut looks = Looks::default();
    let mut trouble = None;
    while !open.is_empty() {
        let arns: Vec<_> = open.keys().map(|id| world.arn(id)).collect();
        let Some(records) = world.look(&arns, deadline).await? else {
            looks.pause().await;
            continue;
        };
        let now = world.now();
        let (mut clean, mut lack_token) = (Vec::new(), Vec::new());
        let mut busy = 0;
        open.retain(|id, generation| {
            let record = records.iter().find(|record| record.id() == id);
            let verdict = judge(record, *generation);
            match (verdict, record) {
                (Verdict::Clean, Some(record)) => {
                    match worn_out(record, terms, now) {
                        Some(why) => unfit.push((id.clone(), *generation, why)),
                        None => clean.push(record.clone()),
                    }
                    false
                }
                (Verdict::Unfit(why), _) => {
                    unfit.push((id.clone(), *generation, why));
                    false
                }
                (Verdict::Gone | Verdict::Clean, _) => {
                    given.gone.push(id.clone());
                    false
                }
                (Verdict::Busy | Verdict::Waiting, _) if now >= deadline => {
                    let job = record.and_then(|record| record.job.as_ref());
                    let why = match job {
                        Some(job) => format!("its job `{}` did not end in time", job.name),
                        None => "its agent did not deregister in time".to_owned(),
                    };
                    unfit.push((id.clone(), *generation, why));
                    false
                }
                (Verdict::Busy, _) => {
                    busy += 1;
                    true
                }
                (Verdict::Waiting, record) => {
                    if record.is_some_and(|record| record.token.is_none()) {
                        lack_token.push((id.clone(), *generation));
                    }
                    true
                }
            }
        });
        hand_tokens(world, terms, lack_token).await?;
        if let Err(error) = pool(world, terms, &clean, &mut given, console).await {
            // The others are worth it all the same.
            trouble.get_or_insert(error);
        }
        if !open.is_empty() {
            looks.progress(now, || {
                let waiting: Vec<&str> = open.keys().map(InstanceId::as_str).collect();
                console.say(format!(
                    "waiting for {} to deregister ({busy} busy with a job)",
                    waiting.join(", ")
                ));
            });
            looks.pause().await;
        }
    }
    end(world, unfit, &mut given, console).await?;
    trouble.map_or(Ok(given), Err)
}
