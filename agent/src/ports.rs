//! What the agent needs of the world besides the table.
//!
//! The table is [`proto::table::Table`], the present is [`proto::time::Clock`].

use std::time::Duration;

use async_trait::async_trait;
use proto::{agent_config::AgentConfig, ids::InstanceArn, instance::Secret};
use tokio::sync::mpsc::UnboundedSender;

use crate::machine::{Ages, Event, ListenerId, Notices, Saved, Tenant, Vitals};

/// Why something did not work, as people read it.
///
/// A cause ends in the record and in the log, never in a decision; so it is text from here on.
pub type Cause = String;

/// The instance metadata service.
#[async_trait]
pub trait Metadata: Send + Sync {
    /// Which machine this is, and in which region.
    async fn identity(&self) -> Result<Identity, Cause>;
    /// The user data; none when the machine was launched without.
    async fn user_data(&self) -> Result<Option<Vec<u8>>, Cause>;
    /// Whether EC2 may take this machine away. Of one that it leaves alone it announces nothing.
    async fn may_be_taken_away(&self) -> Result<bool, Cause>;
    /// What EC2 announces of this machine's end.
    async fn notices(&self) -> Result<Notices, Cause>;
}

/// Which machine this is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Its ARN: the key of its record.
    pub arn: InstanceArn,
    /// The region it runs in.
    pub region: String,
}

/// The machine's switch.
#[async_trait]
pub trait Power: Send + Sync {
    /// Switches the machine off.
    async fn off(&self) -> Result<(), Cause>;
}

/// The machine that the runner lives on.
#[async_trait]
pub trait Host: Send + Sync {
    /// Runs the operator's script once in the machine's life and makes sure that the runner program
    /// is there; answers with its version.
    async fn boot(&self, config: &AgentConfig) -> Result<String, Cause>;
    /// Registers the runner at GitHub.
    async fn configure(
        &self,
        url: &str,
        tenant: &Tenant,
        token: &Secret,
        within: Duration,
    ) -> Result<(), Cause>;
    /// Starts the listener and tells what it says, until it ends.
    async fn listen(&self, run: u64, events: UnboundedSender<Event>);
    /// Tells what a listener that runs already says from `offset` on, until it ends.
    async fn adopt(
        &self,
        run: u64,
        listener: ListenerId,
        offset: u64,
        events: UnboundedSender<Event>,
    );
    /// Deregisters the runner at GitHub. Before that everything that jobs left behind is killed,
    /// for it could read the token; the idle listener is spared.
    async fn remove(&self, token: &Secret, listener: Option<ListenerId>) -> Result<(), Cause>;
    /// Keeps the listener from its next job, and ends it if it has none. That it cannot is logged.
    async fn dismiss(&self, listener: ListenerId);
    /// Stops the listener and cleans the machine.
    async fn retire(&self, listener: Option<ListenerId>) -> Result<(), Cause>;
    /// Remembers what the agent must know after its own restart.
    fn save(&self, saved: Option<&Saved>) -> Result<(), Cause>;
    /// What an earlier agent on this machine left: with a listener only if that still lives.
    fn earlier(&self) -> Option<Saved>;
    /// Looks how the machine and this listener are.
    async fn examine(&self, listener: Option<ListenerId>) -> Result<Vitals, Cause>;
    /// Remembers since when nobody speaks to this machine. That it cannot is logged.
    fn keep(&self, ages: Ages);
    /// What an earlier agent so remembered since the machine booted.
    fn ages(&self) -> Option<Ages>;
    /// Takes note of the end of processes that jobs left behind.
    fn reap(&self);
}

/// An error with all its causes, as one line.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> Cause {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let cause = error.to_string();
        // Some libraries print their source with themselves.
        if !text.contains(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
        source = error.source();
    }
    text
}
