//! SQS standard queues: at least once, in no order.

use std::{collections::BTreeMap, time::Duration};

use async_trait::async_trait;
use controller::ports::{Lease, Pool, PortError, QueueState};
use proto::{ids::InstanceId, message::PoolMessage};
use rand::{RngExt, seq::SliceRandom};
use tokio::time::sleep;

use super::{
    fault::Fault,
    invariant,
    process::{Broken, Process},
    world::State,
};

/// All queues, by URL.
#[derive(Default)]
pub(super) struct Queues(BTreeMap<String, Vec<Message>>);

pub(super) struct Message {
    id: u64,
    body: String,
    /// The machine that it lists, and the generation that the machine was in when it was sent.
    pub(super) machine: InstanceId,
    pub(super) generation: Option<u64>,
    visible_at: Duration,
}

impl Queues {
    /// The messages that list a machine.
    pub(super) fn listing<'a>(&'a self, id: &'a InstanceId) -> impl Iterator<Item = &'a Message> {
        let all = self.0.values().flatten();
        all.filter(move |message| message.machine == *id)
    }
}

pub(super) struct SimPool(pub(super) Process);

/// What the adapters make of a call that came to nothing.
pub(super) fn failed(operation: &'static str) -> impl Fn(Broken) -> PortError {
    move |broken| PortError {
        operation: operation.to_owned(),
        code: match broken {
            Broken::Throttled => Some("RequestLimitExceeded".to_owned()),
            Broken::Unanswered => None,
        },
        source: broken.into(),
    }
}

fn receive(state: &mut State, queue_url: &str, most: usize, lease: Duration) -> Vec<Lease> {
    let now = state.now();
    let partial = state.strikes(Fault::PartialReceive);
    let doubled = state.strikes(Fault::DoubledMessage);
    let Some(queue) = state.queues.0.get_mut(queue_url) else {
        return Vec::new();
    };
    let mut visible: Vec<&mut Message> = queue
        .iter_mut()
        .filter(|message| message.visible_at <= now)
        .collect();
    visible.shuffle(&mut state.rng);
    let most = if partial {
        state.rng.random_range(0..=visible.len().min(most))
    } else {
        most
    };
    visible.truncate(most);
    visible
        .into_iter()
        .map(|message| {
            if !doubled {
                message.visible_at = now + lease;
            }
            Lease {
                id: message.id.to_string(),
                body: message.body.clone(),
                handle: message.id.to_string(),
            }
        })
        .collect()
}

fn delete(state: &mut State, process: &Process, queue_url: &str, handles: &[String]) {
    for handle in handles {
        let undead = state.strikes(Fault::UndeadMessage);
        let Some(queue) = state.queues.0.get_mut(queue_url) else {
            return;
        };
        let found = queue
            .iter()
            .position(|message| message.id.to_string() == *handle);
        let Some(message) = found.filter(|_| !undead).map(|at| queue.remove(at)) else {
            continue;
        };
        let what = format!("deletes message {} of {}", message.id, message.machine);
        state.say(process, what);
        invariant::after_delete(state, process, &message);
    }
}

fn send(state: &mut State, process: &Process, queue_url: &str, messages: &[PoolMessage]) {
    for message in messages {
        let id = state.rng.random();
        let visible_at = state.now();
        let generation = state.record(&message.id).map(|record| record.generation);
        let sent = Message {
            id,
            body: message.body(),
            machine: message.id.clone(),
            generation,
            visible_at,
        };
        state.say(process, format!("sends message {id} of {}", message.id));
        let queue = state.queues.0.entry(queue_url.to_owned()).or_default();
        queue.push(sent);
    }
}

#[async_trait]
impl Pool for SimPool {
    async fn receive(
        &self,
        queue_url: &str,
        most: usize,
        wait: Duration,
        lease: Duration,
    ) -> Result<Vec<Lease>, PortError> {
        const LOOK: Duration = Duration::from_millis(100);
        let mut waited = Duration::ZERO;
        loop {
            let url = queue_url.to_owned();
            let leases = self
                .0
                .call(move |process| {
                    process.sim.step(|state| {
                        let leases = receive(state, &url, most, lease);
                        if !leases.is_empty() {
                            state.say(process, format!("leases {} messages", leases.len()));
                        }
                        leases
                    })
                })
                .await
                .map_err(failed("receive messages from the queue"))?;
            if !leases.is_empty() || waited >= wait {
                return Ok(leases);
            }
            sleep(LOOK).await;
            waited += LOOK;
        }
    }

    async fn delete(&self, queue_url: &str, handles: &[String]) -> Result<(), PortError> {
        let (url, handles) = (queue_url.to_owned(), handles.to_vec());
        self.0
            .call(move |process| {
                let sim = &process.sim;
                sim.step(|state| delete(state, process, &url, &handles));
            })
            .await
            .map_err(failed("delete messages"))
    }

    async fn give_back(&self, queue_url: &str, handles: &[String]) -> Result<(), PortError> {
        let (url, handles) = (queue_url.to_owned(), handles.to_vec());
        self.0
            .call(move |process| {
                process.sim.step(|state| {
                    let now = state.now();
                    let queue = state.queues.0.get_mut(&url).into_iter().flatten();
                    let leased = queue.filter(|m| handles.contains(&m.id.to_string()));
                    leased.for_each(|message| message.visible_at = now);
                });
            })
            .await
            .map_err(failed("give messages back"))
    }

    async fn send(&self, queue_url: &str, messages: &[PoolMessage]) -> Result<(), PortError> {
        let (url, messages) = (queue_url.to_owned(), messages.to_vec());
        self.0
            .call(move |process| {
                let sim = &process.sim;
                sim.step(|state| send(state, process, &url, &messages));
            })
            .await
            .map_err(failed("send messages"))
    }

    async fn ensure_queue(&self, name: &str) -> Result<String, PortError> {
        let url = format!("http://sqs/{name}");
        self.0
            .call(move |process| {
                process.sim.step(|state| {
                    state.queues.0.entry(url.clone()).or_default();
                });
                url.clone()
            })
            .await
            .map_err(failed("make a queue"))
    }

    async fn queue(&self, queue_url: &str) -> Result<Option<QueueState>, PortError> {
        let url = queue_url.to_owned();
        self.0
            .call(move |process| {
                process.sim.step(|state| {
                    let depth = state.queues.0.get(&url)?.len() as u64;
                    let rough = state.strikes(Fault::RoughDepth);
                    let error = state.rng.random_range(0..=2);
                    let messages = if rough {
                        (depth + error).saturating_sub(1)
                    } else {
                        depth
                    };
                    let odd = Vec::new();
                    Some(QueueState { messages, odd })
                })
            })
            .await
            .map_err(failed("ask for the queue's depth"))
    }

    async fn delete_queue(&self, queue_url: &str) -> Result<(), PortError> {
        let url = queue_url.to_owned();
        self.0
            .call(move |process| {
                process.sim.step(|state| drop(state.queues.0.remove(&url)));
            })
            .await
            .map_err(failed("delete a queue"))
    }
}
