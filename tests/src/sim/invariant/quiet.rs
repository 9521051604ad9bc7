//! What must hold once all is quiet: no leak, no loss, idempotent.

use std::{collections::BTreeSet, time::Duration};

use proto::{ids::InstanceId, instance::InstanceRecord, state::State as Stands, time::Time};

use super::{Invariant, breach, is_claimable};
use crate::sim::world::{Past, State};

/// What has leaked, as far as one look can tell: a machine whose record was just locked is still
/// on its way out. The record of one that switched itself off after `refreshed`, when the last refresh
/// began, is the next one's to close.
pub(in crate::sim) fn leaking(state: &State, refreshed: Time) -> BTreeSet<String> {
    let alive = state.cloud.machines.iter().filter(|(_, vm)| vm.alive);
    let machines = alive.filter_map(|(id, vm)| {
        let stands = state.record(id).map(|record| record.state);
        let wanted = stands.is_some_and(|stands| stands != Stands::Terminated);
        (!wanted).then(|| format!("{id} of fleet {} runs for nobody", vm.fleet))
    });
    let records = state.records.values().map(Past::now);
    let records = records
        .filter(|record| record.state != Stands::Terminated && !state.is_alive(record.id()))
        .filter(|record| {
            let vm = state.cloud.machines.get(record.id());
            vm.and_then(|vm| vm.left_at) < Some(refreshed)
        })
        .map(|record| format!("{} is {} and gone", record.id(), record.state));
    let journals = state.journals.values().map(Past::now);
    let journals = journals
        .filter(|journal| journal.phase.is_open())
        .map(|journal| format!("journal {} is {}", journal.label, journal.phase));
    let stranded = state.records.values().map(Past::now);
    let stranded = stranded
        .filter(|record| is_stranded(state, record))
        .map(|record| {
            format!(
                "{} is idle and was never told how to deregister",
                record.id()
            )
        });
    machines
        .chain(records)
        .chain(journals)
        .chain(stranded)
        .collect()
}

/// Idle for nobody's good until its idle time ends: its agent is there, knows of no job, and still
/// keeps the runner of a run that has let go of it.
fn is_stranded(state: &State, record: &InstanceRecord) -> bool {
    const BEATS: Duration = Duration::from_secs(10);
    record.is_free()
        && record.token.is_none()
        && record.fresh_report().is_none()
        && state.is_alive(record.id())
        && record.beats(state.time(), BEATS)
}

/// The runners that GitHub shows without a machine. Those that two refreshes leave have leaked.
pub(in crate::sim) fn forlorn(state: &State) -> BTreeSet<String> {
    let runners = state.github.runners.iter();
    runners
        .filter(|(_, runner)| !state.is_alive(&runner.machine))
        .map(|(name, _)| format!("runner {name} has no machine"))
        .collect()
}

/// No leak: once all is quiet and refresh ran twice. What two looks show has leaked.
pub(in crate::sim) fn no_leak(
    state: &mut State,
    refreshed: Time,
    earlier: &BTreeSet<String>,
    forlorn_before: &BTreeSet<String>,
) {
    let (leaking, forlorn) = (leaking(state, refreshed), forlorn(state));
    let leaked = leaking.intersection(earlier);
    let leaked = leaked.chain(forlorn.intersection(forlorn_before));
    let leaked: Vec<String> = leaked.cloned().collect();
    if !leaked.is_empty() {
        breach(state, Invariant::NoLeak, leaked.join("; "));
    }
}

/// The machines that a provision must be able to get now.
pub(in crate::sim) fn claimable(state: &State, now: Time) -> BTreeSet<InstanceId> {
    const A_WHILE: Duration = Duration::from_mins(1);
    const BEATS: Duration = Duration::from_secs(10);
    let records = state.records.values().map(Past::now);
    records
        .filter(|record| {
            is_claimable(record)
                && record.threshold.is_some_and(|t| t > now + A_WHILE)
                && record.beats(now, BEATS)
                && record.unhealthy().is_none()
        })
        .map(|record| record.id().clone())
        .collect()
}

/// No loss: a provision of so many machines as are idle got none that is new.
pub(in crate::sim) fn no_loss(state: &mut State, claimable: &BTreeSet<InstanceId>, reused: usize) {
    if reused != claimable.len() {
        let what = format!("{claimable:?} are idle, but a provision got {reused} of them");
        breach(state, Invariant::NoLoss, what);
    }
}

/// Idempotent: what a repeat wanted to do or did.
pub(in crate::sim) fn idempotent(state: &mut State, repeat: &str, did: &[String]) {
    if !did.is_empty() {
        let what = format!("a second {repeat}: {}", did.join("; "));
        breach(state, Invariant::Idempotent, what);
    }
}
