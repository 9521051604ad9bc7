//! Bugs around the queues.

use std::time::Duration;

use async_trait::async_trait;
use controller::ports::{Lease, Pool, PortError, QueueState};
use proto::message::PoolMessage;

use super::{super::queue::SimPool, Sabotage};

pub(super) struct SabotagedPool {
    pub(super) inner: SimPool,
    pub(super) sabotage: Sabotage,
}

#[async_trait]
impl Pool for SabotagedPool {
    async fn receive(
        &self,
        queue_url: &str,
        most: usize,
        wait: Duration,
        lease: Duration,
    ) -> Result<Vec<Lease>, PortError> {
        let leases = self.inner.receive(queue_url, most, wait, lease).await?;
        if self.sabotage == Sabotage::DeleteOnReceive {
            let handles: Vec<String> = leases.iter().map(|lease| lease.handle.clone()).collect();
            self.inner.delete(queue_url, &handles).await?;
        }
        Ok(leases)
    }

    async fn delete(&self, queue_url: &str, handles: &[String]) -> Result<(), PortError> {
        self.inner.delete(queue_url, handles).await
    }

    async fn give_back(&self, queue_url: &str, handles: &[String]) -> Result<(), PortError> {
        self.inner.give_back(queue_url, handles).await
    }

    async fn send(&self, queue_url: &str, messages: &[PoolMessage]) -> Result<(), PortError> {
        self.inner.send(queue_url, messages).await
    }

    async fn ensure_queue(&self, name: &str) -> Result<String, PortError> {
        self.inner.ensure_queue(name).await
    }

    async fn queue(&self, queue_url: &str) -> Result<Option<QueueState>, PortError> {
        self.inner.queue(queue_url).await
    }

    async fn delete_queue(&self, queue_url: &str) -> Result<(), PortError> {
        self.inner.delete_queue(queue_url).await
    }
}
