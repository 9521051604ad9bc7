//! The queues that list idle machines.

use std::time::Duration;

use async_trait::async_trait;
use proto::message::PoolMessage;

use super::PortError;

/// A message that is ours for a while. It comes back to others when the lease ends.
#[derive(Clone, Debug)]
pub struct Lease {
    /// The message, however often it is delivered.
    pub id: String,
    /// The raw body.
    pub body: String,
    /// What deletes the message or gives it back.
    pub handle: String,
}

/// SQS takes and gives so many messages a call.
pub const MESSAGES_A_CALL: usize = 10;

/// A queue as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueState {
    /// About how many messages it holds, leased ones included.
    pub messages: u64,
    /// The attributes that are not as they should be: name, value, and what it should be.
    pub odd: Vec<(String, String, String)>,
}

/// The queues that list idle machines.
#[async_trait]
pub trait Pool: Send + Sync {
    /// Leases up to `most` messages (one to [`MESSAGES_A_CALL`]) for `lease`, waiting up to `wait`
    /// (whole seconds, at most 20) for the first; none means that all servers were asked and had
    /// none.
    async fn receive(
        &self,
        queue_url: &str,
        most: usize,
        wait: Duration,
        lease: Duration,
    ) -> Result<Vec<Lease>, PortError>;

    /// Deletes leased messages: their machines are taken, or they are good for nothing.
    async fn delete(&self, queue_url: &str, handles: &[String]) -> Result<(), PortError>;

    /// Gives leased messages back at once. A lease that has ended already is no error.
    async fn give_back(&self, queue_url: &str, handles: &[String]) -> Result<(), PortError>;

    /// Lists idle machines.
    async fn send(&self, queue_url: &str, messages: &[PoolMessage]) -> Result<(), PortError>;

    /// Makes sure that there is a queue of this name with the right attributes; its URL.
    async fn ensure_queue(&self, name: &str) -> Result<String, PortError>;

    /// The queue as it is; none if there is no such queue.
    async fn queue(&self, queue_url: &str) -> Result<Option<QueueState>, PortError>;

    /// Deletes a queue. One that is gone is no error.
    async fn delete_queue(&self, queue_url: &str) -> Result<(), PortError>;
}
