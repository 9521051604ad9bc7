//! When and how the machine ends itself.
//!
//! The way out is to switch off: the launch template makes that a termination, and it needs
//! neither permission nor network. The table is told why, where it lets a machine's own threshold
//! pass or EC2 takes the machine away; that the record is closed is refresh's business.

use std::time::Duration;

use proto::{
    change::{Assign, Change},
    instance::Health,
    state::State,
    time::human,
};

use super::{Answer, Boot, Call, Effect, Machine, Now, calls::Kind, seconds, text};

/// How long the table may take over the farewell.
const FAREWELL: Duration = Duration::from_secs(5);
/// Between two tries to switch off.
const OFF_AGAIN: Duration = Duration::from_secs(10);
/// How long a machine that failed to boot stays, for the controller to read why.
const FAILURE_SHOWN: Duration = Duration::from_mins(1);

/// The machine is on its way out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Leaving {
    pub(super) reason: String,
    step: Step,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    /// The table is to be told, but not later than this.
    Tell { until: Duration },
    /// Off, at this instant.
    Off { at: Duration },
}

/// Whether the table is told before the machine goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Farewell {
    Told,
    /// It knows already, or cannot be told.
    Silent,
}

impl Leaving {
    pub(super) fn wake(&self) -> Duration {
        match self.step {
            Step::Tell { until } => until,
            Step::Off { at } => at,
        }
    }

    fn off(&mut self, now: Now) -> Effect {
        self.step = Step::Off {
            at: now.mono + OFF_AGAIN,
        };
        Effect::PowerOff(self.reason.clone())
    }
}

impl Machine {
    /// Counts anew when this state's time is over. The wall clock is only asked when the table
    /// answers; in between the other one counts, which does not jump.
    pub(super) fn count_expiry(&mut self, now: Now) {
        let grace = seconds(self.config.times.grace);
        self.expires = self
            .record
            .as_ref()
            .and_then(|record| record.threshold)
            .map(|threshold| {
                let left = threshold.since(now.wall);
                let past = now.wall.since(threshold);
                (now.mono + left + grace).saturating_sub(past)
            });
    }

    pub(super) fn check_deadlines(&mut self, now: Now) {
        if self.leaving.is_some() {
            return;
        }
        if let Some(record) = &self.record {
            if record.state == State::Terminated {
                let why = record.reason.as_deref().unwrap_or("no reason given");
                let reason = format!("the record says terminated: {why}");
                return self.go(reason, Farewell::Silent, now);
            }
            if matches!(self.boot, Boot::Failed { .. })
                && self.tenancy.listener.is_none()
                && record.says(proto::signal::Signal::Failed)
            {
                self.failure_told.get_or_insert(now.mono);
            }
        }
        if self
            .failure_told
            .is_some_and(|at| now.mono >= at + FAILURE_SHOWN)
        {
            return self.go("boot failed".to_owned(), Farewell::Silent, now);
        }
        if self.interrupted().is_some_and(|at| now.mono >= at) {
            let reason = self.noticed.ailment().unwrap_or_default();
            return self.go(reason, Farewell::Told, now);
        }
        if self.expires.is_some_and(|at| now.mono >= at) {
            let grace = human(seconds(self.config.times.grace));
            let reason = format!("the threshold passed {grace} ago and nobody ended this machine");
            return self.go(reason, Farewell::Told, now);
        }
        let (unclaimed, contact) = (self.unclaimed(), self.out_of_contact());
        let because = match &self.calls.trouble {
            Some(trouble) => format!(": {}", text::first_line(trouble)),
            None => String::new(),
        };
        if unclaimed.is_some_and(|at| now.mono >= at) {
            let time = human(seconds(self.config.times.unclaimed));
            let reason = format!("nobody wrote a record within {time}{because}");
            self.go(reason, Farewell::Silent, now);
        } else if now.mono >= contact {
            let time = human(seconds(self.config.times.contact));
            let reason = format!("the table was out of reach for {time}{because}");
            self.go(reason, Farewell::Silent, now);
        }
    }

    fn unclaimed(&self) -> Option<Duration> {
        self.recordless
            .map(|since| since + seconds(self.config.times.unclaimed))
    }

    fn out_of_contact(&self) -> Duration {
        self.calls.contact + seconds(self.config.times.contact)
    }

    pub(super) fn deadlines_wake(&self) -> Option<Duration> {
        [
            self.interrupted(),
            self.expires,
            self.failure_told.map(|at| at + FAILURE_SHOWN),
            self.unclaimed(),
            Some(self.out_of_contact()),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Begins to leave.
    fn go(&mut self, reason: String, farewell: Farewell, now: Now) {
        self.note(now, &format!("this machine ends itself: {reason}"));
        if self.is_interrupted()
            && let Some(generation) = self.record.as_ref().map(|record| record.generation)
        {
            self.say_interrupted(generation, now);
        }
        let step = match farewell {
            Farewell::Told => Step::Tell {
                until: now.mono + FAREWELL,
            },
            Farewell::Silent => Step::Off { at: now.mono },
        };
        self.leaving = Some(Leaving { reason, step });
    }

    /// The next step out.
    pub(super) fn leave(&mut self, now: Now) -> Option<Effect> {
        let leaving = self.leaving.as_mut()?;
        match &leaving.step {
            Step::Tell { until } if now.mono < *until => {
                if self.calls.under_way.is_some() {
                    return None;
                }
                self.calls.under_way = Some(Kind::Farewell);
                // The last word: why the run loses its machine.
                let health = Assign::Health(Health {
                    healthy: false,
                    reason: Some(leaving.reason.clone()),
                });
                let report = self.report.clone().map(Assign::Report);
                let farewell = Change::beat(now.wall, report.into_iter().chain([health]));
                Some(Effect::Table(Call::Change(farewell)))
            }
            Step::Tell { .. } => Some(leaving.off(now)),
            Step::Off { at } if now.mono >= *at => Some(leaving.off(now)),
            Step::Off { .. } => None,
        }
    }

    /// The table does not know. Refresh will find the machine gone.
    pub(super) fn farewell_failed(&mut self, now: Now) {
        if let Some(leaving) = &mut self.leaving {
            leaving.step = Step::Off { at: now.mono };
        }
    }

    /// The table knows; or it has given the machine more time meanwhile. It gives none to one whose
    /// threshold has passed, so what its answer says stays true.
    pub(super) fn farewell_answered(&mut self, answer: &Answer, now: Now) {
        let interrupted = self.is_interrupted();
        let Some(leaving) = &mut self.leaving else {
            return;
        };
        let threshold = answer.record.as_ref().and_then(|record| record.threshold);
        let spared = !interrupted && threshold.is_some_and(|threshold| threshold > now.wall);
        if spared {
            tracing::info!("the table has given this machine more time: it stays");
            self.leaving = None;
        } else {
            leaving.step = Step::Off { at: now.mono };
        }
    }
}
