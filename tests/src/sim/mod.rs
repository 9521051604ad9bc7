//! The simulation: controllers and agents together in one thread, with virtual time, and one seed
//! that decides everything that is left to chance.
//!
//! ```text
//!   scenario ──▶ steps: the real provision, release, refresh ─┐
//!      │                                                      ├──▶ ports ──▶ world ──▶ invariants
//!      └───────▶ machines: the real agent loop ───────────────┘      ▲
//!                                                                faults
//! ```
//!
//! What runs is production code; only the ports are the simulation's own: the table in memory
//! ([`table`]), SQS ([`queue`]), EC2 ([`cloud`]), GitHub ([`github`]) and the machine under the
//! agent ([`machine`], [`host`], [`listener`]). Every call to them goes through [`process`], where it may be lost, late,
//! repeated or unanswered, and where a process can be killed at any await point. After every step
//! the functions of [`invariant`] look at the whole. [`sabotage`] plants bugs that must be found.
//!
//! The same seed gives the same story: chance is drawn from one source, tasks run in one thread in
//! the order in which they become ready, and time passes only when all of them wait.

mod cloud;
pub mod fault;
mod github;
mod host;
pub mod invariant;
mod listener;
mod machine;
mod process;
mod queue;
mod refresh;
pub mod sabotage;
mod scenario;
mod steps;
mod table;
mod world;

use std::{collections::BTreeMap, time::Duration};

use controller::ports::{Fleet, Pool};
use tokio::task::LocalSet;

use self::{
    cloud::SimFleet,
    fault::Fault,
    invariant::Violation,
    process::{Process, Role},
    queue::SimPool,
    sabotage::Sabotage,
    world::Sim,
};

/// What one simulation came to.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Its seed.
    pub seed: u64,
    /// The promise that was broken, if any.
    pub violation: Option<Violation>,
    /// Calls that services answered and things that happened, each followed by the invariants.
    pub steps: u64,
    /// How long it was, in virtual time.
    pub took: Duration,
    /// Equal for two simulations that went the same way.
    pub hash: u64,
    /// What went wrong on purpose, and how often.
    pub happened: BTreeMap<Fault, u64>,
    /// What was achieved, and how often.
    pub counts: BTreeMap<&'static str, u64>,
    /// The machines that provisions got: whether each was reused, and how long it took from its
    /// claim or launch until it was registered.
    pub ready: Vec<(bool, Duration)>,
    /// Everything that happened, if it was to be told.
    pub story: Vec<String>,
}

/// Runs one simulation. With `tell` it keeps its story.
///
/// # Panics
///
/// When the machine has no thread to give.
pub fn simulate(seed: u64, sabotage: Option<Sabotage>, tell: bool) -> Outcome {
    run(seed, sabotage, tell, scenario::play)
}

/// An hour of virtual time in which so many workflows of random size come and go, with every kind
/// of fault.
///
/// # Panics
///
/// As [`simulate`].
pub fn soak(seed: u64, workflows: usize) -> Outcome {
    run(seed, None, false, |sim| scenario::soak(sim, workflows))
}

/// The simulation's queues and its EC2 in virtual time, with nothing that goes wrong: for the
/// contracts of their ports.
///
/// # Panics
///
/// As [`simulate`].
pub fn at_rest(trial: impl AsyncFnOnce(Box<dyn Pool>, Box<dyn Fleet>)) {
    LocalSet::new().block_on(&virtual_time(), async {
        let sim = Sim::new(0, None, false);
        sim.with(|state| state.faults.stop());
        let process = Process::new(&sim, "contract", Role::Refresh, 0);
        let (pool, fleet) = (SimPool(process.clone()), SimFleet(process));
        trial(Box::new(pool), Box::new(fleet)).await;
    });
}

fn virtual_time() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .start_paused(true)
        .enable_time()
        .build()
        .expect("a runtime needs nothing that can be missing")
}

fn run<P: Future<Output = ()>>(
    seed: u64,
    sabotage: Option<Sabotage>,
    tell: bool,
    scenario: impl FnOnce(Sim) -> P,
) -> Outcome {
    LocalSet::new().block_on(&virtual_time(), async {
        let began = tokio::time::Instant::now();
        let sim = Sim::new(seed, sabotage, tell);
        tokio::select! {
            biased;
            () = sim.failed() => {}
            () = scenario(sim.clone()) => {}
        }
        let (violation, happened, counts, ready) = sim.with(|state| {
            let happened = state.faults.happened().clone();
            let ready = std::mem::take(&mut state.ready);
            (
                state.violation.clone(),
                happened,
                state.counts.clone(),
                ready,
            )
        });
        Outcome {
            seed,
            violation,
            steps: sim.steps(),
            took: began.elapsed(),
            hash: sim.hash(),
            happened,
            counts,
            ready,
            story: sim.story(),
        }
    })
}
