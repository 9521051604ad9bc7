//! A run's controller: provision and, later, release. Its writes fly by themselves, and may arrive
//! after it died.

use std::time::Duration;

use controller::release::{Verdict, judge};
use proto::{
    instance::{InstanceRecord, Secret},
    signal::Signal,
    state::{Terminate, Transition},
};

use super::row::{Run, Written};

const SOON: Duration = Duration::from_hours(1);

/// A conditional write on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Write {
    Claim(Run),
    Commit(Run, u64),
    Release(Run, u64),
    /// Of a machine that the run still has.
    End(Run),
    /// Of a machine that did not come clean, or that is not wanted in the pool.
    EndOfGeneration(u64),
    EndOfExpired,
}

impl Write {
    pub(crate) fn step(self) -> Transition {
        let end = |only| Transition::Terminate {
            reason: String::new(),
            only,
        };
        match self {
            Self::Claim(run) => Transition::Claim {
                label: run.label(),
                token: Secret::new("token"),
                timeout: SOON,
            },
            Self::Commit(run, generation) => Transition::Commit {
                label: run.label(),
                generation,
                healthy_within: SOON,
                max_runtime: SOON,
            },
            Self::Release(run, generation) => Transition::Release {
                label: run.label(),
                generation: Some(generation),
                token: None,
                idle_time: SOON,
            },
            Self::End(run) => end(Terminate::Of(run.label())),
            Self::EndOfGeneration(generation) => end(Terminate::Generation(generation)),
            Self::EndOfExpired => end(Terminate::Expired),
        }
    }
}

/// How far a run has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) enum At {
    /// Has not looked into the queue.
    #[default]
    Begin,
    /// Has sent a write and waits for its answer.
    Writing(Write),
    /// Has claimed the machine and waits until its runner listens.
    Waiting(u64),
    /// Its jobs run.
    Serving(u64),
    /// Has let go of the machine and waits until it is clean.
    Cleaning(u64),
    /// Knows that it is clean and has not listed it yet.
    Listing,
    Over,
}

/// One run's controller.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Controller {
    pub(crate) at: At,
    /// Holds a message.
    pub(crate) lease: bool,
    pub(crate) dead: bool,
}

impl Controller {
    /// Whether the run still wants the machine that it has.
    pub(crate) fn wants(&self, run: Run) -> bool {
        match self.at {
            At::Serving(_) => true,
            At::Writing(Write::Claim(of) | Write::Commit(of, _)) => of == run && !self.dead,
            At::Waiting(_) => !self.dead,
            At::Begin
            | At::Writing(
                Write::Release(..)
                | Write::End(_)
                | Write::EndOfGeneration(_)
                | Write::EndOfExpired,
            )
            | At::Cleaning(_)
            | At::Listing
            | At::Over => false,
        }
    }

    /// Whether refresh finds its journal open and its beat stopped.
    pub(crate) fn left_open(&self) -> bool {
        match self.at {
            At::Writing(_) | At::Waiting(_) | At::Cleaning(_) | At::Listing => self.dead,
            At::Begin | At::Serving(_) | At::Over => false,
        }
    }

    /// What it may decide next, by what it sees in the table.
    pub(crate) fn choices(&self, run: Run, record: &InstanceRecord) -> Vec<At> {
        if self.dead {
            return Vec::new();
        }
        match self.at {
            At::Begin if self.lease => vec![At::Writing(Write::Claim(run))],
            At::Waiting(generation) => {
                // A roll-back, or the deadline.
                let mut choices = vec![
                    At::Writing(Write::Release(run, generation)),
                    At::Writing(Write::End(run)),
                ];
                if record.generation == generation && record.says(Signal::RegOk) {
                    choices.push(At::Writing(Write::Commit(run, generation)));
                }
                choices
            }
            At::Serving(generation) => vec![At::Writing(Write::Release(run, generation))],
            At::Cleaning(generation) => match judge(Some(record), generation) {
                Verdict::Clean => vec![At::Listing],
                Verdict::Gone => vec![At::Over],
                Verdict::Busy | Verdict::Waiting | Verdict::Unfit(_) => {
                    vec![At::Writing(Write::EndOfGeneration(generation))]
                }
            },
            At::Begin | At::Writing(_) | At::Listing | At::Over => Vec::new(),
        }
    }

    /// The answer to its write is there.
    pub(crate) fn hears(&mut self, write: Write, answer: Written) {
        let current = match answer {
            Written::Applied(record) => Some(record),
            // Its own first try, whose answer was lost.
            Written::Refused(record) => Some(record).filter(|r| write.step().is_done(r)),
        };
        self.at = match (write, current) {
            (Write::Claim(_), Some(record)) => At::Waiting(record.generation),
            (Write::Commit(..), Some(record)) => At::Serving(record.generation),
            (Write::Commit(run, _), None) => At::Writing(Write::End(run)),
            (Write::Release(..), Some(record)) => At::Cleaning(record.generation),
            (Write::Claim(_) | Write::Release(..), None)
            | (Write::End(_) | Write::EndOfGeneration(_) | Write::EndOfExpired, _) => At::Over,
        };
    }
}
