//! The steps of a workflow as processes: the real `provision` and `release`.

use std::{sync::Arc, time::Duration};

use controller::{
    output::Console,
    provision::{ProvisionError, Provisioned, provision},
    release::{GivenBack, release},
    settings::run::{ProvisionSettings, ReleaseSettings},
    world::World,
};
use proto::{
    config::Parameters,
    ids::{Label, RunId},
    instance::UsageClass,
};
use rand::RngExt;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::{
    fault::Fault,
    invariant,
    process::{Doomed, End, Process, Role},
    sabotage,
    world::{Sim, home, pool_name},
};

/// GitHub kills a step so long after it cancelled it.
const SIGKILL_AFTER: Duration = Duration::from_secs(10);

/// The times of the pool; the rest are the defaults of the inputs.
pub(super) fn parameters(idle_time: Duration) -> Parameters {
    Parameters {
        subnet_ids: vec!["subnet-1".to_owned()],
        idle_time_sec: idle_time.as_secs(),
        keeps_idle: false,
        max_jobs: None,
        max_age_sec: None,
        max_runtime_sec: 1_800,
        claim_timeout_sec: 30,
        fleet_timeout_sec: 180,
        release_timeout_sec: 120,
        healthy_within_sec: 15,
        metrics: false,
    }
}

/// What a process may meet.
pub(super) struct Fortune {
    pub(super) skew: i64,
    pub(super) waits_left: Option<u32>,
    interrupted: Option<u32>,
}

impl Fortune {
    /// Nothing.
    pub(super) const GOOD: Self = Self {
        skew: 0,
        waits_left: None,
        interrupted: None,
    };

    pub(super) fn draw(sim: &Sim) -> Self {
        sim.with(|state| {
            let waits = |waits: i64| u32::try_from(waits).unwrap_or_default();
            // A step has few waits when it is quick, hundreds when machines boot meanwhile.
            let most = [20, 80, 320][state.rng.random_range(0..3)];
            let mut maybe = |fault, most: i64| {
                let happens = state.strikes(fault);
                happens.then(|| state.rng.random_range(0..most))
            };
            Self {
                skew: maybe(Fault::ClockOff, 600_000).map_or(0, |skew| skew - 300_000),
                waits_left: maybe(Fault::ControllerKilled, most).map(waits),
                interrupted: maybe(Fault::StepCancelled, most).map(waits),
            }
        })
    }
}

fn console(process: &Process) -> Console {
    let process = process.clone();
    Console::heard_by(move |line| process.sim.say(&process, format!("“{line}”")))
}

pub(super) fn world(process: &Process) -> World {
    let sim = process.sim.clone();
    World {
        pool_name: pool_name(),
        home: home(),
        table: sabotage::table(process),
        pool: sabotage::pool(process),
        fleet: sabotage::fleet(process),
        clock: Arc::new(process.clone()),
        chance: Arc::new(move || sim.chance()),
    }
}

/// A workflow's wish.
#[derive(Clone, Debug)]
pub(super) struct Wish {
    pub(super) run: RunId,
    pub(super) label: Label,
    pub(super) attempt: u32,
    pub(super) count: u32,
}

/// How a provision ended.
pub(super) enum Provision {
    Done(Provisioned),
    Failed,
    Killed,
}

/// `controller provision`
pub(super) async fn run_provision(sim: &Sim, wish: &Wish, fortune: &Fortune) -> Provision {
    let role = Role::Step(wish.label.clone());
    let process = Process::new(sim, "provision", role, fortune.skew);
    let client_token = format!("{:032x}", sim.with(|state| state.rng.random::<u128>()));
    let settings = ProvisionSettings {
        run: wish.run.clone(),
        label: wish.label.clone(),
        count: wish.count,
        resource_class: "large".parse().expect("a valid name"),
        usage_class: UsageClass::OnDemand,
        allowed_instance_types: vec!["*".to_owned()],
        max_runtime: None,
        repository: None,
        attempt: wish.attempt,
        fallback: false,
        allocation: None,
        max_price: None,
    };
    let (world, console) = (world(&process), console(&process));
    let cancelled = CancellationToken::new();
    let program = async {
        let config = world.table.config().await.map_err(ProvisionError::from)?;
        let token = client_token.clone();
        provision(&world, &settings, config, token, &console, &cancelled).await
    };
    let program = Doomed {
        process: process.clone(),
        program: Box::pin(program),
        waits_left: fortune.waits_left,
        interrupted: fortune.interrupted.map(|waits| (waits, cancelled.clone())),
    };
    let sigkill = async {
        cancelled.cancelled().await;
        sleep(SIGKILL_AFTER).await;
    };
    let end = tokio::select! {
        biased;
        end = program => end,
        () = sigkill => {
            process.kill();
            sim.with(|state| invariant::prompt(state, &process));
            End::Killed
        }
    };
    sim.step(|state| match end {
        End::Done(Ok(done)) => {
            state.say(&process, "is done");
            state.count("provisions done");
            invariant::after_done(state, wish.count as usize, &done);
            for machine in &done.machines {
                state.count(if machine.reused {
                    "machines reused"
                } else {
                    "machines new"
                });
                let took = machine.after.map(|after| (machine.reused, after));
                state.ready.extend(took);
            }
            Provision::Done(done)
        }
        End::Done(Err(failure)) => {
            state.say(
                &process,
                format!("fails: {}; left {:?}", failure.error, failure.left),
            );
            state.count("provisions failed");
            state.given_up.insert(wish.label.clone());
            if failure.left.is_empty() && !matches!(failure.error, ProvisionError::Taken { .. }) {
                invariant::after_failed(state, &wish.label, &client_token);
            }
            Provision::Failed
        }
        End::Killed => {
            state.count("provisions killed");
            state.given_up.insert(wish.label.clone());
            Provision::Killed
        }
    })
}

/// `controller release`
pub(super) async fn run_release(sim: &Sim, wish: &Wish, fortune: &Fortune) -> Option<GivenBack> {
    let role = Role::Step(wish.label.clone());
    let process = Process::new(sim, "release", role, fortune.skew);
    let settings = ReleaseSettings {
        run: wish.run.clone(),
        label: None,
        seen: None,
        timeout: None,
    };
    let (world, console) = (world(&process), console(&process));
    let program = async {
        let config = world.table.config().await.ok()?;
        release(&world, &settings, &config, &console).await.ok()
    };
    let program = Doomed {
        process: process.clone(),
        program: Box::pin(program),
        waits_left: fortune.waits_left,
        interrupted: None,
    };
    match program.await {
        End::Done(given) => {
            sim.with(|state| {
                state.say(&process, format!("released {given:?}"));
                state.count("releases");
            });
            given
        }
        End::Killed => None,
    }
}
