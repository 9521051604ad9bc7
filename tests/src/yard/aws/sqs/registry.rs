//! All queues of the account, by name.

use std::collections::BTreeMap;
use std::time::Duration;

use rand::SeedableRng as _;
use rand::rngs::StdRng;
use tokio::time::Instant;

use super::attributes::Attributes;
use super::error::SqsError;
use super::queue::{Ask, Message, Queue};

/// The queues, and the names that are blocked.
#[derive(Debug)]
pub(super) struct Registry {
    queues: BTreeMap<String, Queue>,
    deleted: BTreeMap<String, Instant>,
    blocked_for: Duration,
    arn_prefix: String,
    disorder: Option<StdRng>,
}

impl Registry {
    /// `arn_prefix` and a queue's name make its ARN.
    pub(super) fn new(arn_prefix: String, blocked_for: Duration, disorder: Option<u64>) -> Self {
        Self {
            queues: BTreeMap::new(),
            deleted: BTreeMap::new(),
            blocked_for,
            arn_prefix,
            disorder: disorder.map(StdRng::seed_from_u64),
        }
    }

    /// Creates the queue, or does nothing when an equal one exists.
    pub(super) fn create(
        &mut self,
        name: &str,
        wanted: &BTreeMap<String, String>,
        tags: BTreeMap<String, String>,
        now: Instant,
        wall: i64,
    ) -> Result<(), SqsError> {
        check_name(name)?;
        let mut attributes = Attributes::default();
        attributes.set(wanted)?;
        if let Some(queue) = self.queues.get(name) {
            return match queue.attributes.difference(wanted) {
                None => Ok(()),
                Some(attribute) => Err(SqsError::QueueNameExists(attribute)),
            };
        }
        let blocked_for = self.blocked_for;
        self.deleted.retain(|_, at| *at + blocked_for > now);
        if self.deleted.contains_key(name) {
            return Err(SqsError::QueueDeletedRecently);
        }
        let mut queue = Queue::new(attributes, wall);
        queue.tags = tags;
        self.queues.insert(name.to_owned(), queue);
        Ok(())
    }

    pub(super) fn delete(&mut self, name: &str, now: Instant) -> Result<(), SqsError> {
        let queue = self
            .queues
            .remove(name)
            .ok_or(SqsError::QueueDoesNotExist)?;
        queue.bell.notify_waiters();
        self.deleted.insert(name.to_owned(), now);
        Ok(())
    }

    pub(super) fn get(&mut self, name: &str) -> Result<&mut Queue, SqsError> {
        self.queues.get_mut(name).ok_or(SqsError::QueueDoesNotExist)
    }

    /// The names that begin with `prefix`, from `after` on.
    pub(super) fn names(&self, prefix: &str, after: Option<&str>) -> Vec<String> {
        self.queues
            .keys()
            .filter(|name| name.starts_with(prefix))
            .filter(|name| after.is_none_or(|after| name.as_str() > after))
            .cloned()
            .collect()
    }

    pub(super) fn arn(&self, name: &str) -> String {
        format!("{}{name}", self.arn_prefix)
    }

    /// Leases messages of a queue, after its failed ones went where its redrive
    /// policy says.
    pub(super) fn receive(
        &mut self,
        name: &str,
        ask: &Ask,
        now: Instant,
        wall: i64,
    ) -> Result<Vec<Message>, SqsError> {
        self.redrive(name, now)?;
        let queue = self
            .queues
            .get_mut(name)
            .ok_or(SqsError::QueueDoesNotExist)?;
        queue.receive(ask, now, wall, self.disorder.as_mut())
    }

    fn redrive(&mut self, name: &str, now: Instant) -> Result<(), SqsError> {
        let Some(redrive) = self.get(name)?.attributes.redrive() else {
            return Ok(());
        };
        let Some(target) = redrive.target.strip_prefix(&self.arn_prefix) else {
            return Ok(());
        };
        if !self.queues.contains_key(target) {
            return Ok(());
        }
        let failed = self.get(name)?.take_failed(redrive.max_receive_count, now);
        let target = self.get(target)?;
        for message in failed {
            target.adopt(message, now);
        }
        Ok(())
    }
}

fn check_name(name: &str) -> Result<(), SqsError> {
    if name.strip_suffix(".fifo").is_some() {
        let refusal = "this yard has standard queues only".to_owned();
        return Err(SqsError::UnsupportedOperation(refusal));
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if (1..=80).contains(&name.len()) && name.chars().all(allowed) {
        Ok(())
    } else {
        Err(SqsError::InvalidParameterValue(
            "Can only include alphanumeric characters, hyphens, or underscores. \
             1 to 80 in length"
                .to_owned(),
        ))
    }
}
