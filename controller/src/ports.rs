//! What the commands need of the world besides the table: a pool of hints, a cloud, a forge.
//!
//! Commands know these traits alone; [`crate::aws`] and [`crate::github`] are the real forms, and
//! only the wiring knows those.

mod fleet;
mod forge;
mod pool;
mod remote;
mod template;

pub use self::{
    fleet::{Allocation, Fleet, FleetAnswer, FleetError, FleetRequest, Launched, Machine, Unknown},
    forge::{Deleted, Forge, ForgeRunner, RunState, RunnerToken},
    pool::{Lease, MESSAGES_A_CALL, Pool, QueueState},
    remote::{Answer, Remote},
    template::{RootVolume, TemplateContent, TemplateState},
};

/// A call to a service failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation}")]
pub struct PortError {
    /// What was tried, as `receive messages from the queue`.
    pub operation: String,
    /// The service's own code, such as `UnauthorizedOperation`, if it gave one.
    pub code: Option<String>,
    /// The cause.
    pub source: Box<dyn std::error::Error + Send + Sync>,
}
