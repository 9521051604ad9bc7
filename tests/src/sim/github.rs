//! GitHub: who is registered, which job goes where.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use agent::machine::Said;
use async_trait::async_trait;
use controller::ports::{Deleted, Forge, ForgeRunner, PortError, RunState, RunnerToken};
use proto::{
    ids::{InstanceId, Label, RunId},
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
    /// Runs whose latest attempt is over.
    pub(super) over: BTreeSet<RunId>,
}

/// A registered runner.
pub(super) struct Runner {
    pub(super) id: u64,
    pub(super) machine: InstanceId,
    pub(super) label: Label,
    pub(super) online: bool,
    /// Its listener has ended by itself before; the agent brings it back.
    pub(super) died: bool,
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
    /// It is this runner's; its listener has not confirmed it yet.
    Given(String),
    On(String),
    Done,
    /// Its machine went.
    Lost,
}

impl JobAt {
    pub(super) fn is_over(&self) -> bool {
        match self {
            Self::Done | Self::Lost => true,
            Self::Queued | Self::Given(_) | Self::On(_) => false,
        }
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

    /// The listener of this machine asks for no job any more.
    pub(super) fn takes_no_job(&mut self, id: &InstanceId) {
        for runner in self.github.runners.values_mut() {
            if runner.machine == *id {
                runner.online = false;
            }
        }
    }

    /// The listener of this machine, which shows no worker, is stopped. A job that it has not
    /// confirmed goes to another; one that it has, and whose worker only starts, is cancelled.
    pub(super) fn listener_stops(&mut self, id: &InstanceId) {
        let mut parted = Vec::new();
        for runner in self.github.runners.values_mut() {
            if runner.machine == *id {
                runner.online = false;
                parted.extend(runner.job.take());
            }
        }
        for id in parted {
            let Some(job) = self.github.jobs.get_mut(&id) else {
                continue;
            };
            if matches!(job.at, JobAt::Given(_)) {
                job.at = JobAt::Queued;
                self.say("github", format!("job {id} is queued again"));
                self.count("jobs queued again");
            } else {
                job.at = JobAt::Lost;
                job.cancelled.notify_waiters();
                self.say("github", format!("job {id} is cancelled with its listener"));
                self.count("jobs taken up as their listener was stopped");
            }
        }
    }

    /// Nobody listens there any more.
    pub(super) fn machine_is_gone(&mut self, id: &InstanceId) {
        let vm = self.cloud.machines.get(id);
        let taken = vm.is_some_and(|vm| vm.taken || vm.notice.is_some());
        let mut lost = Vec::new();
        for runner in self.github.runners.values_mut() {
            if runner.machine == *id {
                runner.online = false;
                lost.extend(runner.job.take());
            }
        }
        for job in lost {
            let mut let_go = false;
            if let Some(job) = self.github.jobs.get_mut(&job) {
                job.at = JobAt::Lost;
                job.cancelled.notify_waiters();
                let_go = self.given_up.contains(&job.label);
            }
            self.count(if taken {
                "jobs that EC2 took with their machine"
            } else if let_go {
                "jobs that a cancelled or endless workflow left behind"
            } else if invariant::is_due(self, id) {
                "jobs longer than their machine's time"
            } else {
                "jobs lost"
            });
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

/// The workflow is cancelled: what is queued never runs, what runs ends soon. How many were queued.
pub(super) fn cancel_jobs(sim: &Sim, ids: &[u64]) -> usize {
    sim.step(|state| {
        let mut queued = 0;
        for id in ids {
            let Some(job) = state.github.jobs.get_mut(id) else {
                continue;
            };
            match job.at {
                JobAt::Queued => {
                    queued += 1;
                    job.at = JobAt::Done;
                }
                JobAt::Given(_) | JobAt::On(_) => job.cancelled.notify_waiters(),
                JobAt::Done | JobAt::Lost => {}
            }
        }
        queued
    })
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
                job.at = JobAt::Given(name.clone());
            }
            state.say("github", format!("job {id} of {label} goes to {name}"));
            state.count("jobs started");
            invariant::before_job(state, &machine, &label);
            started.push((id, name, machine));
        }
        started
    });
    for (id, name, machine) in started {
        tokio::spawn(work(sim.clone(), id, name, machine));
    }
}

/// A job, from its assignment to its end.
async fn work(sim: Sim, id: u64, name: String, machine: InstanceId) {
    const SOON: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(800));
    let soon = sim.with(|state| state.between(SOON.0, SOON.1));
    sleep(soon / 2).await;
    sim.step(|state| {
        // It may have been given to another meanwhile.
        let job = state.github.jobs.get_mut(&id)?;
        (job.at == JobAt::Given(name.clone())).then(|| job.at = JobAt::On(name.clone()))
    });
    sleep(soon / 2).await;
    let Some((length, cancelled)) = sim.step(|state| {
        let job = state.github.jobs.get(&id)?;
        let work = (job.length, Arc::clone(&job.cancelled));
        let running = job.at == JobAt::On(name.clone());
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

    async fn runners(&self) -> Result<Vec<ForgeRunner>, PortError> {
        self.0
            .call(|process| {
                process.sim.step(|state| {
                    let runners = state.github.runners.iter();
                    runners
                        .map(|(name, runner)| ForgeRunner {
                            id: runner.id,
                            name: name.clone(),
                            online: runner.online,
                            busy: runner.job.is_some(),
                        })
                        .collect()
                })
            })
            .await
            .map_err(failed("list runners"))
    }

    async fn delete_runner(&self, id: u64) -> Result<Deleted, PortError> {
        self.0
            .call(move |process| {
                process.sim.step(|state| {
                    let runners = &mut state.github.runners;
                    let busy = |runner: &Runner| runner.id == id && runner.job.is_some();
                    if runners.values().any(busy) {
                        return Deleted::Busy;
                    }
                    runners.retain(|_, runner| runner.id != id);
                    state.say(process, format!("deletes runner {id}"));
                    Deleted::Yes
                })
            })
            .await
            .map_err(failed("delete a runner"))
    }

    async fn run(&self, _: Option<&str>, run: &RunId) -> Result<RunState, PortError> {
        let run = run.clone();
        self.0
            .call(move |process| {
                process.sim.step(|state| {
                    if state.github.over.contains(&run) {
                        RunState::Over
                    } else {
                        RunState::Active
                    }
                })
            })
            .await
            .map_err(failed("look at a run"))
    }
}
