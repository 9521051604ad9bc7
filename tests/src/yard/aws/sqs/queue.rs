//! One standard queue: who may see which message, and when.
//!
//! A received message is leased, not gone: it is hidden until its visibility
//! timeout ends and every receive hands out a new receipt. Only the latest
//! receipt does anything.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rand::RngExt as _;
use rand::rngs::StdRng;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::attributes::Attributes;
use super::digest::MessageAttribute;
use super::error::SqsError;

/// No more messages than this are in flight at once.
const MAX_IN_FLIGHT: usize = 120_000;

/// A message as a sender hands it over.
#[derive(Clone, Debug)]
pub(super) struct Sent {
    pub(super) body: String,
    pub(super) attributes: BTreeMap<String, MessageAttribute>,
    pub(super) md5_of_body: String,
    pub(super) md5_of_attributes: Option<String>,
    pub(super) delay: Option<Duration>,
    pub(super) sender: String,
    /// Milliseconds since 1970.
    pub(super) at: i64,
}

/// A message in a queue.
#[derive(Clone, Debug)]
pub(super) struct Message {
    pub(super) id: String,
    pub(super) sent: Sent,
    pub(super) receive_count: u32,
    /// Milliseconds since 1970, of the first receive.
    pub(super) first_received_at: Option<i64>,
    visible_at: Instant,
    expires_at: Instant,
    /// Whether a delay rather than a lease hides it.
    delayed: bool,
}

/// One receive's claim on a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Receipt {
    pub(super) message: String,
    pub(super) count: u32,
}

/// What a receiver wants.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ask {
    pub(super) limit: usize,
    /// The queue's own visibility timeout, when absent.
    pub(super) lease: Option<Duration>,
    /// Whether it takes the first answer, even an empty one.
    pub(super) short_poll: bool,
}

/// How many messages there are, and how they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) visible: usize,
    pub(super) in_flight: usize,
    pub(super) delayed: usize,
}

/// One queue.
#[derive(Debug)]
pub(super) struct Queue {
    pub(super) attributes: Attributes,
    pub(super) tags: BTreeMap<String, String>,
    /// Seconds since 1970.
    pub(super) created: i64,
    pub(super) modified: i64,
    /// Rings when a message may have become visible.
    pub(super) bell: Arc<Notify>,
    messages: Vec<Message>,
}

impl Queue {
    pub(super) fn new(attributes: Attributes, now: i64) -> Self {
        Self {
            attributes,
            tags: BTreeMap::new(),
            created: now,
            modified: now,
            bell: Arc::default(),
            messages: Vec::new(),
        }
    }

    /// Takes a message in and returns its id.
    pub(super) fn send(&mut self, sent: Sent, now: Instant) -> String {
        let delay = sent
            .delay
            .unwrap_or_else(|| self.attributes.seconds("DelaySeconds"));
        let id = super::super::service::request_id();
        self.messages.push(Message {
            id: id.clone(),
            sent,
            receive_count: 0,
            first_received_at: None,
            visible_at: now + delay,
            expires_at: now + self.attributes.seconds("MessageRetentionPeriod"),
            delayed: !delay.is_zero(),
        });
        self.bell.notify_waiters();
        id
    }

    /// Takes back a message that failed too often elsewhere.
    pub(super) fn adopt(&mut self, mut message: Message, now: Instant) {
        message.visible_at = now;
        message.delayed = false;
        self.messages.push(message);
        self.bell.notify_waiters();
    }

    /// Leases visible messages. With `disorder` they come in any order, one may
    /// stay visible although it was handed out, and a short poll may miss all.
    pub(super) fn receive(
        &mut self,
        ask: &Ask,
        now: Instant,
        wall: i64,
        mut disorder: Option<&mut StdRng>,
    ) -> Result<Vec<Message>, SqsError> {
        self.expire(now);
        if let Some(random) = disorder.as_deref_mut()
            && ask.short_poll
            && random.random_ratio(1, 4)
        {
            return Ok(Vec::new());
        }
        let lease = ask
            .lease
            .unwrap_or_else(|| self.attributes.seconds("VisibilityTimeout"));
        if self.counts(now).in_flight >= MAX_IN_FLIGHT {
            return Err(SqsError::OverLimit);
        }
        let mut visible: Vec<usize> = (0..self.messages.len())
            .filter(|at| self.messages[*at].visible_at <= now)
            .collect();
        if let Some(random) = disorder.as_deref_mut() {
            shuffle(&mut visible, random);
        }
        visible.truncate(ask.limit);
        let mut received = Vec::with_capacity(visible.len());
        for at in visible {
            let message = &mut self.messages[at];
            let twice = disorder
                .as_deref_mut()
                .is_some_and(|random| random.random_ratio(1, 16));
            message.receive_count += 1;
            message.first_received_at.get_or_insert(wall);
            message.visible_at = if twice { now } else { now + lease };
            message.delayed = false;
            received.push(message.clone());
        }
        Ok(received)
    }

    /// Removes and returns the visible messages that were received too often.
    pub(super) fn take_failed(&mut self, max_receive_count: u32, now: Instant) -> Vec<Message> {
        let (failed, kept) = std::mem::take(&mut self.messages)
            .into_iter()
            .partition(|message| {
                message.visible_at <= now && message.receive_count >= max_receive_count
            });
        self.messages = kept;
        failed
    }

    /// Deletes the message, if the receipt is its latest. Any other receipt is
    /// accepted and does nothing.
    pub(super) fn delete(&mut self, receipt: &Receipt) {
        self.messages.retain(|message| {
            message.id != receipt.message || message.receive_count != receipt.count
        });
    }

    /// Moves the end of a lease.
    pub(super) fn change_visibility(
        &mut self,
        receipt: &Receipt,
        lease: Duration,
        now: Instant,
    ) -> Result<(), SqsError> {
        let message = self
            .messages
            .iter_mut()
            .find(|message| message.id == receipt.message)
            .filter(|message| message.receive_count == receipt.count && message.visible_at > now)
            .ok_or(SqsError::MessageNotInflight)?;
        message.visible_at = now + lease;
        if lease.is_zero() {
            self.bell.notify_waiters();
        }
        Ok(())
    }

    pub(super) fn purge(&mut self) {
        self.messages.clear();
    }

    pub(super) fn counts(&self, now: Instant) -> Counts {
        let mut counts = Counts::default();
        for message in &self.messages {
            if message.visible_at <= now {
                counts.visible += 1;
            } else if message.delayed {
                counts.delayed += 1;
            } else {
                counts.in_flight += 1;
            }
        }
        counts
    }

    /// When the next hidden message shows itself.
    pub(super) fn next_visible(&self, now: Instant) -> Option<Instant> {
        self.messages
            .iter()
            .map(|message| message.visible_at)
            .filter(|at| *at > now)
            .min()
    }

    fn expire(&mut self, now: Instant) {
        self.messages.retain(|message| message.expires_at > now);
    }
}

fn shuffle(positions: &mut [usize], random: &mut StdRng) {
    for last in (1..positions.len()).rev() {
        positions.swap(last, random.random_range(0..=last));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_secs(30);

    fn queue() -> Queue {
        Queue::new(Attributes::default(), 0)
    }

    fn text(body: &str) -> Sent {
        Sent {
            body: body.to_owned(),
            attributes: BTreeMap::new(),
            md5_of_body: String::new(),
            md5_of_attributes: None,
            delay: None,
            sender: "AKIA".to_owned(),
            at: 0,
        }
    }

    fn ask(limit: usize) -> Ask {
        Ask {
            limit,
            lease: Some(LEASE),
            short_poll: false,
        }
    }

    fn receive(queue: &mut Queue, now: Instant) -> Option<Receipt> {
        let got = queue.receive(&ask(1), now, 0, None).unwrap();
        got.first().map(|message| Receipt {
            message: message.id.clone(),
            count: message.receive_count,
        })
    }

    #[test]
    fn a_lease_hides_and_ends() {
        let mut queue = queue();
        let start = Instant::now();
        queue.send(text("a"), start);
        let first = receive(&mut queue, start).unwrap();
        assert_eq!(receive(&mut queue, start + LEASE / 2), None);
        let again = receive(&mut queue, start + LEASE).unwrap();
        assert_eq!((first.count, again.count), (1, 2));
        queue.delete(&first);
        assert_eq!(queue.counts(start + LEASE).in_flight, 1);
        queue.delete(&again);
        assert_eq!(queue.counts(start + LEASE), Counts::default());
    }

    #[test]
    fn giving_back_shows_at_once() {
        let mut queue = queue();
        let now = Instant::now();
        queue.send(text("a"), now);
        let receipt = receive(&mut queue, now).unwrap();
        queue
            .change_visibility(&receipt, Duration::ZERO, now)
            .unwrap();
        assert_eq!(
            queue.change_visibility(&receipt, LEASE, now),
            Err(SqsError::MessageNotInflight)
        );
        assert!(receive(&mut queue, now).is_some());
    }

    #[test]
    fn failed_messages_can_be_taken_out() {
        let mut queue = queue();
        let now = Instant::now();
        queue.send(text("a"), now);
        receive(&mut queue, now);
        assert!(queue.take_failed(1, now).is_empty());
        assert_eq!(queue.take_failed(1, now + LEASE).len(), 1);
    }

    #[test]
    fn disorder_repeats_with_its_seed() {
        use rand::SeedableRng as _;

        let orders: Vec<Vec<String>> = (0..2)
            .map(|_| {
                let (mut queue, now) = (queue(), Instant::now());
                for n in 0..10 {
                    queue.send(text(&n.to_string()), now);
                }
                let mut random = StdRng::seed_from_u64(7);
                let got = queue.receive(&ask(10), now, 0, Some(&mut random)).unwrap();
                got.into_iter().map(|message| message.sent.body).collect()
            })
            .collect();
        assert_eq!(orders[0], orders[1]);
        assert_ne!(orders[0][..3], ["0", "1", "2"]);
    }
}
