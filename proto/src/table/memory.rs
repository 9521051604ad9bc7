//! The table in memory: for tests and simulations. It behaves as the contract suite says.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;

use super::{Live, Outcome, Table, TableError};
use crate::{
    change::Change,
    config::{Config, ConfigItem, RefreshJournal},
    ids::{ClassName, InstanceArn, Label, RunId},
    instance::InstanceRecord,
    provision::ProvisionRecord,
    state::State,
    time::Time,
};

/// A table that lives as long as the process.
#[derive(Debug, Default)]
pub struct MemoryTable {
    items: Mutex<Items>,
}

#[derive(Debug, Default)]
struct Items {
    instances: BTreeMap<InstanceArn, InstanceRecord>,
    provisions: BTreeMap<(RunId, Label), ProvisionRecord>,
    config: Config,
}

impl MemoryTable {
    fn items(&self) -> MutexGuard<'_, Items> {
        self.items.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Table for MemoryTable {
    async fn insert_instance(
        &self,
        record: &InstanceRecord,
    ) -> Result<Outcome<InstanceRecord>, TableError> {
        let mut items = self.items();
        if let Some(current) = items.instances.get(&record.arn) {
            return Ok(Outcome::Conflict(Some(current.clone())));
        }
        items.instances.insert(record.arn.clone(), record.clone());
        Ok(Outcome::Applied(record.clone()))
    }

    async fn change_instance(
        &self,
        arn: &InstanceArn,
        change: &Change,
    ) -> Result<Outcome<InstanceRecord>, TableError> {
        let mut items = self.items();
        let current = items.instances.get_mut(arn);
        if !change.holds(current.as_deref()) {
            return Ok(Outcome::Conflict(current.cloned()));
        }
        Ok(current.map_or(Outcome::Conflict(None), |record| {
            change.apply(record);
            Outcome::Applied(record.clone())
        }))
    }

    async fn change_instances(
        &self,
        changes: &[(InstanceArn, Change)],
    ) -> Vec<Result<Outcome<(), InstanceRecord>, TableError>> {
        let mut outcomes = Vec::with_capacity(changes.len());
        for (arn, change) in changes {
            let outcome = self.change_instance(arn, change).await;
            outcomes.push(outcome.map(|outcome| match outcome {
                Outcome::Applied(_) => Outcome::Applied(()),
                Outcome::Conflict(current) => Outcome::Conflict(current),
            }));
        }
        outcomes
    }

    async fn instance(&self, arn: &InstanceArn) -> Result<Option<InstanceRecord>, TableError> {
        Ok(self.items().instances.get(arn).cloned())
    }

    async fn instances(&self, arns: &[InstanceArn]) -> Result<Vec<InstanceRecord>, TableError> {
        let items = self.items();
        Ok(arns
            .iter()
            .filter_map(|arn| items.instances.get(arn).cloned())
            .collect())
    }

    async fn instances_in(
        &self,
        state: State,
        until: Option<Time>,
    ) -> Result<Vec<InstanceRecord>, TableError> {
        let mut found: Vec<InstanceRecord> = self
            .items()
            .instances
            .values()
            .filter(|record| record.state == state)
            .filter(|record| {
                record
                    .threshold
                    .is_some_and(|t| until.is_none_or(|until| t <= until))
            })
            .cloned()
            .collect();
        found.sort_by_key(|record| record.threshold);
        Ok(found)
    }

    async fn put_provision(
        &self,
        record: &ProvisionRecord,
    ) -> Result<Outcome<ProvisionRecord>, TableError> {
        let mut items = self.items();
        let key = (record.run.clone(), record.label.clone());
        let current = items.provisions.get(&key);
        if record.revision != current.map_or(0, |current| current.revision) + 1 {
            return Ok(Outcome::Conflict(current.cloned()));
        }
        items.provisions.insert(key, record.clone());
        Ok(Outcome::Applied(record.clone()))
    }

    async fn provisions_of(&self, run: &RunId) -> Result<Vec<ProvisionRecord>, TableError> {
        let items = self.items();
        Ok(items
            .provisions
            .values()
            .filter(|record| record.run == *run)
            .cloned()
            .collect())
    }

    async fn live(&self) -> Result<Live, TableError> {
        let items = self.items();
        let instances = items.instances.values();
        let provisions = items.provisions.values();
        let mut live = Live {
            instances: instances
                .filter(|record| record.state != State::Terminated && record.threshold.is_some())
                .cloned()
                .collect(),
            provisions: provisions
                .filter(|record| record.phase.is_open())
                .cloned()
                .collect(),
        };
        live.provisions.sort_by(|a, b| a.label.cmp(&b.label));
        Ok(live)
    }

    async fn config(&self) -> Result<Config, TableError> {
        Ok(self.items().config.clone())
    }

    async fn put_config(&self, item: &ConfigItem) -> Result<(), TableError> {
        self.items().config.put(item.clone());
        Ok(())
    }

    async fn put_refresh(
        &self,
        journal: &RefreshJournal,
    ) -> Result<Outcome<RefreshJournal>, TableError> {
        let current = &mut self.items().config.refresh;
        if journal.revision != current.as_ref().map_or(0, |current| current.revision) + 1 {
            return Ok(Outcome::Conflict(current.clone()));
        }
        *current = Some(journal.clone());
        Ok(Outcome::Applied(journal.clone()))
    }

    async fn delete_class(&self, name: &ClassName) -> Result<(), TableError> {
        self.items()
            .config
            .resource_classes
            .retain(|class| class.name != *name);
        Ok(())
    }
}
