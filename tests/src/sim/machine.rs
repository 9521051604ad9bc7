//! A machine: it boots, and its agent runs and is started again when it was killed.

use std::{sync::Arc, time::Duration};

use agent::{
    machine::Notices,
    ports::{Cause, Identity, Metadata, Power},
    status::StatusFile,
};
use async_trait::async_trait;
use proto::{
    agent_config::AgentConfig,
    ids::{InstanceArn, InstanceId},
};
use rand::RngExt;
use tokio::time::Instant;

use super::{
    cloud::By,
    fault::Fault,
    host::SimHost,
    process::{Computer, Doomed, End, Process, Role},
    sabotage,
    world::{Sim, home, pool_name},
};

const MS: fn(u64) -> Duration = Duration::from_millis;
const SECS: fn(u64) -> Duration = Duration::from_secs;

/// What the launch template tells the agents. The look is slower than the default, which would
/// spend most of a simulation on looks that see nothing new.
pub(super) fn config() -> AgentConfig {
    serde_json::from_value(serde_json::json!({
        "v": 1,
        "pool": pool_name(),
        "table": "paddock-p",
        "region": home().region,
        "githubUrl": "https://github.com/acme/widgets",
        "times": { "look": 2.0 },
    }))
    .expect("a valid configuration")
}

/// The life of a machine.
pub(super) async fn live(sim: Sim, id: InstanceId) {
    sim.pause(SECS(2), SECS(12)).await;
    if sim.strikes(Fault::BootHangs) {
        return sim.say(&id, "hangs at boot");
    }
    let Some(ended) = sim.with(|state| Some(Arc::clone(&state.vm(&id)?.ended))) else {
        return;
    };
    let skew = sim.with(|state| {
        let off = state.strikes(Fault::ClockOff);
        if off {
            state.rng.random_range(-300_000..300_000)
        } else {
            0
        }
    });
    while sim.with(|state| state.is_alive(&id)) {
        let role = Role::Agent(id.clone());
        let process = Process::new(&sim, &format!("agent {id}"), role, skew);
        let waits_left = sim.with(|state| {
            let killed = state.strikes(Fault::AgentKilled);
            killed.then(|| state.rng.random_range(0..400))
        });
        let agent = Doomed {
            process: process.clone(),
            program: Box::pin(agent(process.clone(), id.clone(), skew)),
            waits_left,
            interrupted: None,
        };
        let end = tokio::select! {
            biased;
            () = ended.notified() => End::Done(()),
            end = agent => end,
        };
        process.kill();
        if end == End::Killed {
            sim.pause(MS(500), SECS(5)).await;
        }
    }
}

async fn agent(process: Process, id: InstanceId, skew: i64) {
    let arn = InstanceArn::new(&home(), &id);
    let host = SimHost {
        process: process.clone(),
        id: id.clone(),
    };
    let world = agent::run::World {
        table: sabotage::table(&process),
        host: sabotage::host(host),
        power: Arc::new(SimPower(process.clone(), id.clone())),
        metadata: sabotage::metadata(SimMetadata(process.clone(), id)),
        clock: Arc::new(process.clone()),
        machine_clock: Arc::new(Computer(process.sim.clone(), skew)),
        started: Instant::now(),
    };
    // Nobody reads it: a folder that is not there.
    let status = StatusFile::of("/nonexistent".as_ref());
    agent::run::run(world, config(), arn, &status, std::future::pending()).await;
}

/// What EC2 announces.
pub(super) struct SimMetadata(pub(super) Process, InstanceId);

#[async_trait]
impl Metadata for SimMetadata {
    async fn identity(&self) -> Result<Identity, Cause> {
        Ok(Identity {
            arn: InstanceArn::new(&home(), &self.1),
            region: home().region,
        })
    }

    async fn user_data(&self) -> Result<Option<Vec<u8>>, Cause> {
        Ok(None)
    }

    async fn may_be_taken_away(&self) -> Result<bool, Cause> {
        Ok(true)
    }

    async fn notices(&self) -> Result<Notices, Cause> {
        let Self(process, id) = self;
        process.live().await;
        let notices = process.sim.with(|state| {
            let vm = state.vm(id)?;
            Some(Notices {
                interruption: vm.notice,
                rebalance: vm.at_risk,
            })
        });
        Ok(notices.unwrap_or_default())
    }
}

struct SimPower(Process, InstanceId);

#[async_trait]
impl Power for SimPower {
    async fn off(&self) -> Result<(), Cause> {
        let Self(process, id) = self;
        process.pause(MS(100), SECS(2)).await;
        process
            .sim
            .step(|state| state.end_machine(id, &By::Process(process)));
        Ok(())
    }
}
