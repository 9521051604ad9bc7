//! What the listener's words and its end mean.

use std::time::Duration;

use proto::instance::Job;

use super::{
    Ending, Machine, Now, Said, seconds,
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
        (self.tenancy.offset, self.tenancy.spoke) = (offset, now.mono);
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
    pub(super) fn listener_ended(&mut self, run: u64, how: Ending, tail: &str, now: Now) {
        if run != self.tenancy.run {
            return;
        }
        self.tenancy.listener = None;
        self.job = None;
        if !matches!(self.tenancy.phase, Phase::Starting | Phase::Listening) {
            return;
        }
        if self.is_interrupted() {
            tracing::info!("the listener has stopped");
            let (until, next) = (Duration::MAX, Next::Listen);
            self.tenancy.phase = Phase::Paused { until, next };
            return;
        }
        if self.still_wanted() == Some(false) {
            return;
        }
        if self.config.jobs.ephemeral
            && self.tenancy.worked
            && matches!(how, Ending::Code(0) | Ending::Unknown)
        {
            tracing::info!("the runner did its one job: registering anew");
            return self.register_anew(now.mono, now);
        }
        let cause = self.ending(how, tail);
        self.tenancy.comebacks += 1;
        let next = match how {
            // GitHub deleted the registration, or never had it.
            Ending::Code(0 | 1) => Next::Configure,
            // Trouble at GitHub; an update, which is over by now; a kill.
            Ending::Code(2..=4) | Ending::Unknown => Next::Listen,
            // Session conflict, version too old, or not known: trying again is no help.
            Ending::Code(_) | Ending::NotStarted => return self.registration_failed(cause, now),
        };
        // Trouble at GitHub passes, however long it takes.
        if self.tenancy.comebacks > COMEBACKS && how != Ending::Code(2) {
            return self.registration_failed(cause, now);
        }
        self.note(now, &format!("{cause}; bringing it back"));
        let until = now.mono + self.pause(self.tenancy.comebacks);
        if next == Next::Configure {
            return self.register_anew(until, now);
        }
        self.tenancy.deadline = until + seconds(self.config.times.registration);
        self.tenancy.phase = Phase::Paused { until, next };
    }

    /// How the listener ended, and its last lines.
    fn ending(&self, how: Ending, tail: &str) -> String {
        let version = self.version().unwrap_or("unknown");
        let meaning = match how {
            Ending::NotStarted => return format!("the listener cannot be started: {tail}"),
            Ending::Unknown => "the listener ended by a signal, or unseen".to_owned(),
            Ending::Code(5) => "the listener ended with exit code 5: another listener holds this \
                                runner's session at GitHub"
                .to_owned(),
            Ending::Code(7) => format!(
                "runner version too old: GitHub gives no jobs to {version} any more (exit code 7); \
                 let the pool have a newer one with actions-runner-version, or bake an image"
            ),
            Ending::Code(code) => format!("the listener ended with exit code {code}"),
        };
        format!("{meaning}\n{tail}")
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
