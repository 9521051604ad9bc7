//! What must hold, whatever happens. Each function has the name of what it watches over.

mod exclusive;
mod provision;
mod quiet;

use std::{fmt, time::Duration};

use controller::ports::FleetRequest;
use proto::{
    ids::InstanceId,
    instance::InstanceRecord,
    provision::{Phase, ProvisionRecord},
    signal::Signal,
    state::State as Stands,
    time::Time,
};

pub(super) use self::{
    exclusive::{after_listening, before_job},
    provision::{after_done, after_failed, prompt, served},
    quiet::{claimable, forlorn, idempotent, leaking, no_leak, no_loss},
};
use super::{
    process::{CLOCK_ERROR, Process, Role},
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
    /// The jobs of a provision that said done run.
    Served,
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
    if after.state == Stands::Claimed && before.state != Stands::Claimed {
        if state.late_call {
            state.claimed_late.insert(after.id().clone());
        } else {
            state.claimed_late.remove(after.id());
        }
    }
    exclusive::one_label_at_a_time(state, before, after);
    exclusive::nobody_listens_on_a_free_machine(state, after);
    if after.state == Stands::Terminated && before.state != Stands::Terminated {
        state.ended.insert(before.id().clone(), before.clone());
        no_murder(state, process, before);
        what_serves_is_left_alone(state, process, before);
    }
    if after.state == Stands::Claimed && before.state != Stands::Claimed {
        claims_stand_in_the_journal(state, after);
        exclusive::nothing_of_another_label(state, after);
    }
    provision::only_the_fit_serve(state, before, after);
}

/// Before somebody but EC2 ends a machine: also one that got a job after its record said terminated.
pub(super) fn before_end(state: &mut State, process: &Process, machine: &InstanceId) {
    let record = state.ended.get(machine).or_else(|| state.record(machine));
    match record.cloned() {
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

/// Whether it may seem past: whoever ends a machine knows AWS's time only so well.
fn is_over(state: &State, threshold: Option<Time>) -> bool {
    threshold.is_some_and(|threshold| threshold <= state.time() + CLOCK_ERROR)
}

/// Whether the machine's time was over, or may have seemed so.
pub(super) fn is_due(state: &State, machine: &InstanceId) -> bool {
    let record = state.ended.get(machine).or_else(|| state.record(machine));
    is_over(state, record.and_then(|record| record.threshold))
}

/// No murder.
fn no_murder(state: &mut State, process: &Process, record: &InstanceRecord) {
    let Some((job, label)) = state.job_on(record.id()) else {
        return;
    };
    let over = is_over(state, record.threshold);
    // EC2 takes the machine any moment now, and has said so.
    let vm = state.cloud.machines.get(record.id());
    let taken = vm.and_then(|vm| vm.notice);
    let taken = taken.is_some_and(|at| at <= state.time() + CLOCK_ERROR + LAST_MOMENTS);
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

/// No murder: refresh lets a machine be that serves a run, with or without a job, before its
/// threshold, unless it has taken its provision over.
fn what_serves_is_left_alone(state: &mut State, process: &Process, record: &InstanceRecord) {
    let Some(label) = &record.label else { return };
    let mut journals = state.journals.values().map(Past::now);
    let taken_over =
        journals.any(|journal| journal.label == *label && journal.phase == Phase::RollingBack);
    let serves = matches!(record.state, Stands::Claimed | Stands::Running);
    let over = is_over(state, record.threshold);
    let vm = state.cloud.machines.get(record.id());
    let stays = vm.is_some_and(|vm| vm.alive && vm.notice.is_none());
    let wanted = serves && !taken_over && !over && stays && !state.given_up.contains(label);
    if process.role == Role::Refresh && wanted && record.unhealthy().is_none() {
        let what = format!(
            "{process} ends {} ({} of {label} until {:?}), which serves",
            record.id(),
            record.state,
            record.threshold
        );
        breach(state, Invariant::NoMurder, what);
    }
}

/// A provision whose journal was written so lately is at work. A minute of silence makes it a dead
/// one; a call that comes late, and clocks that are not quite right, shorten the minute.
const AT_WORK: Duration = Duration::from_secs(10);

/// No murder: refresh takes no provision over that is at work. Before it writes the journal.
pub(super) fn before_taking_over(state: &mut State, process: &Process, record: &ProvisionRecord) {
    let key = (record.run.clone(), record.label.clone());
    let silent = state
        .journals
        .get(&key)
        .map(|past| state.now().saturating_sub(past.since()));
    if process.role == Role::Refresh
        && record.phase == Phase::RollingBack
        && let Some(silent) = silent.filter(|silent| *silent < AT_WORK)
    {
        let what = format!(
            "{process} takes provision {} over, which was silent for {silent:?}",
            record.label
        );
        breach(state, Invariant::NoMurder, what);
    }
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

/// No loss: after a message was deleted. Machines of an old template are not handed out: the next
/// refresh ends them.
pub(super) fn after_delete(state: &mut State, process: &Process, message: &Message) {
    let Some(record) = state.record(&message.machine) else {
        return;
    };
    let template = state.cloud.template.as_ref();
    let still_free = is_claimable(record)
        && template.is_none_or(|template| template.version <= record.template_version)
        && !is_over(state, record.threshold)
        && message.generation == Some(record.generation);
    if still_free && state.queues.listing(&message.machine).next().is_none() {
        let what = format!(
            "{process} deletes the last message of {}, which is idle",
            message.machine
        );
        breach(state, Invariant::NoLoss, what);
    }
}
