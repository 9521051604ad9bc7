//! Programs on machines.

use async_trait::async_trait;
use proto::ids::InstanceId;

use super::PortError;

/// How a program that was run on a machine ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The machine.
    pub machine: InstanceId,
    /// Such as `ended with 0`, or `TimedOut`.
    pub ending: String,
    /// What it printed.
    pub output: String,
}

/// Programs on machines.
#[async_trait]
pub trait Remote: Send + Sync {
    /// Has machines (at most 50) run a command document; the command's id. One machine that is not
    /// known (code `InvalidInstanceId`) fails the call for all.
    async fn send(&self, document: &str, machines: &[InstanceId]) -> Result<String, PortError>;

    /// The machines that are done with a command.
    async fn answers(&self, command: &str) -> Result<Vec<Answer>, PortError>;
}
