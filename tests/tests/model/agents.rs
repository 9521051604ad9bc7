//! The machine's agent and its runner.

use agent::machine::tenant_of;
use proto::signal::Signal;

use super::row::{Row, Run};

/// For whom a runner is, and the generation in which its run claimed the machine.
pub(crate) type Tenant = (Run, u64);

/// Where the runner stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) enum Runner {
    #[default]
    None,
    Registering(Tenant),
    /// GitHub may give it jobs.
    Listening(Tenant),
    /// Is being deregistered; GitHub refuses while a job runs.
    Removing(Tenant),
}

/// The agent.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Agent {
    /// What it last saw: the tenant, and the generation.
    seen: (Option<Tenant>, u64),
    pub(crate) runner: Runner,
    pub(crate) job: bool,
    /// What it has to say.
    says: (Signal, u64),
}

impl Default for Agent {
    fn default() -> Self {
        Self {
            seen: (None, 1),
            runner: Runner::None,
            job: false,
            says: (Signal::RemoveRegOk, 1),
        }
    }
}

/// A step of the agent's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Move {
    /// Writes what it has to say and reads the record, in one call.
    Beat,
    Register,
    Registered,
    Part,
    Removed,
    /// There was no runner to remove.
    IsClean,
}

impl Agent {
    pub(crate) fn listens_for(&self) -> Option<Tenant> {
        match self.runner {
            Runner::Listening(tenant) | Runner::Removing(tenant) => Some(tenant),
            Runner::None | Runner::Registering(_) => None,
        }
    }

    fn of(row: &Row) -> Option<Tenant> {
        let record = row.record();
        let (_, generation) = tenant_of(&record)?;
        Some((row.run?, generation))
    }

    /// Whether the record shows all that it has to say, and it has seen all of the record.
    pub(crate) fn is_up_to_date(&self, row: &Row) -> bool {
        row.said == Some(self.says)
            && row.job == self.job
            && self.seen == (Self::of(row), row.generation)
    }

    pub(crate) fn moves(&self, row: &Row) -> Vec<Move> {
        let mut moves = Vec::new();
        if !self.is_up_to_date(row) {
            moves.push(Move::Beat);
        }
        let (wanted, generation) = self.seen;
        match self.runner {
            Runner::None => match wanted {
                Some(_) => moves.push(Move::Register),
                None if self.says != (Signal::RemoveRegOk, generation) => {
                    moves.push(Move::IsClean);
                }
                None => {}
            },
            Runner::Registering(_) => moves.push(Move::Registered),
            Runner::Listening(tenant) => {
                if wanted != Some(tenant) && !self.job {
                    moves.push(Move::Part);
                }
            }
            Runner::Removing(_) => moves.push(Move::Removed),
        }
        moves
    }

    pub(crate) fn play(&mut self, step: Move, row: &mut Row) {
        let (wanted, generation) = self.seen;
        match (step, self.runner) {
            (Move::Beat, _) => {
                row.said = Some(self.says);
                row.job = self.job;
                self.seen = (Self::of(row), row.generation);
            }
            (Move::Register, _) => {
                self.runner = wanted.map_or(Runner::None, Runner::Registering);
            }
            (Move::Registered, Runner::Registering(tenant)) => {
                self.runner = Runner::Listening(tenant);
                self.says = (Signal::RegOk, tenant.1);
            }
            (Move::Part, Runner::Listening(tenant)) => self.runner = Runner::Removing(tenant),
            (Move::Removed, Runner::Removing(tenant)) if self.job => {
                self.runner = Runner::Listening(tenant);
            }
            (Move::Removed | Move::IsClean, _) => {
                self.runner = Runner::None;
                if wanted.is_none() {
                    self.says = (Signal::RemoveRegOk, generation);
                }
            }
            (Move::Registered | Move::Part, _) => {}
        }
    }
}
