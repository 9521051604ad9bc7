//! What happens in a simulation: workflows come and go amid faults, then all is quiet, and what
//! must hold in the end is looked at.

use std::time::Duration;

use controller::provision::Provisioned;
use proto::{
    ids::{InstanceId, Label},
    state::State as Stands,
};
use rand::{RngExt, seq::IndexedRandom};
use tokio::{
    task::{JoinHandle, spawn_local},
    time::sleep,
};

use super::{
    cloud::By,
    fault::{Fault, Faults},
    github,
    invariant::{self, Invariant, Violation},
    refresh::run_refresh,
    steps::{Fortune, Provision, Wish, run_provision, run_release},
    world::{Past, Sim, State},
};

const SECS: fn(u64) -> Duration = Duration::from_secs;
const MINS: fn(u64) -> Duration = Duration::from_mins;

/// The most machines that a workflow of a short story wants.
const A_FEW: usize = 3;
/// The most that a workflow of the soak wants.
const MANY: usize = 10;

/// One simulation from its beginning to its end.
pub(super) async fn play(sim: Sim) {
    set_up(&sim).await;
    let around = around(&sim);
    // First whenever they like.
    let whenever = MINS([1, 4, 10][sim.one_of(3)]);
    let count = 2 + sim.one_of(3);
    all(&sim, 100..100 + count, whenever, A_FEW).await;
    // Then all at once, and they race for what those before left idle. The second time they get
    // machines that had more than one tenant.
    for rush in 2..=2 + sim.one_of(2) {
        let at_once = SECS([2, 8, 15][sim.one_of(3)]);
        // So that the race is also for machines whose idle time is about to be over.
        let idle_time = sim.with(|state| state.idle_time);
        sim.pause(Duration::ZERO, idle_time.min(MINS(3))).await;
        spawn_local(refresh_amid(sim.clone(), at_once));
        let count = 2 + sim.one_of(4);
        let numbers = (0..count).map(|number| 100 * rush + number);
        all(&sim, numbers, at_once, A_FEW).await;
    }
    quiet(&sim, around).await;
}

/// So many workflows within an hour, and a little of everything that can go wrong.
pub(super) async fn soak(sim: Sim, workflows: usize) {
    sim.with(|state| {
        state.faults = Faults::all(0.1);
        state.idle_time = MINS(7);
    });
    set_up(&sim).await;
    let around = around(&sim);
    all(&sim, 1_000..1_000 + workflows, MINS(60), MANY).await;
    quiet(&sim, around).await;
}

/// The pool is set up by a refresh that is repeated until it works.
async fn set_up(sim: &Sim) {
    while run_refresh(sim, &Fortune::draw(sim)).await.is_none() {
        sleep(MINS(1)).await;
    }
}

/// What goes on beside the workflows.
fn around(sim: &Sim) -> [JoinHandle<()>; 3] {
    [
        spawn_local(schedule(sim.clone())),
        spawn_local(interruptions(sim.clone())),
        spawn_local(recommendations(sim.clone())),
    ]
}

/// Plays workflows, each of which begins within that time, until all are over.
async fn all(sim: &Sim, numbers: impl Iterator<Item = usize>, within: Duration, most: usize) {
    let workflows: Vec<JoinHandle<()>> = numbers
        .map(|number| spawn_local(workflow(sim.clone(), number, within, most)))
        .collect();
    for workflow in workflows {
        note_panic(sim, workflow.await);
    }
}

async fn quiet(sim: &Sim, around: [JoinHandle<()>; 3]) {
    for task in around {
        task.abort();
        if let Err(error) = task.await
            && !error.is_cancelled()
        {
            note_panic(sim, Err(error));
        }
    }
    sim.with(|state| {
        state.faults.stop();
        state.say("----", "faults stop");
    });
    in_the_end(sim).await;
}

fn note_panic(sim: &Sim, ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        let what = format!("a command panicked: {error}");
        let invariant = Invariant::AllOrNothing;
        sim.with(|state| state.violated(Violation { invariant, what }));
    }
}

/// The refresh workflow.
async fn schedule(sim: Sim) {
    loop {
        sim.pause(SECS(20), MINS(6)).await;
        let (one, other) = (Fortune::draw(&sim), Fortune::draw(&sim));
        if sim.strikes(Fault::TwoRefreshes) {
            futures::join!(run_refresh(&sim, &one), run_refresh(&sim, &other));
        } else {
            run_refresh(&sim, &one).await;
        }
    }
}

/// A refresh at some moment of a race.
async fn refresh_amid(sim: Sim, within: Duration) {
    sim.pause(Duration::ZERO, within).await;
    if sim.strikes(Fault::NewImage) {
        sim.with(|state| state.image += 1);
    }
    run_refresh(&sim, &Fortune::draw(&sim)).await;
}

/// A machine, by chance.
fn one_alive(state: &mut State) -> Option<InstanceId> {
    let machines = state.cloud.machines.iter();
    let alive: Vec<&InstanceId> = machines
        .filter(|(_, vm)| vm.alive)
        .map(|(id, _)| id)
        .collect();
    alive.choose(&mut state.rng).copied().cloned()
}

/// EC2 recommends to move away from machines.
async fn recommendations(sim: Sim) {
    loop {
        sim.pause(SECS(10), MINS(3)).await;
        if !sim.strikes(Fault::RebalanceRecommendation) {
            continue;
        }
        sim.step(|state| {
            let Some(id) = one_alive(state) else { return };
            state.say("ec2", format!("recommends to move away from {id}"));
            if let Some(vm) = state.vm(&id) {
                vm.at_risk = true;
            }
        });
    }
}

/// EC2 takes machines away.
async fn interruptions(sim: Sim) {
    loop {
        sim.pause(SECS(10), MINS(3)).await;
        if !sim.strikes(Fault::SpotInterruption) {
            continue;
        }
        let notice = sim.time() + MINS(2);
        let told = sim.step(|state| {
            let id = one_alive(state)?;
            // Two minutes' notice is usual, and not promised.
            if state.rng.random_bool(0.5) {
                state.end_machine(&id, &By::Ec2);
                return None;
            }
            state.say("ec2", format!("will take {id} away"));
            state.vm(&id)?.notice.get_or_insert(notice);
            Some(id)
        });
        if let Some(id) = told {
            let sim = sim.clone();
            spawn_local(async move {
                sleep(MINS(2)).await;
                sim.step(|state| state.end_machine(&id, &By::Ec2));
            });
        }
    }
}

/// A workflow, with what people and GitHub do to it.
async fn workflow(sim: Sim, number: usize, within: Duration, most: usize) {
    sim.pause(Duration::ZERO, within).await;
    let run = number.to_string().parse().expect("a valid run id");
    let mut wish = Wish {
        label: Label::of(&run, None),
        run,
        attempt: 1,
        count: u32::try_from(1 + sim.one_of(most)).expect("a few"),
    };
    loop {
        sim.with(|state| {
            state.given_up.remove(&wish.label);
            state.github.over.remove(&wish.run);
        });
        attempt(&sim, &wish).await;
        sim.with(|state| state.github.over.insert(wish.run.clone()));
        if wish.attempt == 3 || !sim.strikes(Fault::ReRun) {
            return;
        }
        sim.pause(SECS(1), MINS(2)).await;
        wish.attempt += 1;
    }
}

async fn attempt(sim: &Sim, wish: &Wish) {
    match run_provision(sim, wish, &Fortune::draw(sim)).await {
        Provision::Done(done) => jobs(sim, wish, &done).await,
        Provision::Failed | Provision::Killed => {}
    }
    sim.with(|state| state.given_up.insert(wish.label.clone()));
    if sim.strikes(Fault::NeverReleased) {
        return;
    }
    let (one, other) = (Fortune::draw(sim), Fortune::draw(sim));
    if sim.strikes(Fault::ReleasedTwice) {
        futures::join!(run_release(sim, wish, &one), run_release(sim, wish, &other));
    } else {
        run_release(sim, wish, &one).await;
    }
}

/// The jobs between provision and release.
async fn jobs(sim: &Sim, wish: &Wish, done: &Provisioned) {
    let count = sim.one_of(2 * wish.count as usize + 1);
    // One of these may keep the others waiting.
    let mut endless = false;
    let lengths: Vec<Duration> = (0..count)
        .map(|_| {
            if sim.strikes(Fault::EndlessJob) {
                endless = true;
                MINS(90)
            } else {
                sim.with(|state| state.between(SECS(1), MINS(6)))
            }
        })
        .collect();
    let ids = github::queue_jobs(sim, &wish.label, &lengths);
    let cancelled = sim.strikes(Fault::WorkflowCancelled);
    let patience = if cancelled { MINS(2) } else { MINS(20) };
    let all_over = async {
        while sim.with(|state| ids.iter().any(|id| !state.github.jobs[id].at.is_over())) {
            sleep(SECS(1)).await;
        }
    };
    if tokio::time::timeout(patience, all_over).await.is_err() {
        // GitHub runs the release of a cancelled workflow while its jobs are told to end.
        sim.with(|state| state.given_up.insert(wish.label.clone()));
        let waiting = github::cancel_jobs(sim, &ids);
        if !cancelled && !endless && waiting > 0 {
            sim.with(|state| invariant::served(state, done, waiting));
        }
    }
}

/// What must hold once faults have stopped.
async fn in_the_end(sim: &Sim) {
    // Longer than a machine may be without a record, and than clocks are off.
    sim.pause(MINS(6), MINS(14)).await;
    let forlorn = sim.with(|state| invariant::forlorn(state));
    let (mut refreshes, mut last_began) = (0, sim.time());
    while refreshes < 2 {
        last_began = sim.time();
        // One that leaves everything to a refresh that died meanwhile does not count.
        refreshes += usize::from(run_refresh(sim, &Fortune::GOOD).await.is_some());
        sleep(SECS(90)).await;
    }
    let leaking = sim.with(|state| invariant::leaking(state, last_began));
    sleep(SECS(15)).await;
    sim.step(|state| invariant::no_leak(state, last_began, &leaking, &forlorn));
    everything_idle_can_be_claimed(sim).await;
    // A threshold may pass between two of them; not between all.
    let mut planned = None;
    for _ in 0..3 {
        planned = run_refresh(sim, &Fortune::GOOD).await;
        if planned.as_ref().is_some_and(Vec::is_empty) {
            break;
        }
    }
    let planned = planned.unwrap_or_else(|| vec!["it failed".to_owned()]);
    sim.with(|state| invariant::idempotent(state, "refresh", &planned));
}

async fn everything_idle_can_be_claimed(sim: &Sim) {
    let now = sim.time();
    let claimable = sim.with(|state| invariant::claimable(state, now));
    let Ok(count) = u32::try_from(claimable.len()) else {
        return;
    };
    if count == 0 {
        return;
    }
    let run = "999".parse().expect("a valid run id");
    let wish = Wish {
        label: Label::of(&run, None),
        run,
        attempt: 1,
        count,
    };
    let reused = match run_provision(sim, &wish, &Fortune::GOOD).await {
        Provision::Done(done) => done.machines.iter().filter(|ready| ready.reused).count(),
        Provision::Failed | Provision::Killed => 0,
    };
    sim.step(|state| {
        invariant::no_loss(state, &claimable, reused);
        state.count("machines claimed in the end");
    });
    sim.with(|state| state.given_up.insert(wish.label.clone()));
    run_release(sim, &wish, &Fortune::GOOD).await;
    let before = standing(sim);
    run_release(sim, &wish, &Fortune::GOOD).await;
    let after = standing(sim);
    let changed: Vec<String> = after
        .into_iter()
        .filter(|line| !before.contains(line))
        .collect();
    sim.with(|state| invariant::idempotent(state, "release", &changed));
}

/// All that a command of the controller's can change.
fn standing(sim: &Sim) -> Vec<String> {
    sim.with(|state| {
        let records = state.records.values().map(Past::now);
        let mut lines: Vec<String> = records
            .filter(|record| record.state != Stands::Terminated)
            .map(|record| {
                let id = record.id();
                let messages = state.queues.listing(id).count();
                format!(
                    "{id}: {} {:?} {} {messages} messages",
                    record.state, record.label, record.generation
                )
            })
            .collect();
        let journals = state.journals.values().map(Past::now);
        lines.extend(journals.map(|journal| format!("{} {}", journal.label, journal.revision)));
        let alive = state.cloud.machines.iter().filter(|(_, vm)| vm.alive);
        lines.extend(alive.map(|(id, _)| format!("{id} runs")));
        lines
    })
}
