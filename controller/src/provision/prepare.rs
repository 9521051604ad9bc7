//! Before anything happens: what is there already, and what there is to hope for.

use std::collections::{BTreeMap, BTreeSet};

use proto::{
    ids::InstanceId,
    provision::{Phase, ProvisionRecord},
    state::State,
};

use super::{
    Failure, ProvisionError, Provisioned, Setup,
    earlier::{self, Start},
    launch,
};
use crate::{output::Console, settings::run::ProvisionSettings, world::World};

pub(super) enum Prepared {
    /// The journal's revision to begin with, and the idle machines to hope for.
    Begin(u64, BTreeSet<InstanceId>),
    /// The label has its machines already.
    Done(Provisioned),
}

/// Looks at the run's earlier provisions and at the pool, both at once.
pub(super) async fn prepare(
    world: &World,
    settings: &ProvisionSettings,
    setup: &Setup,
    console: &Console,
) -> Result<Prepared, Failure> {
    let (records, idle) = futures::try_join!(
        world.table.provisions_of(&settings.run),
        world.table.instances_in(State::Idle, None),
    )
    .map_err(ProvisionError::from)?;
    let earlier = records
        .into_iter()
        .find(|record| record.label == settings.label);
    Ok(
        match earlier::settle(world, settings, setup, earlier, console).await? {
            Start::Done(provisioned) => Prepared::Done(provisioned),
            Start::Begin { revision, pooled } => {
                let (request, now) = (settings.request(&setup.parameters), world.now());
                let mut hoped_for = setup.wish(&request).candidates(&idle, now);
                hoped_for.extend(pooled);
                Prepared::Begin(revision, hoped_for)
            }
        },
    )
}

/// The journal's first entry.
pub(super) fn first_record(
    world: &World,
    settings: &ProvisionSettings,
    setup: &Setup,
    revision: u64,
    client_token: &str,
) -> ProvisionRecord {
    let now = world.now();
    ProvisionRecord {
        run: settings.run.clone(),
        label: settings.label.clone(),
        revision,
        attempt: settings.attempt,
        repository: settings.repository.clone(),
        request: settings.request(&setup.parameters),
        phase: Phase::Open,
        client_token: launch::token(client_token, 1),
        claimed: Vec::new(),
        launched: Vec::new(),
        generations: BTreeMap::new(),
        started_at: now,
        beat: now,
        error: None,
        expires_at: None,
    }
}
