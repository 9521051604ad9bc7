//! What a test may do to GitHub and see of it.

use std::path::Path;
use std::time::{Duration, Instant};

use axum::http::StatusCode;

use super::shared::Overdue;
use super::{Call, Conclusion, Fault, GitHub, Job, JobId, JobView, RunView, RunnerView, Status};
use crate::yard::faults;

impl GitHub {
    /// The personal access token that the REST API accepts.
    pub fn token(&self) -> String {
        self.shared.quietly(|state| state.settings.token.clone())
    }

    /// Accepts another personal access token from now on.
    pub fn set_token(&self, token: &str) {
        self.shared
            .quietly(|state| token.clone_into(&mut state.settings.token));
    }

    /// Makes every registration and remove token worthless.
    pub fn expire_runner_tokens(&self) {
        self.shared.quietly(super::state::State::expire_tokens);
    }

    /// Publishes a file as part of a repository's release.
    pub fn publish(&self, repository: &str, tag: &str, name: &str, file: &Path) {
        let path = format!("/{repository}/releases/download/{tag}/{name}");
        self.shared.quietly(|state| {
            state.assets.insert(path, file.to_owned());
        });
    }

    /// Puts a job into the queue.
    pub fn enqueue(&self, job: Job) -> JobId {
        self.shared.update(|state| state.enqueue(job))
    }

    /// A job as it stands.
    pub fn job(&self, id: JobId) -> Option<JobView> {
        self.shared.quietly(|state| state.jobs.view(id))
    }

    /// All jobs, oldest first.
    pub fn jobs(&self) -> Vec<JobView> {
        self.shared.quietly(|state| state.jobs.views())
    }

    /// Waits for the end of a job.
    pub async fn wait_job(
        &self,
        id: JobId,
        within: Duration,
    ) -> Result<JobView, Overdue<Option<JobView>>> {
        self.wait_job_until(id, within, |job| job.status == Status::Completed)
            .await
    }

    /// Waits until `reached` says yes to a job.
    pub async fn wait_job_until(
        &self,
        id: JobId,
        within: Duration,
        mut reached: impl FnMut(&JobView) -> bool,
    ) -> Result<JobView, Overdue<Option<JobView>>> {
        self.shared
            .wait(Instant::now() + within, |state| {
                state.jobs.view(id).filter(&mut reached)
            })
            .await
            .ok_or_else(|| Overdue(self.job(id)))
    }

    /// Cancels a job: at once while it waits, through its runner while it runs.
    pub fn cancel_job(&self, id: JobId) {
        self.shared
            .update(|state| state.jobs.cancel(|job| job.id == id));
    }

    /// Cancels all jobs of a run.
    pub fn cancel_run(&self, run_id: u64) {
        self.shared
            .update(|state| state.jobs.cancel(|job| job.run_id == run_id));
    }

    /// All registered runners.
    pub fn runners(&self) -> Vec<RunnerView> {
        self.shared
            .quietly(|state| state.runner_views(Instant::now()))
    }

    /// Waits until `reached` says yes to the list of runners.
    pub async fn wait_runners(
        &self,
        within: Duration,
        mut reached: impl FnMut(&[RunnerView]) -> bool,
    ) -> Result<Vec<RunnerView>, Overdue<Vec<RunnerView>>> {
        self.shared
            .wait(Instant::now() + within, |state| {
                Some(state.runner_views(Instant::now())).filter(|runners| reached(runners))
            })
            .await
            .ok_or_else(|| Overdue(self.runners()))
    }

    /// Registers a workflow run, in progress, with the repository that its jobs belong to.
    pub fn add_run(&self, id: u64, repository: &str) {
        self.shared.update(|state| {
            state.runs.insert(
                id,
                RunView {
                    id,
                    repository: repository.to_owned(),
                    status: Status::InProgress,
                    conclusion: None,
                },
            );
        });
    }

    /// Sets where a run stands; an unknown one is added to the first repository.
    pub fn set_run(&self, id: u64, status: Status, conclusion: Option<Conclusion>) {
        self.shared.update(|state| {
            let repository = state.default_repository();
            let run = state.runs.entry(id).or_insert(RunView {
                id,
                repository,
                status,
                conclusion,
            });
            run.status = status;
            run.conclusion = conclusion;
        });
    }

    /// All REST calls so far.
    pub fn calls(&self) -> Vec<Call> {
        self.shared.quietly(|state| state.calls.clone())
    }

    /// The next REST calls are answered with these statuses, one each.
    pub fn fail_next(&self, statuses: &[StatusCode]) {
        for status in statuses {
            self.fail_next_with(Fault::from(*status));
        }
    }

    /// The next REST call that no other fault meets is answered so.
    pub fn fail_next_with(&self, fault: Fault) {
        self.shared
            .quietly(|state| state.faults.next.push_back(fault));
    }

    /// Lets the next matching REST calls go wrong.
    pub fn inject(&self, fault: faults::Fault) {
        self.shared.quietly(|state| state.faults.chosen.add(fault));
    }

    /// How many calls have gone wrong as [`Self::inject`] asked.
    pub fn faults_met(&self) -> usize {
        self.shared.quietly(|state| state.faults.chosen.met())
    }

    /// Delays every REST call.
    pub fn set_latency(&self, latency: Duration) {
        self.shared.quietly(|state| state.faults.latency = latency);
    }

    /// Has it be so many seconds later at GitHub than here, as far as its REST API cares.
    pub fn set_ahead(&self, seconds: i64) {
        self.shared.quietly(|state| state.faults.ahead = seconds);
    }

    /// An outage: until it ends, everybody gets 503.
    pub fn set_down(&self, down: bool) {
        self.shared.update(|state| state.faults.down = down);
    }
}
