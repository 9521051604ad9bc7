//! GitHub: tokens, runners, runs.

use async_trait::async_trait;
use proto::{
    ids::{InstanceId, RunId},
    instance::Secret,
    time::Time,
};

use super::PortError;

/// A short-lived token of GitHub.
#[derive(Clone, Debug)]
pub struct RunnerToken {
    /// The token.
    pub token: Secret,
    /// When it ends.
    pub expires_at: Time,
}

/// A runner that is registered at GitHub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForgeRunner {
    /// Its number there.
    pub id: u64,
    /// Its name: `<instance id>-<generation>` for those of a pool.
    pub name: String,
    /// Whether its listener is there.
    pub online: bool,
    /// Whether it has a job, as far as GitHub's list knows.
    pub busy: bool,
}

impl ForgeRunner {
    /// The machine that it was registered by, if a pool's machine did.
    pub fn machine(&self) -> Option<InstanceId> {
        let (id, generation) = self.name.rsplit_once('-')?;
        generation.parse::<u64>().ok()?;
        id.parse().ok()
    }
}

/// What became of the wish to delete a runner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deleted {
    /// It is gone, now or already.
    Yes,
    /// It has a job, and stays.
    Busy,
}

/// Where a workflow run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunState {
    /// Its latest attempt is over.
    Over,
    /// It waits or runs.
    Active,
    /// GitHub does not know it, or does not tell.
    Unknown,
}

/// GitHub.
#[async_trait]
pub trait Forge: Send + Sync {
    /// A token that registers runners.
    async fn registration_token(&self) -> Result<RunnerToken, PortError>;

    /// A token that removes them.
    async fn removal_token(&self) -> Result<RunnerToken, PortError>;

    /// All runners of the repository or organisation, those of other pools too.
    async fn runners(&self) -> Result<Vec<ForgeRunner>, PortError>;

    /// Deletes a runner that has no job.
    async fn delete_runner(&self, id: u64) -> Result<Deleted, PortError>;

    /// Where a run stands. An organisation's runs are found by their `repository`, `owner/name`.
    async fn run(&self, repository: Option<&str>, run: &RunId) -> Result<RunState, PortError>;
}
