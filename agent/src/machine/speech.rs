//! Which signal the record should show, decided from the present situation alone.

use proto::{signal::Signal, state::State};

use super::{
    Boot, Machine, Now,
    tenancy::{Phase, tenant_of},
};

impl Machine {
    /// Notes the signal that fits the present situation.
    pub(super) fn speak(&mut self, now: Now) {
        let Some(record) = &self.record else {
            return;
        };
        let (state, generation) = (record.state, record.generation);
        if state == State::Terminated {
            return;
        }
        if self.is_interrupted() {
            return self.say_interrupted(generation, now);
        }
        match &self.boot {
            Boot::Running => return,
            // What lives has booted, whatever a later look found.
            Boot::Failed { .. } if self.tenancy.listener.is_some() => return,
            Boot::Failed { detail } => {
                let detail = detail.clone();
                return self.say(Signal::Failed, generation, Some(&detail), now);
            }
            Boot::Done { .. } => {}
        }
        let wanted = tenant_of(record);
        let mine = self.still_wanted() == Some(true);
        match (&self.tenancy.phase, wanted) {
            // Whoever is told that the machine is ready must know whether it is fit.
            (Phase::Empty, None) if !self.is_examined() => {}
            // A machine that was never given to anybody.
            (Phase::Empty, None) if state == State::Created => {
                self.say(Signal::Ok, generation, None, now);
            }
            // Released, even if so soon that there was nothing to undo.
            (Phase::Empty, None) if state == State::Idle => {
                self.say(Signal::RemoveRegOk, generation, None, now);
            }
            (Phase::Listening, Some((_, generation))) if mine && state != State::Running => {
                self.say(Signal::RegOk, generation, None, now);
            }
            (Phase::Failed { cause }, Some((_, generation))) if mine => {
                let cause = cause.clone();
                self.say(Signal::RegFailed, generation, Some(&cause), now);
            }
            (Phase::Stuck { cause }, Some((_, generation))) => {
                let cause = cause.clone();
                self.say(Signal::RegFailed, generation, Some(&cause), now);
            }
            (Phase::Stuck { cause }, None) => {
                let cause = cause.clone();
                self.say(Signal::RemoveRegFailed, generation, Some(&cause), now);
            }
            (
                Phase::Empty
                | Phase::Configuring
                | Phase::Paused { .. }
                | Phase::Starting
                | Phase::Listening
                | Phase::Failed { .. }
                | Phase::Removing
                | Phase::RemovePaused { .. }
                | Phase::Retiring,
                Some(_) | None,
            ) => {}
        }
    }
}
