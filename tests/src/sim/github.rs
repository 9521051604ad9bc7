//! GitHub: who is registered, which job goes where; and the listeners on the machines.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use agent::machine::{ListenerId, Said};
use async_trait::async_trait;
use controller::ports::{Forge, PortError, RunnerToken};
use proto::{
    ids::{InstanceId, Label},
    instance::Secret,
};
use rand::RngExt;
use tokio::{
    sync::Notify,
    time::{sleep, timeout},
};

use super::{
    invariant,
    process::Process,
    queue::failed,
    world::{Sim, State},
};

/// GitHub's side of the world.
#[derive(Default)]
pub(super) struct Github {
    /// By name.
    pub(super) runners: BTreeMap<String, Runner>,
    pub(super) jobs: BTreeMap<u64, Job>,
}

/// A registered runner.
pub(super) struct Runner {
    pub(super) machine: InstanceId,
    pub(super) label: Label,
    pub(super) online: bool,
    pub(super) job: Option<u64>,
}

/// A job of a workflow.
pub(super) struct Job {
    pub(super) label: Label,
    pub(super) at: JobAt,
    length: Duration,
    cancelled: Arc<Notify>,
}

/// Where a job stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum JobAt {
    Queued,
    On(String),
    Done,
    /// Its machine went.
    Lost,
}

impl JobAt {
    pub(super) fn is_over(&self) -> bool {
        match self {
            Self::Done | Self::Lost => true,
            Self::Queued | Self::On(_) => false,
        }
    }
}

/// The runner's listener process on a machine.
pub(super) struct Listener {
    pub(super) id: ListenerId,
    pub(super) lines: Vec<Said>,
    pub(super) ended: Option<Option<i32>>,
    pub(super) news: Arc<Notify>,
}

impl Listener {
    pub(super) fn say(&mut self, said: Said) {
        self.lines.push(said);
        self.news.notify_waiters();
    }

    pub(super) fn end(&mut self, code: Option<i32>) {
        self.ended = Some(code);
        self.news.notify_waiters();
    }
}

impl State {
    /// The job that GitHub has given to this machine, with its label.
    pub(super) fn job_on(&self, id: &InstanceId) -> Option<(u64, &Label)> {
        let runners = self.github.runners.values();
        let mut here = runners.filter(|runner| runner.machine == *id);
        here.find_map(|runner| Some((runner.job?, &runner.label)))
    }

    /// The runners of a machine that GitHub may give a job to.
    pub(super) fn online_on(&self, id: &InstanceId) -> Vec<(&str, &Runner)> {
        let runners = self.github.runners.iter();
        runners
            .filter(|(_, runner)| runner.online && runner.machine == *id)
            .map(|(name, runner)| (name.as_str(), runner))
            .collect()
    }

    pub(super) fn listener(&mut self, id: &InstanceId) -> Option<&mut Listener> {
        self.vm(id)?.listener.as_mut()
    }

    /// Nobody listens there any more.
    pub(super) fn machine_is_gone(&mut self, id: &InstanceId) {
        let mut lost = Vec::new();
        for runner in self.github.runners.values_mut() {
            if runner.machine == *id {
                runner.online = false;
                lost.extend(runner.job.take());
            }
        }
        for job in lost {
            if let Some(job) = self.github.jobs.get_mut(&job) {
                job.at = JobAt::Lost;
                job.cancelled.notify_waiters();
            }
            self.count("jobs lost with their machine");
        }
    }
}

/// A workflow has jobs to run.
pub(super) fn queue_jobs(sim: &Sim, label: &Label, lengths: &[Duration]) -> Vec<u64> {
    let ids = sim.step(|state| {
        let ids: Vec<u64> = lengths
            .iter()
            .map(|length| {
                let id = state.github.jobs.len() as u64;
                let job = Job {
                    label: label.clone(),
                    at: JobAt::Queued,
                    length: *length,
                    cancelled: Arc::default(),
                };
                state.github.jobs.insert(id, job);
                id
            })
            .collect();
        state.say("github", format!("{} jobs for {label}", ids.len()));
        ids
    });
    assign(sim);
    ids
}

/// The workflow is cancelled: what is queued never runs, what runs ends soon.
pub(super) fn cancel_jobs(sim: &Sim, ids: &[u64]) {
    sim.step(|state| {
        for id in ids {
            let Some(job) = state.github.jobs.get_mut(id) else {
                continue;
            };
            match job.at {
                JobAt::Queued => job.at = JobAt::Done,
                JobAt::On(_) => job.cancelled.notify_waiters(),
                JobAt::Done | JobAt::Lost => {}
            }
        }
    });
}

/// GitHub gives queued jobs to runners that are free.
pub(super) fn assign(sim: &Sim) {
    let started = sim.step(|state| {
        let queued: Vec<u64> = state
            .github
            .jobs
            .iter()
            .filter(|(_, job)| job.at == JobAt::Queued)
            .map(|(id, _)| *id)
            .collect();
        let mut started = Vec::new();
        for id in queued {
            let label = state.github.jobs[&id].label.clone();
            let free: Vec<String> = state
                .github
                .runners
                .iter()
                .filter(|(_, r)| r.online && r.job.is_none() && r.label == label)
                .map(|(name, _)| name.clone())
                .collect();
            if free.is_empty() {
                continue;
            }
            let name = free[state.rng.random_range(0..free.len())].clone();
            let Some(runner) = state.github.runners.get_mut(&name) else {
                continue;
            };
            runner.job = Some(id);
            let machine = runner.machine.clone();
            if let Some(job) = state.github.jobs.get_mut(&id) {
                job.at = JobAt::On(name.clone());
            }
            state.say("github", format!("job {id} of {label} goes to {name}"));
            state.count("jobs started");
            invariant::before_job(state, &machine, &label);
            started.push((id, machine));
        }
        started
    });
    for (id, machine) in started {
        tokio::spawn(work(sim.clone(), id, machine));
    }
}

/// A job, from its assignment to its end.
async fn work(sim: Sim, id: u64, machine: InstanceId) {
    sim.pause(Duration::from_millis(20), Duration::from_millis(800))
        .await;
    let Some((length, cancelled)) = sim.step(|state| {
        let job = state.github.jobs.get(&id)?;
        let work = (job.length, Arc::clone(&job.cancelled));
        let running = matches!(job.at, JobAt::On(_));
        let said = Said::JobStarted(format!("job {id}"));
        state.listener(&machine).filter(|_| running)?.say(said);
        Some(work)
    }) else {
        return;
    };
    // Either is the end of it.
    let _ = timeout(length, cancelled.notified()).await;
    sim.step(|state| {
        let Some(job) = state.github.jobs.get_mut(&id) else {
            return;
        };
        let JobAt::On(name) = job.at.clone() else {
            return;
        };
        job.at = JobAt::Done;
        if let Some(runner) = state.github.runners.get_mut(&name) {
            runner.job = None;
        }
        state.say("github", format!("job {id} is done"));
        state.count("jobs done");
        if let Some(listener) = state.listener(&machine) {
            listener.say(Said::JobEnded);
        }
    });
    sleep(Duration::from_millis(100)).await;
    assign(&sim);
}

pub(super) struct SimForge(pub(super) Process);

impl SimForge {
    async fn token(&self) -> Result<RunnerToken, PortError> {
        self.0
            .call(|process| RunnerToken {
                token: Secret::new("token"),
                expires_at: process.sim.time() + Duration::from_hours(1),
            })
            .await
            .map_err(failed("obtain a token"))
    }
}

#[async_trait]
impl Forge for SimForge {
    async fn registration_token(&self) -> Result<RunnerToken, PortError> {
        self.token().await
    }

    async fn removal_token(&self) -> Result<RunnerToken, PortError> {
        self.token().await
    }
}
