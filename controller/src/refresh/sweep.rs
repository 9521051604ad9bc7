//! Deletes messages of machines that are not idle any more. Left alone they would wait for up to
//! 14 days, each costing some later provision a claim that fails.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use proto::{
    ids::{Home, InstanceArn, InstanceId},
    message::PoolMessage,
    state::State,
};

use super::{RefreshPorts, StepError};
use crate::ports::{Lease, MESSAGES_A_CALL};

/// A long poll asks all of the queue's servers.
const LONG_POLL: Duration = Duration::from_secs(1);
/// A sweep is over in seconds; should it die, the good messages come back after this long.
const LEASE: Duration = Duration::from_secs(30);
/// So many receives at most (of ten messages each): what is left, the next refresh finds.
const RECEIVES: usize = 100;

/// Sweeps one queue.
pub(super) async fn sweep(
    ports: &RefreshPorts,
    home: &Home,
    queue_url: &str,
) -> Result<(), StepError> {
    let (mut kept, mut listed) = (Vec::new(), BTreeMap::new());
    for _ in 0..RECEIVES {
        let leases = ports
            .pool
            .receive(queue_url, MESSAGES_A_CALL, LONG_POLL, LEASE)
            .await?;
        if leases.is_empty() {
            break;
        }
        let messages: Vec<(Option<InstanceId>, Lease)> = leases
            .into_iter()
            .map(|lease| {
                let message = PoolMessage::parse(&lease.body).ok();
                (message.map(|message| message.id), lease)
            })
            .collect();
        let idle = idle(ports, home, &messages).await?;
        let mut stale = Vec::new();
        for (machine, Lease { id, handle, .. }) in messages {
            let first = machine
                .filter(|machine| idle.contains(machine))
                .map(|machine| listed.entry(machine).or_insert_with(|| id.clone()));
            // Listed once is enough; but that one message may be delivered twice.
            if first.is_some_and(|first| *first == id) {
                kept.push(handle);
            } else {
                stale.push(handle);
            }
        }
        if !stale.is_empty() {
            ports.pool.delete(queue_url, &stale).await?;
        }
    }
    if !kept.is_empty() {
        ports.pool.give_back(queue_url, &kept).await?;
    }
    Ok(())
}

/// Those machines that are idle, by the table itself: the index may lag behind.
async fn idle(
    ports: &RefreshPorts,
    home: &Home,
    messages: &[(Option<InstanceId>, Lease)],
) -> Result<BTreeSet<InstanceId>, StepError> {
    let ids: BTreeSet<&InstanceId> = messages.iter().filter_map(|(id, _)| id.as_ref()).collect();
    let arns: Vec<InstanceArn> = ids.iter().map(|id| InstanceArn::new(home, id)).collect();
    let records = ports.table.instances(&arns).await?;
    Ok(records
        .into_iter()
        .filter(|record| record.state == State::Idle)
        .map(|record| record.id().clone())
        .collect())
}
