//! Selection: idle machines that will do, leased from the queue and claimed in the table.
//!
//! A message is leased, not deleted on receipt: a controller that dies here loses no machine.

use std::{
    collections::{BTreeSet, VecDeque},
    time::Duration,
};

use futures::future::join_all;
use proto::{
    config::ResourceClass,
    ids::InstanceId,
    instance::InstanceRecord,
    message::PoolMessage,
    provision::Request,
    state::{State, Terminate, Transition},
    table::Outcome,
    time::Time,
};
use wildmatch::WildMatch;

use super::{Held, ProvisionError, Ready, Saga};

/// One long poll asks all of the queue's servers; a short one only some, and may come back empty
/// although there are messages.
const LONG_POLL: Duration = Duration::from_secs(1);

/// So many empty polls are enough, even if the table knows idle machines that were not seen: their
/// messages are leased by others, who may give them back, or they are still being cleaned, or
/// their messages are lost.
const POLLS_IN_VAIN: u32 = 3;

/// How long a message is ours. Selection is done with it in about a second; should this
/// controller die, others wait this long for it.
const LEASE: Duration = Duration::from_secs(30);

/// Why a machine will not do for this request; it may for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unsuitable {
    UsageClass,
    InstanceType,
    Size,
    TemplateVersion,
}

pub(super) fn unsuitable(
    message: &PoolMessage,
    request: &Request,
    class: &ResourceClass,
    template_version: i64,
) -> Option<Unsuitable> {
    let type_will_do = request
        .allowed_instance_types
        .iter()
        .any(|pattern| WildMatch::new(pattern).matches(&message.instance_type));
    if message.usage_class != request.usage_class {
        Some(Unsuitable::UsageClass)
    } else if !type_will_do {
        Some(Unsuitable::InstanceType)
    } else if message.resource_class != class.name
        || message.cpu != class.cpu
        || message.mmem < class.mmem
    {
        Some(Unsuitable::Size)
    } else if message.template_version != template_version {
        Some(Unsuitable::TemplateVersion)
    } else {
        None
    }
}

/// What became of a claim.
enum Claimed {
    Ours(Box<InstanceRecord>),
    Unfit(InstanceId, String),
    /// Claimed by another, expired, or gone: the message was stale.
    Stale,
}

/// Which idle machines would do, by their records: none means that the queue need not be asked.
pub(super) fn candidates(
    idle: &[InstanceRecord],
    request: &Request,
    class: &ResourceClass,
    template_version: i64,
    now: Time,
) -> BTreeSet<InstanceId> {
    idle.iter()
        .filter(|record| {
            record.label.is_none()
                && record.job.is_none()
                && record.threshold.is_some_and(|threshold| threshold > now)
                && unsuitable(
                    &PoolMessage::of(record, now),
                    request,
                    class,
                    template_version,
                )
                .is_none()
        })
        .map(|record| record.id().clone())
        .collect()
}

impl Saga<'_> {
    /// Claims idle machines until `wanted` are held or the pool is exhausted.
    ///
    /// The table's index says which idle machines there are to hope for: when it knows of none that
    /// was not seen yet, the queue is not asked, for a long poll that finds nothing costs a
    /// second. That is safe, since the index only decides whether to ask: what is claimed is still
    /// decided by the queue's lease and the table's condition. At worst a machine became idle this
    /// very moment, and one more is launched than was needed, which the pool then keeps.
    pub(super) async fn select(&mut self, wanted: usize) -> Result<(), ProvisionError> {
        let queue = self.setup.class.queue_url.clone();
        let ours: BTreeSet<InstanceId> =
            self.held.iter().map(|held| held.ready.id.clone()).collect();
        let mut seen = ours.clone();
        let mut not_for_us = Vec::new();
        let mut in_vain = 0;
        let mut hoped_for = match self.hoped_for.take() {
            Some(known) => known,
            None => self.look_for_idle().await?,
        };
        while self.held.len() < wanted && !hoped_for.is_subset(&seen) {
            let leases = self.world.pool.receive(&queue, LONG_POLL, LEASE).await?;
            let (mut fit, mut useless) = (VecDeque::new(), Vec::new());
            let mut anything_new = false;
            for lease in leases {
                let message = match PoolMessage::parse(&lease.body) {
                    Ok(message) => message,
                    Err(error) => {
                        tracing::warn!("deleting a message from {queue}: {error}");
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
                let request = self.request_now();
                let version = self.setup.template.version;
                match unsuitable(&message, &request, &self.setup.class, version) {
                    None => fit.push_back((message, lease.handle)),
                    Some(why) => {
                        tracing::debug!("{} will not do: {why:?}", message.id);
                        not_for_us.push(lease.handle);
                    }
                }
            }
            // Where a message proves stale, the next one steps in.
            while self.held.len() < wanted && !fit.is_empty() {
                let missing = (wanted - self.held.len()).min(fit.len());
                let candidates = fit.drain(..missing).collect();
                useless.extend(self.claim_all(candidates).await?);
            }
            not_for_us.extend(fit.into_iter().map(|(_, handle)| handle));
            if !useless.is_empty() {
                self.world.pool.delete(&queue, &useless).await?;
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
            self.world.pool.give_back(&queue, &not_for_us).await?;
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
        let version = self.setup.template.version;
        Ok(candidates(&idle, &request, &self.setup.class, version, now))
    }

    /// Claims candidates in parallel. All their messages are then of no use to anyone: their
    /// handles.
    async fn claim_all(
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
                Claimed::Stale => not_ours.push(message.id.clone()),
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
                after: Duration::ZERO,
            },
            since: now,
            deadline: now + self.setup.parameters.claim_timeout(),
            generation: None,
        });
    }

    /// Terminates machines of ours that will not serve; nobody else is affected.
    pub(super) async fn discard(
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
        for (id, error) in self.world.fleet.terminate(&locked).await? {
            // Its record says terminated: its agent, or else refresh, ends it.
            tracing::warn!("{id} could not be terminated: {error}");
        }
        self.held.retain(|held| !ids.contains(&held.ready.id));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proto::{instance::UsageClass, message::VERSION};

    use super::*;

    fn message() -> PoolMessage {
        PoolMessage {
            v: VERSION,
            id: "i-0123456789abcdef0".parse().unwrap(),
            resource_class: "large".parse().unwrap(),
            instance_type: "m6i.large".into(),
            cpu: 2,
            mmem: 4096,
            usage_class: UsageClass::OnDemand,
            template_version: 3,
            pooled_at: Time::from_millis(0),
        }
    }

    fn verdict(message: &PoolMessage, types: &str) -> Option<Unsuitable> {
        let request = Request {
            count: 1,
            resource_class: "large".parse().unwrap(),
            usage_class: UsageClass::OnDemand,
            allowed_instance_types: types.split(' ').map(str::to_owned).collect(),
            max_runtime_sec: 60,
        };
        let class = ResourceClass {
            name: "large".parse().unwrap(),
            cpu: 2,
            mmem: 4096,
            queue_url: String::new(),
        };
        unsuitable(message, &request, &class, 3)
    }

    #[test]
    fn what_was_asked_for_will_do() {
        for types in ["c* m* r*", "m6i.*", "m6i.large", "*"] {
            assert_eq!(verdict(&message(), types), None, "{types}");
        }
    }

    #[test]
    fn what_was_not_asked_for_will_not() {
        assert_eq!(verdict(&message(), "c*"), Some(Unsuitable::InstanceType));
        assert_eq!(verdict(&message(), "m6i"), Some(Unsuitable::InstanceType));
        let spot = PoolMessage {
            usage_class: UsageClass::Spot,
            ..message()
        };
        assert_eq!(verdict(&spot, "*"), Some(Unsuitable::UsageClass));
        let small = PoolMessage {
            mmem: 2048,
            ..message()
        };
        assert_eq!(verdict(&small, "*"), Some(Unsuitable::Size));
        let old = PoolMessage {
            template_version: 2,
            ..message()
        };
        assert_eq!(verdict(&old, "*"), Some(Unsuitable::TemplateVersion));
    }
}
