//! What EC2 announces: that it takes this spot machine away, or that it may.
//!
//! A machine that is taken away takes no job any more: its listener is stopped once it is idle, and
//! then the machine ends itself. A job that runs, or came first, may run until shortly before EC2
//! takes the machine. One that may be taken away serves its run to the end and is not handed out
//! again.

use std::time::Duration;

use proto::{signal::Signal, time::Time};

use super::{Effect, Machine, Notices, Now, tenancy::Phase};

/// EC2 gives at most this much notice: a wall clock that is wrong makes it no more.
const LONGEST_NOTICE: Duration = Duration::from_mins(2);
/// How long before the end the job has to be over: time to tell the table and to switch off.
const JOB_ENDS_BEFORE: Duration = Duration::from_secs(20);
/// A listener that still runs so long after it was to stop had a worker then: it is asked again.
const DISMISS_AGAIN: Duration = Duration::from_secs(1);

/// What EC2 has announced so far. It never takes anything back.
#[derive(Debug, Default)]
pub(super) struct Noticed {
    interruption: Option<Interruption>,
    rebalance: bool,
    /// When the listener is to be asked to stop again.
    dismiss_again: Duration,
}

#[derive(Debug)]
struct Interruption {
    at: Time,
    /// The same by the clock that does not jump.
    ends: Duration,
}

impl Noticed {
    /// Why the machine must not be handed out, by what EC2 says.
    pub(super) fn ailment(&self) -> Option<String> {
        if let Some(Interruption { at, .. }) = &self.interruption {
            return Some(format!("EC2 takes this spot machine away at {at}"));
        }
        self.rebalance
            .then(|| "EC2 recommends to move away from this spot machine".to_owned())
    }
}

impl Machine {
    pub(super) fn noticed(&mut self, notices: Notices, now: Now) {
        if let Some(at) = notices.interruption
            && self.noticed.interruption.is_none()
        {
            let ends = now.mono + at.since(now.wall).min(LONGEST_NOTICE);
            self.noticed.interruption = Some(Interruption { at, ends });
        }
        self.noticed.rebalance |= notices.rebalance;
        if let Some(announced) = self.noticed.ailment() {
            self.note(now, &announced);
        }
    }

    pub(super) fn is_interrupted(&self) -> bool {
        self.noticed.interruption.is_some()
    }

    /// When a machine that EC2 takes away ends itself.
    pub(super) fn interrupted(&self) -> Option<Duration> {
        let Interruption { ends, .. } = self.noticed.interruption.as_ref()?;
        let latest = ends.saturating_sub(JOB_ENDS_BEFORE);
        let listens = self.tenancy.listener.is_some() || self.tenancy.phase == Phase::Starting;
        let holds = self.job.is_some() || listens;
        Some(if holds { latest } else { Duration::ZERO })
    }

    /// When the listener of a machine that is taken away is to stop. It tells GitHub the result of a
    /// job that just ended before it does.
    pub(super) fn dismiss_at(&self) -> Option<Duration> {
        let idle = self.tenancy.listener.is_some() && self.job.is_none();
        (idle && self.is_interrupted()).then_some(self.noticed.dismiss_again)
    }

    /// Stops the listener of a machine that is taken away: GitHub must give it nothing any more. It
    /// cannot be deregistered: what that takes was deleted before the first job could read it.
    pub(super) fn dismiss(&mut self, now: Now) -> Option<Effect> {
        self.dismiss_at().filter(|at| now.mono >= *at)?;
        self.noticed.dismiss_again = now.mono + DISMISS_AGAIN;
        self.tenancy.listener.map(Effect::Dismiss)
    }

    /// Says that EC2 takes the machine away, whatever else there would be to say.
    pub(super) fn say_interrupted(&mut self, generation: u64, now: Now) {
        let detail = self.noticed.ailment();
        self.say(Signal::Interrupted, generation, detail.as_deref(), now);
    }
}
