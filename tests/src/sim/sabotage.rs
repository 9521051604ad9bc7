//! Deliberate bugs, each a decorator over a port of the programs: so production code stays clean
//! of them. A simulation that does not find them proves nothing.

mod fleet;
mod host;
mod metadata;
mod pool;
mod table;

use std::{
    fmt,
    sync::{Arc, Mutex},
};

use agent::ports::{Host, Metadata};
use controller::ports::{Fleet, Pool};
use proto::table::Table;

use self::{
    fleet::SabotagedFleet, host::SabotagedHost, metadata::SabotagedMetadata, pool::SabotagedPool,
    table::SabotagedTable,
};
use super::{
    Outcome, cloud::SimFleet, fault::words, host::SimHost, machine::SimMetadata, process::Process,
    queue::SimPool, simulate, table::SimTable,
};

/// A deliberate bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sabotage {
    /// A message is deleted when it is received, not once its machine is claimed.
    DeleteOnReceive,
    /// The journal is written after the step that it announces.
    JournalAfterTheCall,
    /// A release or a roll-back does not deregister the runner.
    NoDeregistration,
    /// Whoever wants a machine takes it.
    ClaimWithoutCondition,
    /// Whoever wants a machine to end ends it, whatever has become of it meanwhile.
    TerminateWithoutCondition,
    /// A release lists its machines in the queue without waiting until they are clean.
    ReleaseWithoutWaiting,
    /// Each try of a fleet request has a client token of its own.
    NewTokenForEachTry,
    /// Only the first of several machines is terminated.
    TerminateTheFirstOnly,
    /// Nobody finishes what a controller that died has begun.
    JournalsAreNeverFinished,
    /// A machine that EC2 has taken stays idle for ever: records are never closed.
    RecordsAreNeverClosed,
    /// A recommendation to move away is taken for an interruption.
    RecommendationEndsTheMachine,
    /// A machine that says that it must not be handed out is.
    UnfitAreHandedOut,
    /// A signal counts whatever generation it was given for.
    SignalsOfAnyGeneration,
}

impl Sabotage {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::DeleteOnReceive,
        Self::JournalAfterTheCall,
        Self::NoDeregistration,
        Self::ClaimWithoutCondition,
        Self::TerminateWithoutCondition,
        Self::ReleaseWithoutWaiting,
        Self::NewTokenForEachTry,
        Self::TerminateTheFirstOnly,
        Self::JournalsAreNeverFinished,
        Self::RecordsAreNeverClosed,
        Self::RecommendationEndsTheMachine,
        Self::UnfitAreHandedOut,
        Self::SignalsOfAnyGeneration,
    ];

    /// Looks for it in so many seeds, from the first on: what the first one that finds it came to.
    pub fn hunt(self, within: u64) -> Option<Outcome> {
        let outcomes = (0..within).map(|seed| simulate(seed, Some(self), false));
        outcomes
            .into_iter()
            .find(|outcome| outcome.violation.is_some())
    }
}

impl fmt::Display for Sabotage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&words(self))
    }
}

/// The table of a process.
pub(super) fn table(process: &Process) -> Arc<dyn Table> {
    let inner = SimTable(process.clone());
    match process.sim.with(|state| state.sabotage) {
        Some(sabotage) => Arc::new(SabotagedTable {
            inner,
            sabotage,
            held_back: Mutex::default(),
        }),
        None => Arc::new(inner),
    }
}

/// The queues of a process.
pub(super) fn pool(process: &Process) -> Arc<dyn Pool> {
    let inner = SimPool(process.clone());
    match process.sim.with(|state| state.sabotage) {
        Some(sabotage) => Arc::new(SabotagedPool { inner, sabotage }),
        None => Arc::new(inner),
    }
}

/// EC2 of a process.
pub(super) fn fleet(process: &Process) -> Arc<dyn Fleet> {
    let inner = SimFleet(process.clone());
    match process.sim.with(|state| state.sabotage) {
        Some(sabotage) => Arc::new(SabotagedFleet {
            inner,
            sabotage,
            tries: Mutex::default(),
        }),
        None => Arc::new(inner),
    }
}

/// The machine under an agent.
pub(super) fn host(inner: SimHost) -> Arc<dyn Host> {
    match inner.process.sim.with(|state| state.sabotage) {
        Some(sabotage) => Arc::new(SabotagedHost { inner, sabotage }),
        None => Arc::new(inner),
    }
}

/// What EC2 announces to an agent.
pub(super) fn metadata(inner: SimMetadata) -> Arc<dyn Metadata> {
    match inner.0.sim.with(|state| state.sabotage) {
        Some(sabotage) => Arc::new(SabotagedMetadata { inner, sabotage }),
        None => Arc::new(inner),
    }
}
