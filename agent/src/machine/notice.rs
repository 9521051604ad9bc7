//! What EC2 announces: that it takes this spot machine away, or that it may.
//!
//! A machine that is taken away takes no job any more: its listener is stopped, and once no job runs
//! the machine ends itself. A job that runs, or came first, may run until shortly before EC2 takes the
//! machine. One that may be taken away serves its run to the end and is not handed out
//! again.

use std::time::Duration;

use proto::{signal::Signal, time::Time};

use super::{Effect, Machine, Notices, Now, tenancy::Phase};

/// EC2 gives at most this much notice: a wall clock that is wrong makes it no more.
const LONGEST_NOTICE: Duration = Duration::from_mins(2);
/// How long before the end the job has to be over: time to tell the table and to switch off.
const JOB_ENDS_BEFORE: Duration = Duration::from_secs(20);
/// A listener that was silent for so long has given its worker the job that it has, and is not about
/// to take one: a worker shows, and reads its job, within few seconds of the listener's word for it.
const SETTLED: Duration = Duration::from_secs(5);
/// So long before the last moment of a job a listener is stopped although it never settles.
const HASTE_BEFORE: Duration = Duration::from_secs(30);
/// When a listener that still runs after it was dismissed is dismissed again.
const DISMISS_AGAIN: Duration = Duration::from_secs(1);

/// What EC2 has announced so far. It never takes anything back.
#[derive(Debug, Default)]
pub(super) struct Noticed {
    interruption: Option<Interruption>,
    rebalance: bool,
    /// When the listener is to be dismissed again.
    dismiss_again: Duration,
}

#[derive(Debug)]
struct Interruption {
    at: Time,
    /// The same by the clock that does not jump.
    ends: Duration,
}

impl Interruption {
    /// When the job has to be over.
    fn latest(&self) -> Duration {
        self.ends.saturating_sub(JOB_ENDS_BEFORE)
    }
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
        let latest = self.noticed.interruption.as_ref()?.latest();
        let listens = self.tenancy.listener.is_some() || self.tenancy.phase == Phase::Starting;
        let holds = self.job.is_some() || listens;
        Some(if holds { latest } else { Duration::ZERO })
    }

    /// When the listener of a machine that is taken away is to be dismissed.
    pub(super) fn dismiss_at(&self) -> Option<Duration> {
        let latest = self.noticed.interruption.as_ref()?.latest();
        self.tenancy.listener?;
        let settled = self.tenancy.spoke + SETTLED;
        let at = settled.min(latest.saturating_sub(HASTE_BEFORE));
        Some(at.max(self.noticed.dismiss_again))
    }

    /// Dismisses the listener of a machine that is taken away: it must take nothing any more. It
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
