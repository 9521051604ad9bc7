//! A runner that does not do what it says: one that took a job and shows no worker, a worker that
//! outlives its job, a listener that fell silent.

use std::time::Duration;

use proto::time::human;

use super::{Machine, Now, Vitals, seconds, tenancy::Phase};

/// A listener polls every minute and says so at least every half hour.
const SILENCE: Duration = Duration::from_mins(35);

/// What the last examinations showed of the runner.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// Since when a job has no worker.
    workerless: Option<Duration>,
    /// Since when a worker has no job.
    jobless: Option<Duration>,
    /// What is wrong with the runner.
    pub(super) wedged: Option<String>,
}

impl Machine {
    /// Notices a runner that does not do what it says.
    pub(super) fn watch_runner(&mut self, vitals: &Vitals, now: Now) {
        let patience = seconds(self.config.times.worker);
        let late = |since: &mut Option<Duration>, is: bool| {
            *since = is.then(|| since.unwrap_or(now.mono));
            since.filter(|since| now.mono.saturating_sub(*since) >= patience)
        };
        let busy = self.job.is_some();
        let workerless = late(
            &mut self.watch.workerless,
            busy && vitals.worker == Some(false),
        );
        let jobless = late(
            &mut self.watch.jobless,
            !busy && vitals.worker == Some(true),
        );
        let silent = vitals
            .silent
            .filter(|silent| *silent >= SILENCE && !busy && self.tenancy.phase == Phase::Listening);
        let wedged = if workerless.is_some() {
            let job = self.job.as_ref().map_or("", |job| job.name.as_str());
            Some(format!(
                "the runner took the job `{job}` and has no worker for it"
            ))
        } else if jobless.is_some() {
            Some("the runner's worker outlives its job".to_owned())
        } else {
            silent.map(|_| format!("the listener is silent for more than {}", human(SILENCE)))
        };
        if let Some(wedged) = wedged.as_ref().filter(|_| wedged != self.watch.wedged) {
            self.note(now, wedged);
        }
        self.watch.wedged = wedged;
    }
}
