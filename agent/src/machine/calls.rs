//! Which call to the table is due. There is never more than one under way, so answers come in
//! order and slow ones cannot pile up.
//!
//! What the agent has to say is the difference between the record as last seen and what it should
//! show. So whatever was lost on the way, or overwritten, is simply said again.

use std::time::Duration;

use proto::{
    change::{Assign, Change},
    instance::InstanceRecord,
    time::Time,
};

use super::{Answer, Call, Machine, Now, seconds};

/// The first pause after a call that failed; doubled from then on, up to a heartbeat.
const FIRST_PAUSE: Duration = Duration::from_millis(250);

/// What kind of call is under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Look,
    Beat { at: Time, said: Vec<Assign> },
    Forget,
    Farewell,
}

/// The traffic with the table.
#[derive(Debug, Default)]
pub(super) struct Calls {
    pub(super) under_way: Option<Kind>,
    /// When the table last answered.
    pub(super) contact: Duration,
    pub(super) last_beat: Option<Time>,
    next_look: Duration,
    next_beat: Duration,
    /// No call before this.
    pause_until: Duration,
    failures: u32,
    /// Why the table did not answer, as long as it does not.
    pub(super) trouble: Option<String>,
    /// What the last successful beat said. If the record still differs by just that, saying it
    /// again at once would not help.
    said: Vec<Assign>,
}

impl Machine {
    /// Takes the table's answer in.
    pub(super) fn answered(&mut self, answer: Result<Answer, String>, now: Now) {
        let kind = self.calls.under_way.take();
        let answer = match answer {
            Ok(answer) => answer,
            Err(cause) => {
                self.calls.failures += 1;
                let factor = 1 << self.calls.failures.min(6);
                let longest = seconds(self.config.times.heartbeat).max(FIRST_PAUSE);
                let pause = (FIRST_PAUSE * factor / 2).min(longest);
                self.calls.pause_until = now.mono + self.about(pause, self.calls.failures);
                if matches!(kind, Some(Kind::Beat { .. })) {
                    self.calls.next_beat = self.calls.pause_until;
                }
                if kind == Some(Kind::Farewell) {
                    self.farewell_failed(now);
                }
                self.note(now, &cause);
                self.calls.trouble = Some(cause);
                return;
            }
        };
        self.calls.failures = 0;
        self.calls.trouble = None;
        self.calls.contact = now.mono;
        self.calls.next_look = now.mono + seconds(self.config.times.look);
        match kind {
            Some(Kind::Beat { at, said }) if answer.applied => {
                self.calls.last_beat = Some(at);
                self.calls.said = said;
            }
            Some(Kind::Farewell) => self.farewell_answered(&answer, now),
            Some(Kind::Beat { .. } | Kind::Look | Kind::Forget) | None => {}
        }
        self.see(answer.record, now);
    }

    fn see(&mut self, record: Option<Box<InstanceRecord>>, now: Now) {
        match &record {
            None => {
                self.recordless.get_or_insert(now.mono);
            }
            Some(new) => {
                self.recordless = None;
                if let Some(old) = &self.record
                    && new.generation < old.generation
                {
                    return;
                }
                if self.record.as_ref().map(|old| old.generation) != Some(new.generation) {
                    tracing::info!(
                        state = %new.state,
                        label = new.label.as_ref().map(tracing::field::display),
                        generation = new.generation,
                        "the record says"
                    );
                }
            }
        }
        if record.is_some() {
            self.record = record;
            self.count_expiry(now);
        }
    }

    /// The call that is due, if any.
    pub(super) fn call(&mut self, now: Now) -> Option<Call> {
        if self.calls.under_way.is_some() || now.mono < self.calls.pause_until {
            return None;
        }
        let (kind, call) = self.choose(now)?;
        if matches!(kind, Kind::Beat { .. }) {
            self.calls.next_beat = now.mono + seconds(self.config.times.heartbeat);
        }
        self.calls.under_way = Some(kind);
        Some(call)
    }

    fn choose(&self, now: Now) -> Option<(Kind, Call)> {
        let look = || (now.mono >= self.calls.next_look).then_some((Kind::Look, Call::Look));
        let Some(record) = self.record.as_ref().filter(|_| self.recordless.is_none()) else {
            return look();
        };
        let also = self.difference(record);
        let urgent = !also.is_empty() && also != self.calls.said;
        if urgent || now.mono >= self.calls.next_beat {
            let change = Change::beat(now.wall, also.clone());
            let kind = Kind::Beat {
                at: now.wall,
                said: also,
            };
            return Some((kind, Call::Change(change)));
        }
        if let Some(token) = record.token.clone()
            && self.token_is_used(record)
        {
            let change = Change::forget_token(token, record.heartbeat);
            return Some((Kind::Forget, Call::Change(change)));
        }
        if self.job.is_none() { look() } else { None }
    }

    /// What the record should show and does not.
    fn difference(&self, record: &InstanceRecord) -> Vec<Assign> {
        let differs = |own: bool| own.then_some(());
        let report = self
            .report
            .clone()
            .filter(|report| record.report.as_ref() != Some(report));
        let runner = self
            .runner()
            .filter(|runner| record.runner.as_ref() != Some(runner));
        let health = self
            .health()
            .filter(|health| record.health.as_ref() != Some(health));
        report
            .map(Assign::Report)
            .into_iter()
            .chain(runner.map(Assign::Runner))
            .chain(health.map(Assign::Health))
            .chain(differs(record.job != self.job).map(|()| Assign::Job(self.job.clone())))
            .chain(
                self.jobs
                    .filter(|jobs| record.jobs != *jobs)
                    .map(Assign::Jobs),
            )
            .collect()
    }

    /// When the next call is due; none while one is under way.
    pub(super) fn calls_wake(&self) -> Option<Duration> {
        if self.calls.under_way.is_some() {
            return None;
        }
        let known = self.record.is_some() && self.recordless.is_none();
        let looks = self.job.is_none() || !known;
        let look = looks.then_some(self.calls.next_look);
        let beat = known.then_some(self.calls.next_beat);
        let next = look.into_iter().chain(beat).min()?;
        Some(next.max(self.calls.pause_until))
    }
}
