//! Bugs around what EC2 announces.

use std::time::Duration;

use agent::{
    machine::Notices,
    ports::{Cause, Identity, Metadata},
};
use async_trait::async_trait;

use super::{super::machine::SimMetadata, Sabotage};

pub(super) struct SabotagedMetadata {
    pub(super) inner: SimMetadata,
    pub(super) sabotage: Sabotage,
}

#[async_trait]
impl Metadata for SabotagedMetadata {
    async fn identity(&self) -> Result<Identity, Cause> {
        self.inner.identity().await
    }

    async fn user_data(&self) -> Result<Option<Vec<u8>>, Cause> {
        self.inner.user_data().await
    }

    async fn may_be_taken_away(&self) -> Result<bool, Cause> {
        self.inner.may_be_taken_away().await
    }

    async fn notices(&self) -> Result<Notices, Cause> {
        let mut notices = self.inner.notices().await?;
        if self.sabotage == Sabotage::RecommendationEndsTheMachine && notices.rebalance {
            let soon = self.inner.0.sim.time() + Duration::from_mins(1);
            notices.interruption.get_or_insert(soon);
        }
        Ok(notices)
    }
}
