//! What must hold, whatever happens. Each function has the name of what it watches over.

use std::{collections::BTreeSet, fmt, time::Duration};

use controller::{ports::FleetRequest, provision::Provisioned};
use proto::{
    ids::{InstanceId, Label},
    instance::InstanceRecord,
    signal::Signal,
    state::State as Stands,
    time::{Clock, Time},
};

use super::{
    process::{Process, Role},
    queue::Message,
    world::{Past, State},
};

/// The promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Invariant {
    /// No machine is ever held by two labels, and no runner takes jobs of a label that its record
    /// does not bear.
    Exclusive,
    /// A provision that says done has exactly its number of healthy, registered machines; one that
    /// failed leaves none.
    AllOrNothing,
    /// Once faults stop, and refresh ran twice, every machine EC2 runs is wanted by a live record,
    /// and each record has a machine. Whatever a provision takes stands in its journal before.
    NoLeak,
    /// Every healthy idle machine can be claimed again: a listed one stays listed.
    NoLoss,
    /// Nothing terminates a machine with a running job before its threshold, except EC2 itself.
    NoMurder,
    /// Refresh after refresh plans nothing, release after release changes nothing.
    Idempotent,
    /// A cancelled step is over before GitHub kills it.
    Prompt,
}

/// A promise that was broken.
#[derive(Clone, Debug)]
pub struct Violation {
    /// Which.
    pub invariant: Invariant,
    /// How.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.invariant, self.what)
    }
}

fn breach(state: &mut State, invariant: Invariant, what: String) {
    state.violated(Violation { invariant, what });
}

/// Whether anybody may claim the machine, as far as its record tells.
fn is_claimable(record: &InstanceRecord) -> bool {
    record.state == Stands::Idle
        && record.label.is_none()
        && record.job.is_none()
        && record.says(Signal::RemoveRegOk)
}

/// After each change of a record.
pub(super) fn after_change(
    state: &mut State,
    process: &Process,
    before: &InstanceRecord,
    after: &InstanceRecord,
) {
    if state.late_call {
        state.late.insert(after.id().clone());
    }
    one_label_at_a_time(state, before, after);
    nobody_listens_on_a_free_machine(state, after);
    if after.state == Stands::Terminated && before.state != Stands::Terminated {
        no_murder(state, process, before);
    }
    if after.state == Stands::Claimed && before.state != Stands::Claimed {
        claims_stand_in_the_journal(state, after);
    }
}

/// Exclusive.
fn one_label_at_a_time(state: &mut State, before: &InstanceRecord, after: &InstanceRecord) {
    if let (Some(old), Some(new)) = (&before.label, &after.label)
        && old != new
    {
        let what = format!("{} goes from {old} to {new} at once", after.id());
        breach(state, Invariant::Exclusive, what);
    }
}

/// Exclusive: who may be claimed serves nobody, and who was just claimed nobody yet.
fn nobody_listens_on_a_free_machine(state: &mut State, record: &InstanceRecord) {
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
pub(super) fn before_job(state: &mut State, machine: &InstanceId, label: &Label) {
    bears_the_label(state, machine, label, "gets a job of");
}

/// When a runner has begun to listen.
pub(super) fn after_listening(state: &mut State, machine: &InstanceId, name: &str) {
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

/// Before somebody but EC2 ends a machine. A record that says terminated was looked at when it
/// began to.
pub(super) fn before_end(state: &mut State, process: &Process, machine: &InstanceId) {
    match state.record(machine).cloned() {
        Some(record) if record.state == Stands::Terminated => {}
        Some(record) => no_murder(state, process, &record),
        None => {
            if state.job_on(machine).is_some() {
                let what = format!("{process} ends {machine} with a job and without a record");
                breach(state, Invariant::NoMurder, what);
            }
        }
    }
}

/// How long before EC2 takes a machine its agent may end it.
const LAST_MOMENTS: Duration = Duration::from_secs(30);

/// No murder. The threshold is judged by the clock of whoever ends the machine: nobody has another.
fn no_murder(state: &mut State, process: &Process, record: &InstanceRecord) {
    let Some((job, label)) = state.job_on(record.id()) else {
        return;
    };
    let over = record.threshold.is_some_and(|t| t <= process.now());
    // EC2 takes the machine any moment now, and has said so.
    let vm = state.cloud.machines.get(record.id());
    let taken = vm.and_then(|vm| vm.notice);
    let taken = taken.is_some_and(|at| at <= process.now() + LAST_MOMENTS);
    if over || taken || state.given_up.contains(label) {
        return;
    }
    let what = format!(
        "{process} ends {} ({} of {:?} until {:?}), which runs job {job} of {label}",
        record.id(),
        record.state,
        record.label,
        record.threshold
    );
    breach(state, Invariant::NoMurder, what);
}

/// No leak: what is claimed is found again if the controller dies here.
fn claims_stand_in_the_journal(state: &mut State, record: &InstanceRecord) {
    let mut journals = state.journals.values().map(Past::now);
    let known = journals.any(|journal| {
        Some(&journal.label) == record.label.as_ref() && journal.claimed.contains(record.id())
    });
    if !known {
        let what = format!("{} is claimed, and no journal says so", record.id());
        breach(state, Invariant::NoLeak, what);
    }
}

/// No leak: what is launched is found again if the controller dies here.
pub(super) fn before_launch(state: &mut State, request: &FleetRequest) {
    let mut journals = state.journals.values().map(Past::now);
    if !journals.any(|journal| journal.client_token == request.client_token) {
        let what = format!(
            "fleet {} is launched, and no journal says so",
            request.client_token
        );
        breach(state, Invariant::NoLeak, what);
    }
}

/// No loss: after a message was deleted.
pub(super) fn after_delete(state: &mut State, process: &Process, message: &Message) {
    let Some(record) = state.record(&message.machine) else {
        return;
    };
    let still_free = is_claimable(record)
        && record.threshold.is_some_and(|t| t > process.now())
        && message.generation == Some(record.generation);
    if still_free && state.queues.listing(&message.machine).next().is_none() {
        let what = format!(
            "{process} deletes the last message of {}, which is idle",
            message.machine
        );
        breach(state, Invariant::NoLoss, what);
    }
}

/// All or nothing: when a provision says done.
pub(super) fn after_done(state: &mut State, wanted: usize, done: &Provisioned) {
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
        let registered = runners
            .values()
            .any(|runner| runner.machine == *id && runner.label == done.label);
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

/// All or nothing: when a provision says that it failed and that nothing of it is left.
pub(super) fn after_failed(state: &mut State, label: &Label, client_token: &str) {
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
                && !state.late.contains(record.id())
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

/// What has leaked, as far as one look can tell: a machine whose record was just locked is still
/// on its way out.
pub(super) fn leaking(state: &State) -> BTreeSet<String> {
    let alive = state.cloud.machines.iter().filter(|(_, vm)| vm.alive);
    let machines = alive.filter_map(|(id, vm)| {
        let stands = state.record(id).map(|record| record.state);
        let wanted = stands.is_some_and(|stands| stands != Stands::Terminated);
        (!wanted).then(|| format!("{id} of fleet {} runs for nobody", vm.fleet))
    });
    let records = state.records.values().map(Past::now);
    let records = records
        .filter(|record| record.state != Stands::Terminated && !state.is_alive(record.id()))
        .map(|record| format!("{} is {} and gone", record.id(), record.state));
    let journals = state.journals.values().map(Past::now);
    let journals = journals
        .filter(|journal| journal.phase.is_open())
        .map(|journal| format!("journal {} is {}", journal.label, journal.phase));
    machines.chain(records).chain(journals).collect()
}

/// No leak: once all is quiet and refresh ran twice. What two looks show has leaked.
pub(super) fn no_leak(state: &mut State, earlier: &BTreeSet<String>) {
    let leaked: Vec<String> = leaking(state).intersection(earlier).cloned().collect();
    if !leaked.is_empty() {
        breach(state, Invariant::NoLeak, leaked.join("; "));
    }
}

/// The machines that a provision must be able to get now.
pub(super) fn claimable(state: &State, now: Time) -> BTreeSet<InstanceId> {
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
pub(super) fn no_loss(state: &mut State, claimable: &BTreeSet<InstanceId>, reused: usize) {
    if reused != claimable.len() {
        let what = format!("{claimable:?} are idle, but a provision got {reused} of them");
        breach(state, Invariant::NoLoss, what);
    }
}

/// Idempotent: what a repeat wanted to do or did.
pub(super) fn idempotent(state: &mut State, repeat: &str, did: &[String]) {
    if !did.is_empty() {
        let what = format!("a second {repeat}: {}", did.join("; "));
        breach(state, Invariant::Idempotent, what);
    }
}

/// Prompt: a step that was cancelled had to be killed.
pub(super) fn prompt(state: &mut State, process: &Process) {
    if let Role::Step(label) = &process.role {
        let what = format!("{process} of {label} still runs when SIGKILL comes");
        breach(state, Invariant::Prompt, what);
    }
}
