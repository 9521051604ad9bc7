//! A step as the table is asked for it: what must hold, and what is written then.

use super::{RECORD_KEPT, State, Terminate, Transition};
use crate::{
    change::{Assign, Change, Clause},
    instance::InstanceRecord,
    signal::Signal,
    time::Time,
};

impl Transition {
    /// This step as one conditional write at `now`.
    pub fn change(&self, now: Time) -> Change {
        let sources: Vec<State> = State::ALL
            .into_iter()
            .filter(|from| self.target(*from).is_ok())
            .collect();
        let mut when = vec![Clause::StateIn(sources)];
        let mut set = vec![Assign::NextGeneration, Assign::Since(now)];
        match self {
            Self::Claim {
                label,
                token,
                timeout,
            } => {
                when.extend([
                    Clause::NoLabel,
                    Clause::ThresholdAfter(now),
                    // A doubled message may offer a machine that is still at its last run's job.
                    Clause::Clean,
                ]);
                set.extend([
                    Assign::State(State::Claimed),
                    Assign::Label(Some(label.clone())),
                    Assign::Threshold(Some(now + *timeout)),
                    Assign::Token(Some(token.clone())),
                ]);
            }
            Self::Commit {
                label,
                generation,
                healthy_within,
                max_runtime,
            } => {
                when.extend([
                    Clause::LabelIs(label.clone()),
                    Clause::GenerationIs(*generation),
                    Clause::Reported(Signal::RegOk, *generation),
                    Clause::BeatAfter(now - *healthy_within),
                    Clause::ThresholdAfter(now),
                ]);
                set.extend([
                    Assign::State(State::Running),
                    Assign::Threshold(Some(now + *max_runtime)),
                ]);
            }
            Self::Pool {
                generation,
                healthy_within,
                idle_time,
            } => {
                when.extend([
                    Clause::NoLabel,
                    Clause::GenerationIs(*generation),
                    Clause::Reported(Signal::Ok, *generation),
                    Clause::BeatAfter(now - *healthy_within),
                    Clause::ThresholdAfter(now),
                ]);
                set.extend([
                    Assign::State(State::Idle),
                    Assign::Threshold(Some(now + *idle_time)),
                ]);
            }
            Self::Release {
                label,
                generation,
                token,
                idle_time,
            } => {
                when.extend([Clause::LabelIs(label.clone()), Clause::ThresholdAfter(now)]);
                when.extend(generation.map(Clause::GenerationIs));
                when.extend(token.is_some().then_some(Clause::NoJob));
                set.extend([
                    Assign::State(State::Idle),
                    Assign::Label(None),
                    Assign::Threshold(Some(now + *idle_time)),
                    Assign::Token(token.clone()),
                ]);
            }
            Self::Terminate { reason, only } => {
                when.extend(match only {
                    Terminate::Expired => vec![Clause::ThresholdReached(now)],
                    Terminate::Of(label) => vec![Clause::LabelIs(label.clone())],
                    Terminate::Generation(generation) => vec![Clause::GenerationIs(*generation)],
                    Terminate::Free(generation) => {
                        vec![Clause::GenerationIs(*generation), Clause::NoJob]
                    }
                });
                set.extend([
                    Assign::State(State::Terminated),
                    Assign::Threshold(None),
                    Assign::Token(None),
                    Assign::Reason(reason.clone()),
                    Assign::ExpiresAt(now + RECORD_KEPT),
                ]);
            }
        }
        Change { when, set }
    }

    /// Whether the record already stands where this step leads: then a refused repeat (the first
    /// try was applied, its answer was lost) is a success.
    pub fn is_done(&self, record: &InstanceRecord) -> bool {
        match self {
            Self::Claim { label, .. } => {
                record.state == State::Claimed && record.label.as_ref() == Some(label)
            }
            Self::Commit {
                label, generation, ..
            } => {
                record.state == State::Running
                    && record.label.as_ref() == Some(label)
                    && record.generation == generation + 1
            }
            Self::Pool { generation, .. } => {
                record.state == State::Idle && record.generation == generation + 1
            }
            Self::Release { generation, .. } => {
                record.state == State::Idle
                    && record.label.is_none()
                    && generation.is_some_and(|generation| record.generation == generation + 1)
            }
            Self::Terminate { .. } => record.state == State::Terminated,
        }
    }
}
