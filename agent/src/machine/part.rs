//! The tenant is gone: the runner is deregistered, and the machine cleaned.

use super::{Effect, Machine, Now, drive::FIRST_PAUSE, tenancy::Phase};

/// Tries to deregister. GitHub refuses while a job is assigned, and forgets an assignment that
/// the runner does not take up within a minute; a listener takes it up within moments.
const REMOVE_TRIES: u32 = 8;

impl Machine {
    /// The tenant is gone and no job runs: deregister, if there is something to deregister.
    pub(super) fn part(&mut self, now: Now) -> Option<Effect> {
        if !self.tenancy.registered {
            return Some(self.tenancy.retire());
        }
        if !matches!(self.tenancy.phase, Phase::RemovePaused { .. }) {
            tracing::info!("the label is gone: deregistering");
            self.tenancy.tries = 0;
        }
        let token = self.record.as_ref().and_then(|record| record.token.clone());
        // One that is kept for the next job only registers.
        let kept = self.tenancy.token.clone();
        let kept = kept.filter(|_| !self.config.jobs.ephemeral);
        let Some(token) = token.or(kept) else {
            // It is handed over once the record shows that no job runs.
            self.tenancy.phase = Phase::RemovePaused {
                until: now.mono + FIRST_PAUSE,
            };
            return None;
        };
        self.tenancy.tries += 1;
        self.tenancy.phase = Phase::Removing;
        Some(Effect::Remove(token, self.tenancy.listener))
    }

    /// `remove` ended.
    pub(super) fn removed(&mut self, result: Result<(), String>, now: Now) {
        match result {
            Ok(()) => {
                // What is left to do needs no GitHub.
                self.tenancy.configured = false;
                self.tenancy.registered = false;
                self.tenancy.phase = Phase::RemovePaused { until: now.mono };
            }
            Err(_) if self.job.is_some() => {
                tracing::info!("a job came before the deregistration: waiting for its end");
                self.tenancy.phase = Phase::Listening;
            }
            Err(cause) if self.tenancy.tries >= REMOVE_TRIES => self.stuck(cause, now),
            Err(cause) => {
                self.note(now, &format!("cannot deregister, trying again: {cause}"));
                let until = now.mono + self.pause(self.tenancy.tries);
                self.tenancy.phase = Phase::RemovePaused { until };
            }
        }
    }

    /// The machine is clean, or not.
    pub(super) fn retired(&mut self, result: Result<(), String>, now: Now) {
        match result {
            Ok(()) => {
                tracing::info!("the machine is clean");
                self.tenancy.phase = Phase::Empty;
                self.tenancy.tenant = None;
                self.tenancy.token = None;
                self.tenancy.listener = None;
                self.job = None;
                self.examine_anew();
            }
            Err(cause) => self.stuck(cause, now),
        }
    }

    fn stuck(&mut self, cause: String, now: Now) {
        self.note(now, &format!("this machine cannot be given on: {cause}"));
        self.tenancy.phase = Phase::Stuck { cause };
    }
}
