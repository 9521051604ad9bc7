//! Claiming: the table decides whose a machine is.

use futures::future::join_all;
use proto::{
    ids::InstanceId,
    instance::InstanceRecord,
    message::PoolMessage,
    state::{Terminate, Transition},
    table::Outcome,
    time::Time,
};

use super::super::{Held, ProvisionError, Ready, Saga};
use crate::{output::chain, ports::Unknown};

/// What became of a claim.
enum Claimed {
    Ours(Box<InstanceRecord>),
    Unfit(InstanceId, String),
    /// Claimed by another, expired, or gone: the message was stale.
    Stale,
}

impl Saga<'_> {
    /// Claims candidates in parallel. All their messages are then of no use to anyone: their
    /// handles.
    pub(super) async fn claim_all(
        &mut self,
        candidates: Vec<(PoolMessage, String)>,
    ) -> Result<Vec<String>, ProvisionError> {
        if candidates.is_empty() {
            return Ok(Vec::new());
        }
        let (messages, handles): (Vec<PoolMessage>, Vec<String>) = candidates.into_iter().unzip();
        let ids: Vec<InstanceId> = messages.iter().map(|message| message.id.clone()).collect();
        self.journal
            .write(|record| record.claimed.extend(ids))
            .await?;
        let now = self.world.now();
        let claims = messages.iter().map(|message| self.claim(message, now));
        let claims = join_all(claims).await;
        let (mut unfit, mut not_ours) = (Vec::new(), Vec::new());
        for (claimed, message) in claims.into_iter().zip(&messages) {
            match claimed? {
                Claimed::Ours(record) => self.hold(&record, now),
                Claimed::Unfit(id, why) => {
                    self.console
                        .say(format!("{id} was idle but is unfit ({why}): terminated"));
                    unfit.push(id);
                }
                Claimed::Stale => {
                    self.console.say(format_args!(
                        "{}: its message was stale and is deleted",
                        message.id
                    ));
                    not_ours.push(message.id.clone());
                }
            }
        }
        self.journal.forget_claims(&not_ours);
        self.discard(&unfit, "unfit at its claim").await?;
        Ok(handles)
    }

    async fn claim(&self, message: &PoolMessage, now: Time) -> Result<Claimed, ProvisionError> {
        let transition = Transition::Claim {
            label: self.settings.label.clone(),
            token: self.setup.tokens.registration.clone(),
            // Longer than this provision waits for it to register: it then waits for the others.
            timeout: self.setup.parameters.created_timeout(),
        };
        let arn = self.world.arn(&message.id);
        let record = match self
            .world
            .table
            .change_instance(&arn, &transition.change(now))
            .await?
        {
            Outcome::Applied(record) => record,
            Outcome::Conflict(Some(current)) if transition.is_done(&current) => current,
            Outcome::Conflict(_) => return Ok(Claimed::Stale),
        };
        let id = message.id.clone();
        Ok(if let Some(reason) = record.unhealthy() {
            Claimed::Unfit(id, reason.to_owned())
        } else if !record.beats(now, self.setup.parameters.healthy_within()) {
            Claimed::Unfit(id, "its heartbeat is stale".to_owned())
        } else {
            Claimed::Ours(Box::new(record))
        })
    }

    fn hold(&mut self, record: &InstanceRecord, now: Time) {
        self.console.say(format!(
            "{} reused ({}, {}, {})",
            record.id(),
            record.instance_type,
            record.zone,
            record.usage_class
        ));
        self.held.push(Held {
            ready: Ready {
                id: record.id().clone(),
                instance_type: record.instance_type.clone(),
                zone: record.zone.clone(),
                usage: record.usage_class,
                reused: true,
                after: None,
            },
            since: now,
            deadline: now + self.setup.parameters.claim_timeout(),
            generation: record.generation,
            registered: false,
        });
    }

    /// Terminates machines of ours that will not serve; nobody else is affected.
    pub(in crate::provision) async fn discard(
        &mut self,
        ids: &[InstanceId],
        reason: &str,
    ) -> Result<(), ProvisionError> {
        if ids.is_empty() {
            return Ok(());
        }
        let now = self.world.now();
        let transition = Transition::Terminate {
            reason: reason.to_owned(),
            only: Terminate::Of(self.settings.label.clone()),
        };
        let (table, change) = (&self.world.table, transition.change(now));
        let locks = ids.iter().map(async |id| {
            let arn = self.world.arn(id);
            (id, table.change_instance(&arn, &change).await)
        });
        let mut locked = Vec::new();
        for (id, outcome) in join_all(locks).await {
            match outcome? {
                Outcome::Applied(_) | Outcome::Conflict(None) => locked.push(id.clone()),
                Outcome::Conflict(Some(current)) if transition.is_done(&current) => {
                    locked.push(id.clone());
                }
                // Not ours any more: whoever has it looks after it.
                Outcome::Conflict(Some(_)) => {}
            }
        }
        for (id, error) in self.world.fleet.terminate(&locked, Unknown::Gone).await? {
            // Its record says terminated: its agent, or else refresh, ends it.
            tracing::warn!("{id} could not be terminated: {}", chain(&error));
        }
        self.held.retain(|held| !ids.contains(&held.ready.id));
        Ok(())
    }
}
