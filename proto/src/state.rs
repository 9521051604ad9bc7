//! The states of a machine, and the one function that moves between them.
//!
//! ```text
//!                    ┌────────── Commit ──────────┐
//!   Launch ──▶ created ── Pool ──▶ idle ── Claim ──▶ claimed ── Commit ──▶ running
//!                                   ▲                  │                     │
//!                                   └──── Release ─────┴───────  Release  ───┘
//!   any of them ── Terminate ──▶ terminated
//! ```
//!
//! [`Transition::target`] is the table. [`Transition::change`], in `write`, turns a transition into one
//! conditional write; whatever the condition does not ask for, another program may have changed.
//!
//! All steps are the controller's: a machine's role may write none of what they write. Once its
//! threshold has passed, a machine can only be terminated. So its agent may then switch it off
//! without asking anybody: see [`crate::instance`].

mod write;

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{ids::Label, instance::Secret};

/// How long the record of a terminated machine is kept.
pub const RECORD_KEPT: Duration = Duration::from_hours(7 * 24);

/// Where a machine stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Launched for a provision (or for the floor); not yet registered.
    Created,
    /// Warm and free, listed in the queue.
    Idle,
    /// Taken by a provision; not yet registered.
    Claimed,
    /// Serves its run's jobs.
    Running,
    /// Gone, or on its way out. Final.
    Terminated,
}

impl State {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Created,
        Self::Idle,
        Self::Claimed,
        Self::Running,
        Self::Terminated,
    ];

    /// All but `Terminated`.
    pub const LIVE: [Self; 4] = [Self::Created, Self::Idle, Self::Claimed, Self::Running];

    /// The name as the table holds it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Idle => "idle",
            Self::Claimed => "claimed",
            Self::Running => "running",
            Self::Terminated => "terminated",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A step from one state to the next. (The first one, the launch, is an insert:
/// [`crate::table::Table::insert_instance`].)
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transition {
    /// A provision takes an idle machine.
    Claim {
        /// For whom.
        label: Label,
        /// GitHub's registration token.
        token: Secret,
        /// How long it may stay claimed: until all machines of the provision are registered.
        timeout: Duration,
    },
    /// A provision is content with a machine that registered.
    Commit {
        /// Whose it must be.
        label: Label,
        /// The generation whose `UD_REG_OK` was seen.
        generation: u64,
        /// How old the last beat may be.
        healthy_within: Duration,
        /// How long the run may keep it.
        max_runtime: Duration,
    },
    /// The floor pools a machine that was launched without a run.
    Pool {
        /// The generation whose `UD_OK` was seen.
        generation: u64,
        /// How old the last beat may be.
        healthy_within: Duration,
        /// How long it may stay idle.
        idle_time: Duration,
    },
    /// A run (or a roll-back) gives its machine back.
    Release {
        /// Whose it must be.
        label: Label,
        /// The generation in which its run has it, where that is known: a repeat then tells its
        /// own release from a later one by another run.
        generation: Option<u64>,
        /// GitHub's removal token. With it the machine must have no job, which could read it; see
        /// [`crate::change::Change::hand_token`].
        token: Option<Secret>,
        /// How long it may stay idle.
        idle_time: Duration,
    },
    /// The end.
    Terminate {
        /// For the record.
        reason: String,
        /// What must hold besides.
        only: Terminate,
    },
}

/// Under what condition a machine may be terminated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Terminate {
    /// Its threshold has passed: read and written as one condition, so that a machine that was
    /// claimed a moment ago is left alone.
    Expired,
    /// It still bears this label: a provision or a release ends its own machine.
    Of(Label),
    /// It is still in the generation that was looked at.
    Generation(u64),
    /// The same, and no job runs: a released machine is idle while its last job ends.
    Free(u64),
}

/// No such step.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a {from} machine cannot {step}")]
pub struct Illegal {
    /// Where the machine stands.
    pub from: State,
    /// What was wanted of it.
    pub step: &'static str,
}

impl Transition {
    /// The whole table: where this step leads from `from`.
    ///
    /// # Errors
    ///
    /// [`Illegal`] when the step does not exist from there.
    pub fn target(&self, from: State) -> Result<State, Illegal> {
        match (self, from) {
            (Self::Claim { .. }, State::Idle) => Ok(State::Claimed),
            (Self::Commit { .. }, State::Created | State::Claimed) => Ok(State::Running),
            (Self::Pool { .. }, State::Created)
            | (Self::Release { .. }, State::Claimed | State::Running) => Ok(State::Idle),
            (
                Self::Terminate { .. },
                State::Created | State::Idle | State::Claimed | State::Running,
            ) => Ok(State::Terminated),
            (Self::Claim { .. }, State::Created | State::Claimed | State::Running)
            | (Self::Commit { .. }, State::Idle | State::Running)
            | (Self::Pool { .. }, State::Idle | State::Claimed | State::Running)
            | (Self::Release { .. }, State::Created | State::Idle)
            | (
                Self::Claim { .. }
                | Self::Commit { .. }
                | Self::Pool { .. }
                | Self::Release { .. }
                | Self::Terminate { .. },
                State::Terminated,
            ) => Err(Illegal {
                from,
                step: self.name(),
            }),
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Claim { .. } => "be claimed",
            Self::Commit { .. } => "start to serve a run",
            Self::Pool { .. } => "be pooled",
            Self::Release { .. } => "be released",
            Self::Terminate { .. } => "be terminated",
        }
    }
}

#[cfg(test)]
mod tests {
    use State::{Claimed, Created, Idle, Running, Terminated};

    use super::*;
    use crate::{
        change::{Assign, Clause},
        instance::InstanceRecord,
        time::Time,
    };

    fn every_step() -> Vec<Transition> {
        let label: Label = "7".parse().unwrap();
        let second = Duration::from_secs(1);
        vec![
            Transition::Claim {
                label: label.clone(),
                token: Secret::new("t"),
                timeout: second,
            },
            Transition::Commit {
                label: label.clone(),
                generation: 1,
                healthy_within: second,
                max_runtime: second,
            },
            Transition::Pool {
                generation: 1,
                healthy_within: second,
                idle_time: second,
            },
            Transition::Release {
                label,
                generation: None,
                token: None,
                idle_time: second,
            },
            Transition::Terminate {
                reason: "test".into(),
                only: Terminate::Expired,
            },
        ]
    }

    #[test]
    fn the_table_is_the_design() {
        let allowed: Vec<(usize, State, State)> = every_step()
            .iter()
            .enumerate()
            .flat_map(|(i, step)| {
                State::ALL
                    .into_iter()
                    .filter_map(move |from| Some((i, from, step.target(from).ok()?)))
            })
            .collect();
        assert_eq!(
            allowed,
            [
                (0, Idle, Claimed),
                (1, Created, Running),
                (1, Claimed, Running),
                (2, Created, Idle),
                (3, Claimed, Idle),
                (3, Running, Idle),
                (4, Created, Terminated),
                (4, Idle, Terminated),
                (4, Claimed, Terminated),
                (4, Running, Terminated),
            ]
        );
    }

    #[test]
    fn each_write_asks_for_its_source_states_and_counts_the_generation() {
        for step in every_step() {
            let change = step.change(Time::from_millis(0));
            let Clause::StateIn(sources) = &change.when[0] else {
                panic!("{step:?} does not ask for a state")
            };
            assert!(sources.iter().all(|from| step.target(*from).is_ok()));
            assert!(change.set.contains(&Assign::NextGeneration));
        }
    }

    #[test]
    fn once_its_threshold_has_passed_a_machine_can_only_end() {
        let now = Time::from_millis(0);
        for step in every_step() {
            let asks = step.change(now).when.contains(&Clause::ThresholdAfter(now));
            let ends = matches!(step, Transition::Terminate { .. });
            assert_ne!(asks, ends, "{step:?}");
        }
    }

    #[test]
    fn a_release_is_done_in_its_own_generation_alone() {
        let release = |generation| Transition::Release {
            label: "7".parse().unwrap(),
            generation,
            token: None,
            idle_time: Duration::from_secs(1),
        };
        let idle = InstanceRecord {
            generation: 4,
            ..InstanceRecord::example(State::Idle)
        };
        assert!(release(Some(3)).is_done(&idle));
        assert!(!release(Some(1)).is_done(&idle), "another run had it since");
        assert!(!release(None).is_done(&idle), "nobody can tell");
    }

    #[test]
    fn an_illegal_step_says_so() {
        let error = every_step()[0].target(State::Running).unwrap_err();
        assert_eq!(error.to_string(), "a running machine cannot be claimed");
    }
}
