//! The pool's one table.
//!
//! [`Table`] has two forms: [`memory::MemoryTable`] and [`dynamo::DynamoTable`]. One contract
//! suite (in the `tests` crate) runs on both.

pub mod dynamo;
pub mod memory;

use async_trait::async_trait;

use crate::{
    change::Change,
    config::{Config, ConfigItem, RefreshJournal},
    ids::{ClassName, InstanceArn, RunId},
    instance::InstanceRecord,
    provision::ProvisionRecord,
    state::State,
    time::Time,
};

/// What became of a conditional write. A failed condition is a value, not an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome<T, C = T> {
    /// Written; this is the record now.
    Applied(T),
    /// Not written; this is the record as it is, if there is one.
    Conflict(Option<C>),
}

/// Why the table could not be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableErrorKind {
    /// There is no such table.
    NoTable,
    /// The table lacks its index.
    NoIndex,
    /// The caller lacks a permission, or its credentials are no good.
    Denied,
    /// An item that cannot be read.
    Malformed,
    /// Anything else: network, throttling, an outage.
    Unavailable,
}

/// The table could not be asked, or what it holds not be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation} in table {table}")]
pub struct TableError {
    /// What was tried, as `read the configuration`.
    pub operation: &'static str,
    /// The table's name.
    pub table: String,
    /// What kind of trouble it is.
    pub kind: TableErrorKind,
    /// The cause.
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

/// Everything that is under way: what the index lists, read from the table itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Live {
    /// The instances in a live state, in no order.
    pub instances: Vec<InstanceRecord>,
    /// The provisions that somebody must be at work on, by label.
    pub provisions: Vec<ProvisionRecord>,
}

/// Where instances, provision records and the configuration are kept.
#[async_trait]
pub trait Table: Send + Sync {
    /// Writes the first record of an instance, if there is none.
    async fn insert_instance(
        &self,
        record: &InstanceRecord,
    ) -> Result<Outcome<InstanceRecord>, TableError>;

    /// Applies a change to an instance's record.
    async fn change_instance(
        &self,
        arn: &InstanceArn,
        change: &Change,
    ) -> Result<Outcome<InstanceRecord>, TableError>;

    /// Applies changes to the records of as many different instances, each under its own condition
    /// and with its own outcome, in the order given. Cheaper than one by one: a hundred a call.
    async fn change_instances(
        &self,
        changes: &[(InstanceArn, Change)],
    ) -> Vec<Result<Outcome<(), InstanceRecord>, TableError>>;

    /// One instance, as it is now.
    async fn instance(&self, arn: &InstanceArn) -> Result<Option<InstanceRecord>, TableError>;

    /// Those of these instances that there are, as they are now, in no order.
    async fn instances(&self, arns: &[InstanceArn]) -> Result<Vec<InstanceRecord>, TableError>;

    /// The instances in a live state, those with the earliest threshold first; only those whose
    /// threshold is not after `until`, if given. May lag behind by moments.
    async fn instances_in(
        &self,
        state: State,
        until: Option<Time>,
    ) -> Result<Vec<InstanceRecord>, TableError>;

    /// Writes a provision record that follows the one in the table: its revision is one more than
    /// that one's, or 1 and there is none.
    async fn put_provision(
        &self,
        record: &ProvisionRecord,
    ) -> Result<Outcome<ProvisionRecord>, TableError>;

    /// The provision records of a run, as they are now, by label.
    async fn provisions_of(&self, run: &RunId) -> Result<Vec<ProvisionRecord>, TableError>;

    /// All instances in a live state and all provisions that somebody must be at work on. What
    /// began moments ago may be missing.
    async fn live(&self) -> Result<Live, TableError>;

    /// The whole configuration, as it is now.
    async fn config(&self) -> Result<Config, TableError>;

    /// Writes one item of the configuration.
    async fn put_config(&self, item: &ConfigItem) -> Result<(), TableError>;

    /// Writes refresh's journal, if it follows the one in the table: its revision is one more than
    /// that one's, or 1 and there is none.
    async fn put_refresh(
        &self,
        journal: &RefreshJournal,
    ) -> Result<Outcome<RefreshJournal>, TableError>;

    /// Removes a class from the configuration.
    async fn delete_class(&self, name: &ClassName) -> Result<(), TableError>;
}
