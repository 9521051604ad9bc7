//! Bugs around EC2.

use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use controller::ports::{
    Fleet, FleetAnswer, FleetRequest, Machine, PortError, TemplateContent, TemplateState, Unknown,
};
use proto::{
    config::Image,
    ids::{InstanceId, PoolName},
};

use super::{super::cloud::SimFleet, Sabotage};

pub(super) struct SabotagedFleet {
    pub(super) inner: SimFleet,
    pub(super) sabotage: Sabotage,
    pub(super) tries: Mutex<u32>,
}

#[async_trait]
impl Fleet for SabotagedFleet {
    async fn launch(&self, request: &FleetRequest) -> Result<FleetAnswer, PortError> {
        let mut request = request.clone();
        if self.sabotage == Sabotage::NewTokenForEachTry {
            let tries = {
                let mut tries = self.tries.lock().unwrap_or_else(PoisonError::into_inner);
                *tries += 1;
                *tries
            };
            if tries > 1 {
                request.client_token = format!("{}-{tries}", request.client_token);
            }
        }
        self.inner.launch(&request).await
    }

    async fn terminate(
        &self,
        ids: &[InstanceId],
        unknown: Unknown,
    ) -> Result<Vec<(InstanceId, PortError)>, PortError> {
        let ids = if self.sabotage == Sabotage::TerminateTheFirstOnly {
            &ids[..ids.len().min(1)]
        } else {
            ids
        };
        self.inner.terminate(ids, unknown).await
    }

    async fn machines(&self, pool: &PoolName) -> Result<Vec<Machine>, PortError> {
        self.inner.machines(pool).await
    }

    async fn image(&self, id: &str) -> Result<Option<Image>, PortError> {
        self.inner.image(id).await
    }

    async fn template(&self, name: &str) -> Result<Option<TemplateState>, PortError> {
        self.inner.template(name).await
    }

    async fn put_template(
        &self,
        name: &str,
        content: &TemplateContent,
        content_hash: &str,
    ) -> Result<TemplateState, PortError> {
        self.inner.put_template(name, content, content_hash).await
    }

    async fn delete_versions(&self, id: &str, versions: &[i64]) -> Result<(), PortError> {
        self.inner.delete_versions(id, versions).await
    }
}
