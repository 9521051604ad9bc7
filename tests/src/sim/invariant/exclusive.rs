//! Exclusive: one machine, one label.

use proto::{
    ids::{InstanceId, Label},
    instance::InstanceRecord,
};

use super::{Invariant, breach, is_claimable};
use crate::sim::world::State;

/// Exclusive.
pub(super) fn one_label_at_a_time(
    state: &mut State,
    before: &InstanceRecord,
    after: &InstanceRecord,
) {
    if let (Some(old), Some(new)) = (&before.label, &after.label)
        && old != new
    {
        let what = format!("{} goes from {old} to {new} at once", after.id());
        breach(state, Invariant::Exclusive, what);
    }
}

/// Exclusive: who may be claimed serves nobody, and who was just claimed nobody yet.
pub(super) fn nobody_listens_on_a_free_machine(state: &mut State, record: &InstanceRecord) {
    if !is_claimable(record) {
        return;
    }
    if let Some((name, runner)) = state.online_on(record.id()).first() {
        let what = format!(
            "{} says it is clean, but {name} listens there for {}",
            record.id(),
            runner.label
        );
        breach(state, Invariant::Exclusive, what);
    }
}

/// Exclusive: at a claim, nothing of an earlier label is on the machine: its runner does not listen,
/// is not configured, and is not about to be.
pub(super) fn nothing_of_another_label(state: &mut State, record: &InstanceRecord) {
    let others = |label: &Label| Some(label) != record.label.as_ref();
    let online = state.online_on(record.id());
    let mut listens = online.iter().map(|(_, runner)| &runner.label);
    let vm = state.cloud.machines.get(record.id());
    let runners = &state.github.runners;
    let configured = vm.and_then(|vm| Some(&runners.get(vm.configured.as_ref()?)?.label));
    let registering = vm
        .and_then(|vm| vm.registering.as_ref())
        .filter(|(agent, _)| !agent.is_dead())
        .map(|(_, label)| label);
    let what = [
        ("listens", listens.find(|label| others(label))),
        ("is configured", configured.filter(|label| others(label))),
        ("registers", registering.filter(|label| others(label))),
    ]
    .into_iter()
    .find_map(|(does, other)| {
        let other = other?;
        let (id, label) = (record.id(), record.label.as_ref()?);
        Some(format!(
            "{id} is claimed for {label}, but a runner {does} there for {other}"
        ))
    });
    if let Some(what) = what {
        breach(state, Invariant::Exclusive, what);
    }
}

/// Exclusive: when GitHub gives a job to a machine, and when a runner begins to listen.
fn bears_the_label(state: &mut State, machine: &InstanceId, label: &Label, doing: &str) {
    let Some(record) = state.record(machine) else {
        let what = format!("{machine} {doing} {label} and has no record");
        return breach(state, Invariant::Exclusive, what);
    };
    let let_go = record.label.is_none() && !is_claimable(record) && state.given_up.contains(label);
    if record.label.as_ref() != Some(label) && !let_go {
        let what = format!(
            "{machine} {doing} {label}, its record is {} of {:?}",
            record.state, record.label
        );
        breach(state, Invariant::Exclusive, what);
    }
}

/// When GitHub has given a job to a machine.
pub(in crate::sim) fn before_job(state: &mut State, machine: &InstanceId, label: &Label) {
    bears_the_label(state, machine, label, "gets a job of");
}

/// When a runner has begun to listen.
pub(in crate::sim) fn after_listening(state: &mut State, machine: &InstanceId, name: &str) {
    let online = state.online_on(machine).len();
    if online > 1 {
        let what = format!("{online} runners listen on {machine}");
        breach(state, Invariant::Exclusive, what);
    }
    if let Some(record) = state.record(machine).cloned() {
        nobody_listens_on_a_free_machine(state, &record);
    }
    let label = state.github.runners.get(name).map(|r| r.label.clone());
    let other = state
        .record(machine)
        .and_then(|record| record.label.clone())
        .filter(|bears| Some(bears) != label.as_ref());
    if let Some(other) = other {
        let what = format!("{name} listens for {label:?} on a machine of {other}");
        breach(state, Invariant::Exclusive, what);
    }
}
