//! What the listener's words and its end mean.

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
            self.tenancy.token = None;
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
        let code_text = code.map_or("a signal".to_owned(), |code| format!("exit code {code}"));
        let cause = format!("the listener ended with {code_text}\n{tail}");
        self.tenancy.comebacks += 1;
        let next = match code {
            // GitHub deleted the registration, or never had it.
            Some(0 | 1) => Next::Configure,
            // Trouble at GitHub; an update, which is switched off; a kill.
            Some(2..=4) | None => Next::Listen,
            // Session conflict, version deprecated, or unknown: trying again is no help.
            Some(_) => return self.registration_failed(cause, now),
        };
        // Trouble at GitHub passes, however long it takes.
        if self.tenancy.comebacks > COMEBACKS && code != Some(2) {
            return self.registration_failed(cause, now);
        }
        self.note(now, &format!("{cause}; bringing it back"));
        let until = now.mono + pause(self.tenancy.comebacks);
        if next == Next::Configure {
            self.tenancy.tries = 0;
            self.tenancy.configured = false;
        }
        self.tenancy.deadline = until + seconds(self.config.times.registration);
        self.tenancy.phase = Phase::Paused { until, next };
    }
}
