//! Bugs around the table.

use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use proto::{
    change::{Assign, Change, Clause},
    config::{Config, ConfigItem, RefreshJournal},
    ids::{ClassName, InstanceArn, RunId},
    instance::InstanceRecord,
    provision::ProvisionRecord,
    signal::{Report, Signal},
    state::State,
    table::{Live, Outcome, Table, TableError},
    time::{Clock, Time},
};

use super::Sabotage;
use crate::sim::{process::Role, table::SimTable};

pub(super) struct SabotagedTable {
    pub(super) inner: SimTable,
    pub(super) sabotage: Sabotage,
    /// A write to the journal that is still to come.
    pub(super) held_back: Mutex<Option<ProvisionRecord>>,
}

impl SabotagedTable {
    /// What becomes of a write.
    fn change(&self, change: &Change) -> Change {
        let mut change = change.clone();
        let to = |stands| change.set.contains(&Assign::State(stands));
        let closes_for_ec2 = || {
            change.set.iter().any(|assign| {
                matches!(assign, Assign::Reason(reason) if reason.contains("EC2 has it no more"))
            })
        };
        let is = |sabotage| self.sabotage == sabotage;
        if (is(Sabotage::ClaimWithoutCondition) && to(State::Claimed))
            || (is(Sabotage::TerminateWithoutCondition) && to(State::Terminated))
        {
            change.when = vec![Clause::Exists];
        } else if is(Sabotage::RecordsAreNeverClosed) && closes_for_ec2() {
            change.when.push(Clause::GenerationIs(u64::MAX));
        } else if is(Sabotage::ReleaseWithoutWaiting) {
            change.when.retain(|clause| *clause != Clause::Clean);
        }
        change
    }

    /// What becomes of a record that is read.
    fn seen(&self, mut record: InstanceRecord) -> InstanceRecord {
        let process = &self.inner.0;
        let is = |sabotage| self.sabotage == sabotage;
        let of_a_step = matches!(process.role, Role::Step(_));
        let free = record.state == State::Idle && record.label.is_none();
        if is(Sabotage::ReleaseWithoutWaiting) && of_a_step && free {
            record.report = Some(Report {
                signal: Signal::RemoveRegOk,
                generation: record.generation,
                at: process.now(),
                detail: None,
            });
            record.job = None;
        }
        if is(Sabotage::UnfitAreHandedOut) && of_a_step {
            record.health = None;
        }
        if is(Sabotage::SignalsOfAnyGeneration) && !matches!(process.role, Role::Agent(_)) {
            let generation = record.generation;
            record
                .report
                .iter_mut()
                .for_each(|r| r.generation = generation);
        }
        record
    }

    /// What a condition on a signal of this generation becomes: one on the last signal's own.
    async fn of_any_generation(&self, arn: &InstanceArn, change: &mut Change) {
        let present = self.inner.instance(arn).await.ok().flatten();
        let Some(report) = present.and_then(|record| record.report) else {
            return;
        };
        if change.when.contains(&Clause::Clean) {
            change.when.push(Clause::NoJob);
        }
        for clause in &mut change.when {
            match clause {
                Clause::Clean => *clause = Clause::Reported(Signal::RemoveRegOk, report.generation),
                Clause::Reported(_, generation) => *generation = report.generation,
                Clause::Exists
                | Clause::StateIn(_)
                | Clause::LabelIs(_)
                | Clause::NoLabel
                | Clause::GenerationIs(_)
                | Clause::ThresholdAfter(_)
                | Clause::ThresholdReached(_)
                | Clause::BeatAfter(_)
                | Clause::NoJob
                | Clause::TokenIs(_)
                | Clause::BeatIs(_) => {}
            }
        }
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
        let mut change = self.change(change);
        if self.sabotage == Sabotage::SignalsOfAnyGeneration {
            self.of_any_generation(arn, &mut change).await;
        }
        Ok(match self.inner.change_instance(arn, &change).await? {
            Outcome::Applied(record) => Outcome::Applied(self.seen(record)),
            Outcome::Conflict(record) => Outcome::Conflict(record.map(|r| self.seen(r))),
        })
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
        let record = self.inner.instance(arn).await?;
        Ok(record.map(|record| self.seen(record)))
    }

    async fn instances(&self, arns: &[InstanceArn]) -> Result<Vec<InstanceRecord>, TableError> {
        let records = self.inner.instances(arns).await?;
        Ok(records.into_iter().map(|r| self.seen(r)).collect())
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
        if self.sabotage != Sabotage::JournalAfterTheCall {
            return self.inner.put_provision(record).await;
        }
        let before = {
            let held_back = self.held_back.lock();
            let mut held_back = held_back.unwrap_or_else(PoisonError::into_inner);
            held_back.replace(record.clone())
        };
        if let Some(before) = before {
            self.inner.put_provision(&before).await?;
        }
        if record.phase.is_open() {
            return Ok(Outcome::Applied(record.clone()));
        }
        self.inner.put_provision(record).await
    }

    async fn provisions_of(&self, run: &RunId) -> Result<Vec<ProvisionRecord>, TableError> {
        self.inner.provisions_of(run).await
    }

    async fn live(&self) -> Result<Live, TableError> {
        let mut live = self.inner.live().await?;
        if self.sabotage == Sabotage::JournalsAreNeverFinished {
            live.provisions.clear();
        }
        Ok(live)
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
