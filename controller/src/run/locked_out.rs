//! GitHub for a refresh whose secret cannot be read.

use async_trait::async_trait;
use proto::ids::RunId;

use crate::{
    output::chain,
    ports::{Deleted, Forge, ForgeRunner, PortError, RunState, RunnerToken},
};

/// Answers every call with the reason why there is no login.
pub(super) struct LockedOut(String);

impl LockedOut {
    pub(super) fn because(error: &PortError) -> Self {
        Self(chain(error))
    }

    fn refusal(&self) -> PortError {
        PortError {
            operation: "log in at GitHub".to_owned(),
            code: None,
            source: self.0.clone().into(),
        }
    }
}

#[async_trait]
impl Forge for LockedOut {
    async fn registration_token(&self) -> Result<RunnerToken, PortError> {
        Err(self.refusal())
    }

    async fn removal_token(&self) -> Result<RunnerToken, PortError> {
        Err(self.refusal())
    }

    async fn runners(&self) -> Result<Vec<ForgeRunner>, PortError> {
        Err(self.refusal())
    }

    async fn delete_runner(&self, _: u64) -> Result<Deleted, PortError> {
        Err(self.refusal())
    }

    async fn run(&self, _: Option<&str>, _: &RunId) -> Result<RunState, PortError> {
        Err(self.refusal())
    }
}
