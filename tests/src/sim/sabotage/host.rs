//! Bugs on the machine.

use std::time::Duration;

use agent::{
    machine::{Ages, Event, ListenerId, Saved, Tenant, Vitals},
    ports::{Cause, Host},
};
use async_trait::async_trait;
use proto::{agent_config::AgentConfig, instance::Secret};
use tokio::sync::mpsc::UnboundedSender;

use super::{super::host::SimHost, Sabotage};

pub(super) struct SabotagedHost {
    pub(super) inner: SimHost,
    pub(super) sabotage: Sabotage,
}

#[async_trait]
impl Host for SabotagedHost {
    async fn boot(&self, config: &AgentConfig) -> Result<String, Cause> {
        self.inner.boot(config).await
    }

    async fn configure(
        &self,
        url: &str,
        tenant: &Tenant,
        token: &Secret,
        within: Duration,
    ) -> Result<(), Cause> {
        self.inner.configure(url, tenant, token, within).await
    }

    async fn listen(&self, run: u64, events: UnboundedSender<Event>) {
        self.inner.listen(run, events).await;
    }

    async fn adopt(
        &self,
        run: u64,
        listener: ListenerId,
        offset: u64,
        events: UnboundedSender<Event>,
    ) {
        self.inner.adopt(run, listener, offset, events).await;
    }

    async fn remove(&self, token: &Secret, listener: Option<ListenerId>) -> Result<(), Cause> {
        if self.sabotage == Sabotage::NoDeregistration {
            return Ok(());
        }
        self.inner.remove(token, listener).await
    }

    async fn dismiss(&self, listener: ListenerId) {
        self.inner.dismiss(listener).await;
    }

    async fn retire(&self, listener: Option<ListenerId>) -> Result<(), Cause> {
        if self.sabotage == Sabotage::NoDeregistration {
            return Ok(());
        }
        self.inner.retire(listener).await
    }

    fn save(&self, saved: Option<&Saved>) -> Result<(), Cause> {
        self.inner.save(saved)
    }

    fn earlier(&self) -> Option<Saved> {
        self.inner.earlier()
    }

    async fn examine(&self, listener: Option<ListenerId>) -> Result<Vitals, Cause> {
        self.inner.examine(listener).await
    }

    fn keep(&self, ages: Ages) {
        self.inner.keep(ages);
    }

    fn ages(&self) -> Option<Ages> {
        self.inner.ages()
    }

    fn reap(&self) {
        self.inner.reap();
    }
}
