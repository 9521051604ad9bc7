//! What a provision left whose controller died, or whose calls came late.

use std::error::Error;

use proto::{
    ids::{InstanceArn, InstanceId},
    provision::{Phase, ProvisionRecord},
    state::State,
};

use super::{Left, terminate};
use crate::{journal::Journal, output::chain, world::World};

/// Finishes a provision whose controller is dead, as refresh would: its journal is taken over, so
/// that a controller that is only slow can write nothing more, then its machines are ended. The
/// journal as it is then.
pub(in crate::provision) async fn take_over(
    world: &World,
    record: ProvisionRecord,
    reason: &str,
) -> Result<ProvisionRecord, Left> {
    let words = |what: &str, error: &dyn Error| Left(vec![format!("{what}: {}", chain(error))]);
    let mut journal = Journal::resume(world, record);
    journal
        .write(|record| record.phase = Phase::RollingBack)
        .await
        .map_err(|error| words("the earlier provision's journal", &error))?;
    let machines = world
        .fleet
        .machines(&world.pool_name)
        .await
        .map_err(|error| words("the earlier provision's machines", &error))?;
    let token = journal.record().client_token.clone();
    let unknown = machines
        .into_iter()
        .filter(|machine| machine.alive && machine.fleet.as_deref() == Some(&token));
    journal.note_launched(unknown.map(|machine| machine.id));
    let record = journal.record().clone();
    let ids: Vec<InstanceId> = record.machines().cloned().collect();
    let left = terminate(world, &record, &ids, reason).await;
    if !left.is_empty() {
        return Err(Left(left));
    }
    journal
        .write(|record| {
            record.phase = Phase::RolledBack;
            record.error = Some(reason.to_owned());
        })
        .await
        .map_err(|error| words("the earlier provision's journal", &error))?;
    Ok(journal.record().clone())
}

/// Ends the machines that a claim reached only after its provision was rolled back, as a call whose
/// answer never came may be: they would serve the label beside those that it gets now. What could not
/// be done, in words.
pub(in crate::provision) async fn late_claims(
    world: &World,
    closed: &ProvisionRecord,
) -> Vec<String> {
    let candidates = match closed.phase {
        Phase::RolledBack => closed.claimed.iter(),
        Phase::Open | Phase::RollingBack | Phase::Committed | Phase::Released => [].iter(),
    };
    let arns: Vec<InstanceArn> = candidates.map(|id| world.arn(id)).collect();
    if arns.is_empty() {
        return Vec::new();
    }
    let records = match world.table.instances(&arns).await {
        Ok(records) => records,
        Err(error) => return vec![chain(&error)],
    };
    // Those that ended with the roll-back EC2 may have forgotten by now.
    let late: Vec<InstanceId> = records
        .iter()
        .filter(|record| {
            record.state != State::Terminated && record.label.as_ref() == Some(&closed.label)
        })
        .map(|record| record.id().clone())
        .collect();
    let reason = "it was claimed after its provision was rolled back";
    terminate(world, closed, &late, reason).await
}
