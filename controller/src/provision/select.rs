//! Selection: idle machines that will do, leased from the queue and claimed in the table.
//!
//! A message is leased, not deleted on receipt: a controller that dies here loses no machine.

mod claim;
mod judge;

use std::{
    collections::{BTreeSet, VecDeque},
    time::Duration,
};

use proto::{
    ids::InstanceId, message::PoolMessage, provision::Request, signal::Signal, state::State,
};

use self::judge::Use;
pub(super) use self::judge::Wish;
use super::{ProvisionError, Saga};
use crate::{
    output::chain,
    ports::{MESSAGES_A_CALL, PortError},
};

/// One long poll asks all of the queue's servers; a short one only some, and may come back empty
/// although there are messages.
const LONG_POLL: Duration = Duration::from_secs(1);

/// So many empty polls are enough, even if the table knows idle machines that were not seen: their
/// messages are leased by others, or lost, or they are still being cleaned.
const POLLS_IN_VAIN: u32 = 3;

/// How long a message is ours. Selection is done with it in about a second; should this
/// controller die, others wait this long for it.
const LEASE: Duration = Duration::from_secs(30);

impl Saga<'_> {
    /// Claims idle machines until `wanted` are held or the pool is exhausted.
    ///
    /// The table's index says which idle machines there are to hope for: when it knows of none that
    /// was not seen yet, the queue is not asked, for a long poll that finds nothing costs a
    /// second. That is safe, since the index only decides whether to ask: what is claimed is still
    /// decided by the queue's lease and the table's condition. At worst a machine became idle this
    /// very moment, and one more is launched than was needed, which the pool then keeps.
    ///
    /// No more messages are leased than machines are missing: what is leased, others who look for
    /// the same do not see.
    pub(super) async fn select(&mut self, wanted: usize) -> Result<(), ProvisionError> {
        let queue = self.setup.class.queue_url.clone();
        let request = self.request_now();
        let ours: BTreeSet<InstanceId> =
            self.held.iter().map(|held| held.ready.id.clone()).collect();
        let mut seen = ours.clone();
        let mut not_for_us = Vec::new();
        let (mut in_vain, mut at_least) = (0, 1);
        let mut hoped_for = match self.hoped_for.take() {
            Some(known) => known,
            None => self.look_for_idle().await?,
        };
        while self.held.len() < wanted && !hoped_for.is_subset(&seen) {
            let most = (wanted - self.held.len()).max(at_least);
            let most = most.min(MESSAGES_A_CALL);
            let pool = &self.world.pool;
            let leases = pool.receive(&queue, most, LONG_POLL, LEASE).await?;
            let (mut fit, mut useless) = (VecDeque::new(), Vec::new());
            let mut anything_new = false;
            for lease in leases {
                let message = match PoolMessage::parse(&lease.body) {
                    Ok(message) => message,
                    Err(error) => {
                        self.console
                            .say(format_args!("a message of the pool is deleted: {error}"));
                        useless.push(lease.handle);
                        anything_new = true;
                        continue;
                    }
                };
                if ours.contains(&message.id) {
                    // A double: its machine is taken, by us.
                    useless.push(lease.handle);
                    continue;
                }
                if !seen.insert(message.id.clone()) {
                    not_for_us.push(lease.handle);
                    continue;
                }
                anything_new = true;
                match self.setup.wish(&request).judge(&message, self.world.now()) {
                    Use::Claim => fit.push_back((message, lease.handle)),
                    Use::GiveBack(why) => {
                        tracing::debug!("{} will not do: {why}", message.id);
                        not_for_us.push(lease.handle);
                    }
                    Use::Delete(why) => {
                        self.console.say(format_args!(
                            "{}: its message is deleted: {why}",
                            message.id
                        ));
                        useless.push(lease.handle);
                    }
                }
            }
            // What will do lies behind what will not: there may be much of that.
            at_least = if anything_new && fit.is_empty() {
                MESSAGES_A_CALL
            } else {
                1
            };
            // Where a message proves stale, the next one steps in.
            while self.held.len() < wanted && !fit.is_empty() {
                let missing = (wanted - self.held.len()).min(fit.len());
                let candidates = fit.drain(..missing).collect();
                useless.extend(self.claim_all(candidates).await?);
            }
            not_for_us.extend(fit.into_iter().map(|(_, handle)| handle));
            if !useless.is_empty() {
                harmless(self.world.pool.delete(&queue, &useless).await);
            }
            if !anything_new {
                in_vain += 1;
                if in_vain == POLLS_IN_VAIN {
                    break;
                }
                hoped_for = self.look_for_idle().await?;
            }
        }
        if !not_for_us.is_empty() {
            harmless(self.world.pool.give_back(&queue, &not_for_us).await);
        }
        if in_vain == POLLS_IN_VAIN && self.held.len() < wanted {
            let unseen = hoped_for.difference(&seen).cloned().collect();
            self.claim_unlisted(wanted, unseen).await?;
        }
        Ok(())
    }

    /// Claims idle machines that no message has shown: messages may be lost, and stale ones hide
    /// that from refresh. The table decides whose a machine is, with a message or without.
    async fn claim_unlisted(
        &mut self,
        wanted: usize,
        unseen: Vec<InstanceId>,
    ) -> Result<(), ProvisionError> {
        let arns: Vec<_> = unseen.iter().map(|id| self.world.arn(id)).collect();
        let records = self.world.table.instances(&arns).await?;
        let now = self.world.now();
        let clean = records
            .iter()
            .filter(|record| record.state == State::Idle && record.says(Signal::RemoveRegOk));
        let mut found: VecDeque<_> = clean
            .map(|record| (PoolMessage::of(record, now), String::new()))
            .collect();
        while self.held.len() < wanted && !found.is_empty() {
            let missing = (wanted - self.held.len()).min(found.len());
            let candidates = found.drain(..missing).collect();
            self.claim_all(candidates).await?;
        }
        Ok(())
    }

    /// The request, with the usage class that is being looked for now.
    pub(super) fn request_now(&self) -> Request {
        Request {
            usage_class: self.usage,
            ..self.journal.record().request.clone()
        }
    }

    async fn look_for_idle(&self) -> Result<BTreeSet<InstanceId>, ProvisionError> {
        let idle = self.world.table.instances_in(State::Idle, None).await?;
        let (request, now) = (self.request_now(), self.world.now());
        Ok(self.setup.wish(&request).candidates(&idle, now))
    }
}

/// A message that is not put away comes back when its lease ends, and misleads nobody: the table
/// decides. That is no reason to fail.
fn harmless(put_away: Result<(), PortError>) {
    if let Err(error) = put_away {
        tracing::warn!("messages stay leased for a while: {}", chain(&error));
    }
}
