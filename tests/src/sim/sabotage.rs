//! Deliberate bugs, each a decorator over a port of the programs: so production code stays clean
//! of them. A simulation that does not find them proves nothing.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use agent::{
    machine::{Ages, Event, ListenerId, Saved, Tenant, Vitals},
    ports::{Cause, Host},
};
use async_trait::async_trait;
use controller::ports::{
    Fleet, FleetAnswer, FleetRequest, Lease, Machine, Pool, PortError, QueueState, TemplateContent,
    TemplateState, Unknown,
};
use proto::{
    agent_config::AgentConfig,
    change::{Assign, Change, Clause},
    config::{Config, ConfigItem, Image, RefreshJournal},
    ids::{ClassName, InstanceArn, InstanceId, PoolName, RunId},
    instance::{InstanceRecord, Secret},
    message::PoolMessage,
    provision::ProvisionRecord,
    state::State,
    table::{Live, Outcome, Table, TableError},
    time::Time,
};
use tokio::sync::mpsc::UnboundedSender;

use super::{cloud::SimFleet, machine::SimHost, process::Process, queue::SimPool, table::SimTable};

/// A deliberate bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sabotage {
    /// A message is deleted when it is received, not once its machine is claimed.
    DeleteOnReceive,
    /// The journal is written after the step that it announces.
    JournalAfterTheCall,
    /// A release or a roll-back does not deregister the runner.
    NoDeregistration,
    /// Whoever wants a machine takes it.
    ClaimWithoutCondition,
    /// Each try of a fleet request has a client token of its own.
    NewTokenForEachTry,
    /// Only the first of several machines is terminated.
    TerminateTheFirstOnly,
    /// A machine that EC2 has taken stays idle for ever: records are never closed.
    RecordsAreNeverClosed,
}

impl Sabotage {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::DeleteOnReceive,
        Self::JournalAfterTheCall,
        Self::NoDeregistration,
        Self::ClaimWithoutCondition,
        Self::NewTokenForEachTry,
        Self::TerminateTheFirstOnly,
        Self::RecordsAreNeverClosed,
    ];
}

/// The table of a process.
pub(super) fn table(process: &Process) -> Arc<dyn Table> {
    let inner = SimTable(process.clone());
    match process.sim.with(|state| state.sabotage) {
        Some(sabotage) => Arc::new(SabotagedTable {
            inner,
            sabotage,
            held_back: Mutex::default(),
        }),
        None => Arc::new(inner),
    }
}

/// The queues of a process.
pub(super) fn pool(process: &Process) -> Arc<dyn Pool> {
    let inner = SimPool(process.clone());
    match process.sim.with(|state| state.sabotage) {
        Some(sabotage) => Arc::new(SabotagedPool { inner, sabotage }),
        None => Arc::new(inner),
    }
}

/// EC2 of a process.
pub(super) fn fleet(process: &Process) -> Arc<dyn Fleet> {
    let inner = SimFleet(process.clone());
    match process.sim.with(|state| state.sabotage) {
        Some(sabotage) => Arc::new(SabotagedFleet {
            inner,
            sabotage,
            tries: Mutex::default(),
        }),
        None => Arc::new(inner),
    }
}

/// The machine under an agent.
pub(super) fn host(inner: SimHost) -> Arc<dyn Host> {
    match inner.process.sim.with(|state| state.sabotage) {
        Some(sabotage) => Arc::new(SabotagedHost { inner, sabotage }),
        None => Arc::new(inner),
    }
}

struct SabotagedTable {
    inner: SimTable,
    sabotage: Sabotage,
    /// A write to the journal that is still to come.
    held_back: Mutex<Option<ProvisionRecord>>,
}

impl SabotagedTable {
    fn change(&self, change: &Change) -> Change {
        let mut change = change.clone();
        let to = |stands| change.set.contains(&Assign::State(stands));
        let claims = to(State::Claimed);
        match self.sabotage {
            Sabotage::ClaimWithoutCondition if claims => change.when = vec![Clause::Exists],
            Sabotage::RecordsAreNeverClosed
                if change.set.iter().any(|assign| {
                    matches!(assign, Assign::Reason(reason) if reason.contains("EC2 has it no more"))
                }) =>
            {
                change.when.push(Clause::GenerationIs(u64::MAX));
            }
            _ => {}
        }
        change
    }
}

#[async_trait]
impl Table for SabotagedTable {
    async fn insert_instance(
        &self,
        record: &InstanceRecord,
    ) -> Result<Outcome<InstanceRecord>, TableError> {
        self.inner.insert_instance(record).await
    }

    async fn change_instance(
        &self,
        arn: &InstanceArn,
        change: &Change,
    ) -> Result<Outcome<InstanceRecord>, TableError> {
        let change = self.change(change);
        self.inner.change_instance(arn, &change).await
    }

    async fn change_instances(
        &self,
        changes: &[(InstanceArn, Change)],
    ) -> Vec<Result<Outcome<(), InstanceRecord>, TableError>> {
        let changes: Vec<(InstanceArn, Change)> = changes
            .iter()
            .map(|(arn, change)| (arn.clone(), self.change(change)))
            .collect();
        self.inner.change_instances(&changes).await
    }

    async fn instance(&self, arn: &InstanceArn) -> Result<Option<InstanceRecord>, TableError> {
        self.inner.instance(arn).await
    }

    async fn instances(&self, arns: &[InstanceArn]) -> Result<Vec<InstanceRecord>, TableError> {
        self.inner.instances(arns).await
    }

    async fn instances_in(
        &self,
        state: State,
        until: Option<Time>,
    ) -> Result<Vec<InstanceRecord>, TableError> {
        self.inner.instances_in(state, until).await
    }

    async fn put_provision(
        &self,
        record: &ProvisionRecord,
    ) -> Result<Outcome<ProvisionRecord>, TableError> {
        match self.sabotage {
            Sabotage::JournalAfterTheCall => {
                let before = {
                    let held_back = self.held_back.lock();
                    let mut held_back = held_back.unwrap_or_else(PoisonError::into_inner);
                    held_back.replace(record.clone())
                };
                match before {
                    Some(before) => self.inner.put_provision(&before).await.map(|_| ()),
                    None => Ok(()),
                }?;
                if record.phase.is_open() {
                    return Ok(Outcome::Applied(record.clone()));
                }
                self.inner.put_provision(record).await
            }
            _ => self.inner.put_provision(record).await,
        }
    }

    async fn provisions_of(&self, run: &RunId) -> Result<Vec<ProvisionRecord>, TableError> {
        self.inner.provisions_of(run).await
    }

    async fn live(&self) -> Result<Live, TableError> {
        self.inner.live().await
    }

    async fn put_refresh(
        &self,
        journal: &RefreshJournal,
    ) -> Result<Outcome<RefreshJournal>, TableError> {
        self.inner.put_refresh(journal).await
    }

    async fn config(&self) -> Result<Config, TableError> {
        self.inner.config().await
    }

    async fn put_config(&self, item: &ConfigItem) -> Result<(), TableError> {
        self.inner.put_config(item).await
    }

    async fn delete_class(&self, name: &ClassName) -> Result<(), TableError> {
        self.inner.delete_class(name).await
    }
}

struct SabotagedPool {
    inner: SimPool,
    sabotage: Sabotage,
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

struct SabotagedFleet {
    inner: SimFleet,
    sabotage: Sabotage,
    tries: Mutex<u32>,
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
        match self.sabotage {
            Sabotage::TerminateTheFirstOnly => {
                let first = &ids[..ids.len().min(1)];
                self.inner.terminate(first, unknown).await
            }
            _ => self.inner.terminate(ids, unknown).await,
        }
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

struct SabotagedHost {
    inner: SimHost,
    sabotage: Sabotage,
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
