//! Gives back the machines of a run that is over and did not do so: its release step was skipped,
//! or its runner died.

use std::time::Duration;

use proto::{
    config::Config,
    ids::{Home, InstanceId, PoolName, RunId},
};
use tokio::sync::mpsc::UnboundedSender;

use super::{RefreshPorts, StepError};
use crate::{output::Console, release::release, settings::run::ReleaseSettings, world::World};

/// No job runs there any more: a machine that does not come clean within this is broken.
const WITHIN: Duration = Duration::from_secs(30);

/// Releases those machines of the run, each in the generation that was looked at: the run may have
/// begun another attempt since. `said` gets what there is to tell.
pub(super) async fn give_back(
    ports: &RefreshPorts,
    pool: &PoolName,
    home: &Home,
    config: &Config,
    run: &RunId,
    machines: &[(InstanceId, u64)],
    said: &UnboundedSender<String>,
) -> Result<(), StepError> {
    let world = World {
        pool_name: pool.clone(),
        home: home.clone(),
        table: ports.table.clone(),
        pool: ports.pool.clone(),
        fleet: ports.fleet.clone(),
        clock: ports.clock.clone(),
        chance: ports.chance.clone(),
    };
    let settings = ReleaseSettings {
        run: run.clone(),
        label: None,
        seen: Some(machines.iter().cloned().collect()),
        timeout: Some(WITHIN),
    };
    let said = said.clone();
    // Whoever listens stays until the release is done.
    let console = Console::heard_by(move |line| drop(said.send(line.to_owned())));
    release(&world, &settings, config, &console).await?;
    Ok(())
}
