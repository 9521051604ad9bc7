//! What the listener's words and its end mean.

use std::time::Duration;

use proto::instance::Job;

use super::{
    Machine, Now, Said,
    drive::pause,
    seconds,
    tenancy::{Next, Phase},
    text,
};

/// How often a listener that ends by itself is brought back before it listens again.
const COMEBACKS: u32 = 5;

impl Machine {
    /// The listener said something.
    pub(super) fn listener_said(&mut self, run: u64, said: Said, offset: u64, now: Now) {
        if run != self.tenancy.run {
            return;
        }
        self.tenancy.offset = offset;
        match said {
            Said::Listening => {}
            Said::JobStarted(name) => {
                let name = text::name(&name);
                tracing::info!(job = name, "a job starts");
                let since = now.wall;
                self.job = Some(Job { name, since });
            }
            Said::JobEnded => {
                tracing::info!("the job ended");
                self.job = None;
                self.tenancy.worked = true;
                self.noticed.idle_since = Some(now.mono);
                let before = self.record.as_ref().map_or(0, |record| record.jobs);
                self.jobs = Some(self.jobs.unwrap_or(before) + 1);
            }
        }
        if matches!(self.tenancy.phase, Phase::Starting | Phase::Failed { .. }) {
            tracing::info!("the runner listens");
            self.tenancy.phase = Phase::Listening;
            self.tenancy.comebacks = 0;
            // The next thing to run here is a job.
            if !self.config.jobs.ephemeral {
                self.tenancy.token = None;
            }
        }
    }

    /// The listener ended.
    pub(super) fn listener_ended(&mut self, run: u64, code: Option<i32>, tail: &str, now: Now) {
        if run != self.tenancy.run {
            return;
        }
        self.tenancy.listener = None;
        self.job = None;
        if !matches!(self.tenancy.phase, Phase::Starting | Phase::Listening)
            || self.still_wanted() == Some(false)
        {
            return;
        }
        if self.config.jobs.ephemeral && self.tenancy.worked && matches!(code, Some(0) | None) {
            tracing::info!("the runner did its one job: registering anew");
            return self.register_anew(now.mono, now);
        }
        let cause = format!("{}\n{tail}", self.ending(code));
        self.tenancy.comebacks += 1;
        let next = match code {
            // GitHub deleted the registration, or never had it.
            Some(0 | 1) => Next::Configure,
            // Trouble at GitHub; an update, which is over by now; a kill.
            Some(2..=4) | None => Next::Listen,
            // Session conflict, version too old, or unknown: trying again is no help.
            Some(_) => return self.registration_failed(cause, now),
        };
        // Trouble at GitHub passes, however long it takes.
        if self.tenancy.comebacks > COMEBACKS && code != Some(2) {
            return self.registration_failed(cause, now);
        }
        self.note(now, &format!("{cause}; bringing it back"));
        let until = now.mono + pause(self.tenancy.comebacks);
        if next == Next::Configure {
            return self.register_anew(until, now);
        }
        self.tenancy.deadline = until + seconds(self.config.times.registration);
        self.tenancy.phase = Phase::Paused { until, next };
    }

    /// How the listener ended, by its exit code.
    fn ending(&self, code: Option<i32>) -> String {
        let version = self.version().unwrap_or("unknown");
        match code {
            None => "the listener ended with a signal".to_owned(),
            Some(5) => "the listener ended with exit code 5: another listener holds this runner's \
                        session at GitHub"
                .to_owned(),
            Some(7) => format!(
                "runner version too old: GitHub gives no jobs to {version} any more (exit code 7); \
                 let the pool have a newer one with actions-runner-version, or bake an image"
            ),
            Some(code) => format!("the listener ended with exit code {code}"),
        }
    }

    /// From the beginning, with a registration of its own.
    pub(super) fn register_anew(&mut self, until: Duration, now: Now) {
        self.tenancy.tries = 0;
        self.tenancy.configured = false;
        self.tenancy.deadline = until.max(now.mono) + seconds(self.config.times.registration);
        let next = Next::Configure;
        self.tenancy.phase = Phase::Paused { until, next };
    }
}
