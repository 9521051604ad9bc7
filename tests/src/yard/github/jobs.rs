//! The queue of jobs and what becomes of each.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::wire::{Conclusion, JobId, JobMessage};
use crate::yard::clock;

/// A job to run, as a workflow would describe it.
#[derive(Clone, Debug, Default)]
pub struct Job {
    /// The workflow run; its repository decides which runners may take the job.
    pub run_id: u64,
    /// Name, as GitHub and the runner show it.
    pub name: String,
    /// `runs-on`: a runner must have all of them.
    pub labels: Vec<String>,
    /// Shell commands.
    pub steps: Vec<String>,
    /// Environment of the steps.
    pub env: BTreeMap<String, String>,
}

/// GitHub's three words for where a job or a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Waits for a runner.
    Queued,
    /// Runs.
    InProgress,
    /// Over; there is a conclusion.
    Completed,
}

impl Status {
    /// The word in the REST API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::InProgress => "in_progress",
            Self::Completed => "completed",
        }
    }
}

impl Conclusion {
    /// The word in the REST API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Cancelled => "cancelled",
        }
    }
}

/// A job as a test sees it.
#[derive(Clone, Debug)]
pub struct JobView {
    /// Which one.
    pub id: JobId,
    /// Its workflow run.
    pub run_id: u64,
    /// Its name.
    pub name: String,
    /// Where it stands.
    pub status: Status,
    /// How it ended, once completed.
    pub conclusion: Option<Conclusion>,
    /// The name of the runner that has or had it.
    pub runner: Option<String>,
    /// Everything it printed so far.
    pub log: String,
    /// When it entered the queue.
    pub queued_at: Timestamp,
    /// When a runner took it up.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// How often it was given to a runner.
    pub assignments: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Queued,
    /// Sent to a runner that has not confirmed yet.
    Assigned {
        runner: u64,
        at: Instant,
    },
    Running {
        runner: u64,
        seen: Instant,
    },
    Completed(Conclusion),
}

#[derive(Debug)]
struct Record {
    job: Job,
    repository: String,
    phase: Phase,
    cancel: bool,
    view: JobView,
}

/// The runner and the job that parted, for the runner's record.
pub(super) type Parted = (u64, JobId);

/// All jobs, in the order of their arrival.
#[derive(Debug, Default)]
pub(super) struct Jobs {
    records: BTreeMap<JobId, Record>,
}

impl Jobs {
    pub(super) fn enqueue(&mut self, job: Job, repository: String) -> JobId {
        let id = JobId(50_001 + self.records.len() as u64);
        let view = JobView {
            id,
            run_id: job.run_id,
            name: job.name.clone(),
            status: Status::Queued,
            conclusion: None,
            runner: None,
            log: String::new(),
            queued_at: clock::now(),
            started_at: None,
            finished_at: None,
            assignments: 0,
        };
        self.records.insert(
            id,
            Record {
                job,
                repository,
                phase: Phase::Queued,
                cancel: false,
                view,
            },
        );
        id
    }

    pub(super) fn view(&self, id: JobId) -> Option<JobView> {
        self.records.get(&id).map(|record| record.view.clone())
    }

    pub(super) fn views(&self) -> Vec<JobView> {
        self.records.values().map(|r| r.view.clone()).collect()
    }

    /// Gives the oldest waiting job that `suits` to a runner.
    pub(super) fn assign(
        &mut self,
        runner: u64,
        runner_name: &str,
        now: Instant,
        suits: impl Fn(&str, &[String]) -> bool,
    ) -> Option<JobMessage> {
        let record = self
            .records
            .values_mut()
            .find(|r| r.phase == Phase::Queued && suits(&r.repository, &r.job.labels))?;
        record.phase = Phase::Assigned { runner, at: now };
        record.view.runner = Some(runner_name.to_owned());
        record.view.assignments += 1;
        Some(JobMessage {
            job_id: record.view.id,
            run_id: record.job.run_id,
            repository: record.repository.clone(),
            name: record.job.name.clone(),
            steps: record.job.steps.clone(),
            env: record.job.env.clone(),
        })
    }

    /// The runner confirms; `false` when the job is not its to run.
    pub(super) fn acquire(&mut self, id: JobId, by: u64, now: Instant) -> bool {
        let Some(record) = self.records.get_mut(&id) else {
            return false;
        };
        match record.phase {
            Phase::Assigned { runner, .. } if runner == by => {
                record.phase = Phase::Running { runner, seen: now };
                record.view.status = Status::InProgress;
                record.view.started_at = Some(clock::now());
                true
            }
            Phase::Queued
            | Phase::Assigned { .. }
            | Phase::Running { .. }
            | Phase::Completed(_) => false,
        }
    }

    /// New log text; answers whether to cancel, or nothing when the job is not `by`'s.
    pub(super) fn progress(&mut self, id: JobId, by: u64, log: &str, now: Instant) -> Option<bool> {
        let record = self.running(id, by)?;
        record.phase = Phase::Running {
            runner: by,
            seen: now,
        };
        record.view.log.push_str(log);
        Some(record.cancel)
    }

    /// The runner's own end of the job; `false` when the job is not `by`'s.
    pub(super) fn finish(&mut self, id: JobId, by: u64, conclusion: Conclusion, log: &str) -> bool {
        let Some(record) = self.running(id, by) else {
            return false;
        };
        record.view.log.push_str(log);
        record.complete(conclusion);
        true
    }

    /// Cancels every unfinished job of `filter`: at once when no runner has it.
    pub(super) fn cancel(&mut self, filter: impl Fn(&JobView) -> bool) {
        for record in self.records.values_mut().filter(|r| filter(&r.view)) {
            match record.phase {
                Phase::Queued => record.complete(Conclusion::Cancelled),
                Phase::Assigned { .. } | Phase::Running { .. } => record.cancel = true,
                Phase::Completed(_) => {}
            }
        }
    }

    /// Jobs nobody picked up go back to the queue; jobs whose runner fell
    /// silent have failed. Answers which runner lost which job.
    pub(super) fn sweep(
        &mut self,
        now: Instant,
        pickup: Duration,
        silence: Duration,
    ) -> Vec<Parted> {
        let mut parted = Vec::new();
        for (id, record) in &mut self.records {
            match record.phase {
                Phase::Assigned { runner, at } if now.duration_since(at) > pickup => {
                    record.phase = Phase::Queued;
                    record.view.runner = None;
                    parted.push((runner, *id));
                }
                Phase::Running { runner, seen } if now.duration_since(seen) > silence => {
                    record.view.log.push_str(
                        "##[error]The self-hosted runner lost communication with the server.\n",
                    );
                    record.complete(Conclusion::Failure);
                    parted.push((runner, *id));
                }
                Phase::Queued
                | Phase::Assigned { .. }
                | Phase::Running { .. }
                | Phase::Completed(_) => {}
            }
        }
        parted
    }

    fn running(&mut self, id: JobId, by: u64) -> Option<&mut Record> {
        self.records
            .get_mut(&id)
            .filter(|r| matches!(r.phase, Phase::Running { runner, .. } if runner == by))
    }
}

impl Record {
    fn complete(&mut self, conclusion: Conclusion) {
        self.phase = Phase::Completed(conclusion);
        self.view.status = Status::Completed;
        self.view.conclusion = Some(conclusion);
        self.view.finished_at = Some(clock::now());
    }
}
