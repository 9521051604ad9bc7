//! What a provision's end promises: all or nothing, and in time.

use std::collections::BTreeSet;

use controller::provision::Provisioned;
use proto::{
    ids::{InstanceId, Label},
    instance::InstanceRecord,
    state::State as Stands,
};

use super::{Invariant, breach};
use crate::sim::{
    process::{Process, Role},
    world::{Past, State},
};

/// All or nothing: when a provision says done.
pub(in crate::sim) fn after_done(state: &mut State, wanted: usize, done: &Provisioned) {
    let ids: BTreeSet<InstanceId> = done.machines.iter().map(|ready| ready.id.clone()).collect();
    let mut wrong = Vec::new();
    if ids.len() != wanted || done.machines.len() != wanted {
        wrong.push(format!("{} machines instead of {wanted}", ids.len()));
    }
    for id in &ids {
        if state.cloud.machines.get(id).is_some_and(|vm| vm.taken) {
            continue;
        }
        let runners = &state.github.runners;
        let registered = runners.values().any(|runner| {
            runner.machine == *id && runner.label == done.label && (runner.online || runner.died)
        });
        let serves = state.record(id).is_some_and(|record| {
            record.state == Stands::Running && record.label.as_ref() == Some(&done.label)
        });
        if !(registered && serves && state.is_alive(id)) {
            wrong.push(format!(
                "{id}: registered {registered}, its record serves {serves}, alive {}",
                state.is_alive(id)
            ));
        }
    }
    let others = state.github.runners.values().filter(|runner| {
        runner.online && runner.label == done.label && !ids.contains(&runner.machine)
    });
    wrong.extend(others.map(|runner| format!("{} serves too", runner.machine)));
    if !wrong.is_empty() {
        let what = format!("{} is done, but {}", done.label, wrong.join("; "));
        breach(state, Invariant::AllOrNothing, what);
    }
}

/// All or nothing: a machine that said that it must not be handed out, before it was claimed, serves
/// no run.
pub(super) fn only_the_fit_serve(
    state: &mut State,
    before: &InstanceRecord,
    after: &InstanceRecord,
) {
    let id = after.id();
    if before.state == Stands::Idle && after.state == Stands::Claimed {
        if before.unhealthy().is_some() {
            state.unfit.insert(id.clone());
        } else {
            state.unfit.remove(id);
        }
    } else if before.state == Stands::Claimed
        && after.state == Stands::Running
        && state.unfit.contains(id)
    {
        let what = format!("{id} serves {:?}: {:?}", after.label, after.health);
        breach(state, Invariant::AllOrNothing, what);
    }
}

/// All or nothing: when a provision says that it failed and that nothing of it is left. The record of a
/// machine that has ended, written by a call that was given up, is refresh's to close.
pub(in crate::sim) fn after_failed(state: &mut State, label: &Label, client_token: &str) {
    let base = format!("{client_token}.");
    // Before its journal is open, the label's machines are an earlier attempt's.
    let mut journals = state.journals.values().map(Past::now);
    let began =
        journals.any(|journal| journal.label == *label && journal.client_token.starts_with(&base));
    let records = state.records.values().map(Past::now);
    let mut left: Vec<String> = records
        .filter(|record| {
            began
                && record.state != Stands::Terminated
                && record.label.as_ref() == Some(label)
                && !state.claimed_late.contains(record.id())
                && state.is_alive(record.id())
        })
        .map(|record| format!("{} is {}", record.id(), record.state))
        .collect();
    for (id, vm) in &state.cloud.machines {
        let record = state.record(id);
        let ending = record.is_some_and(|record| record.state == Stands::Terminated);
        if vm.alive && vm.fleet.starts_with(&base) && !ending {
            left.push(format!("{id} runs"));
        }
    }
    if !left.is_empty() {
        let what = format!("{label} failed, but {}", left.join("; "));
        breach(state, Invariant::AllOrNothing, what);
    }
}

/// Prompt: a step that was cancelled had to be killed.
pub(in crate::sim) fn prompt(state: &mut State, process: &Process) {
    if let Role::Step(label) = &process.role {
        let what = format!("{process} of {label} still runs when SIGKILL comes");
        breach(state, Invariant::Prompt, what);
    }
}

/// Served: when jobs of a provision that is done were waited for in vain, longer than its machines need
/// for all of them. Fewer machines, after EC2 took one or one fell ill, may need longer.
pub(in crate::sim) fn served(state: &mut State, done: &Provisioned, waiting: usize) {
    let mut machines = done.machines.iter();
    let all_there = machines.all(|ready| {
        let well = state
            .record(&ready.id)
            .is_some_and(|r| r.unhealthy().is_none());
        well && state.is_alive(&ready.id)
    });
    if all_there {
        let what = format!("{waiting} jobs of {} are never started", done.label);
        breach(state, Invariant::Served, what);
    } else {
        state.count("workflows that lost a machine");
    }
}
