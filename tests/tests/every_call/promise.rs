//! What must hold when faults are over and refresh ran.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use proto::{instance::InstanceRecord, provision::Phase, state::State, table::Table};
use tests::{
    pool::{PATIENCE, Pool},
    workflow::Step,
};

use super::{Operation, RUN};

const LIVE: [State; 4] = [State::Created, State::Idle, State::Claimed, State::Running];

/// What does not hold, in words.
pub(super) async fn broken(pool: &Pool, operation: Operation, step: &Step) -> Vec<String> {
    // A machine that was told to end takes a moment to.
    let deadline = Instant::now() + PATIENCE;
    let mut broken = leaks(pool).await;
    while !broken.is_empty() && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(50)).await;
        broken = leaks(pool).await;
    }
    if operation == Operation::Provision {
        broken.extend(all_or_nothing(pool, step).await);
    }
    if broken.is_empty() {
        broken.extend(losses(pool).await);
    }
    broken
}

async fn records(pool: &Pool) -> Vec<InstanceRecord> {
    let mut all = Vec::new();
    for state in LIVE {
        all.extend(pool.table.instances_in(state, None).await.expect("listed"));
    }
    all
}

/// No leak: every machine that EC2 runs is wanted by a live record, every live record has a
/// machine, and what is not idle has a provision that holds it.
async fn leaks(pool: &Pool) -> Vec<String> {
    let records = records(pool).await;
    let instances = pool.yard.aws.instances();
    let alive: BTreeSet<&str> = instances
        .iter()
        .filter(|view| view.alive())
        .map(|view| &*view.id)
        .collect();
    let known: BTreeSet<&str> = records.iter().map(|record| record.id().as_str()).collect();
    let mut broken: Vec<String> = alive
        .difference(&known)
        .map(|id| format!("{id} runs and has no record"))
        .collect();
    broken.extend(
        known
            .difference(&alive)
            .map(|id| format!("{id} has a record and does not run")),
    );
    for record in &records {
        let id = record.id();
        let Some(label) = &record.label else {
            if record.state != State::Idle {
                broken.push(format!("{id} is {} for nobody", record.state));
            }
            continue;
        };
        let run = label.as_str().parse().expect("a run's number");
        let journals = pool.table.provisions_of(&run).await.expect("read");
        let held = journals.iter().any(|journal| {
            journal.phase == Phase::Committed && journal.machines().any(|machine| machine == id)
        });
        if record.state != State::Running || !held {
            broken.push(format!(
                "{id} is {} for {label}: {journals:?}",
                record.state
            ));
        }
    }
    broken
}

/// All or nothing: a provision that says done has its machines, one that failed has none.
async fn all_or_nothing(pool: &Pool, step: &Step) -> Option<String> {
    let records = records(pool).await;
    let label = RUN.to_string();
    let of_run = |record: &&InstanceRecord| {
        record
            .label
            .as_ref()
            .is_some_and(|found| found.as_str() == label)
    };
    let held = records.iter().filter(of_run).count();
    let journals = pool.journals(RUN).await;
    let committed = journals
        .iter()
        .any(|journal| journal.phase == Phase::Committed);
    let expected = if committed { 2 } else { 0 };
    if held != expected {
        return Some(format!(
            "{held} machines, and its journal says {journals:?}"
        ));
    }
    // Killed after its last write it has its machines and could not say so.
    let killed = 128 + 9;
    let told = (step.code == 0) == committed || step.code == killed;
    (!told).then(|| format!("exit {}, and its journal says {journals:?}", step.code))
}

/// No loss: what a run holds can be released, and every idle machine be claimed.
async fn losses(pool: &Pool) -> Vec<String> {
    let mut broken = Vec::new();
    let release = pool.release(RUN).await;
    if release.code != 0 {
        broken.push(format!("cannot be released: {}", release.log));
    }
    let idle = pool.records(State::Idle).await;
    if idle > 0 {
        let step = pool.provision(2, &idle.to_string()).await;
        let reused = step
            .number("reused")
            .and_then(|count| usize::try_from(count).ok());
        if reused != Some(idle) {
            broken.push(format!(
                "not all of {idle} idle machines were claimed: {}",
                step.log
            ));
        }
    }
    broken
}
