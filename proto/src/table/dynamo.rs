//! The table at DynamoDB.
//!
//! | item | pk | sk | in the index `by-state` |
//! |---|---|---|---|
//! | instance | its ARN | `INSTANCE` | by state and threshold, until it is terminated |
//! | provision record | `RUN#<run>` | `PROVISION#<label>` | while open: `provision` and its beat |
//! | configuration | `CONFIG` | the item's name | no |
//!
//! The index holds keys alone: a beat does not touch it, so beats cost one write each and its
//! partitions (one a state) bear pools of any size. What it lists is read from the table itself.

mod calls;
mod configuration;
mod expression;
mod met_transaction;
mod transaction;

use std::collections::HashMap;

use async_trait::async_trait;
use aws_sdk_dynamodb::{
    Client,
    operation::update_item::UpdateItemError,
    types::{AttributeValue, ReturnValue, ReturnValuesOnConditionCheckFailure},
};

use self::{expression::Expression, met_transaction::MetTransaction};
use super::{Live, Outcome, Table, TableError, TableErrorKind};
use crate::{
    change::Change,
    config::{Config, ConfigItem, RefreshJournal},
    ids::{ClassName, InstanceArn, RunId},
    instance::InstanceRecord,
    provision::ProvisionRecord,
    state::State,
    time::Time,
};

/// The index over live states.
pub const INDEX: &str = "by-state";
/// The attribute that DynamoDB's TTL looks at.
pub const TTL_ATTRIBUTE: &str = "expiresAt";

const INSTANCE: &str = "INSTANCE";
const CONFIG: &str = "CONFIG";
/// What an open provision record has for a state in the index.
const OPEN_PROVISION: &str = "provision";
const REFRESH: &str = "refresh";
const RUN_PREFIX: &str = "RUN#";

type Item = HashMap<String, AttributeValue>;

/// A pool's table at DynamoDB.
#[derive(Clone, Debug)]
pub struct DynamoTable {
    client: Client,
    name: String,
}

impl DynamoTable {
    /// The table of that name.
    pub fn new(client: &Client, name: impl Into<String>) -> Self {
        let patient = client
            .config()
            .to_builder()
            .retry_classifier(MetTransaction);
        Self {
            client: Client::from_conf(patient.build()),
            name: name.into(),
        }
    }
}

fn key(pk: &str, sk: &str) -> Item {
    HashMap::from([
        ("pk".to_owned(), AttributeValue::S(pk.to_owned())),
        ("sk".to_owned(), AttributeValue::S(sk.to_owned())),
    ])
}

fn values(pairs: impl IntoIterator<Item = (&'static str, String)>) -> Item {
    pairs
        .into_iter()
        .map(|(name, text)| (name.to_owned(), AttributeValue::S(text)))
        .collect()
}

#[async_trait]
impl Table for DynamoTable {
    async fn insert_instance(
        &self,
        record: &InstanceRecord,
    ) -> Result<Outcome<InstanceRecord>, TableError> {
        let operation = "write an instance's first record";
        let item = self.write(operation, record, [("sk", INSTANCE.to_owned())])?;
        let outcome = self
            .put(operation, item, "attribute_not_exists(pk)", None)
            .await?;
        self.outcome(operation, outcome)
    }

    async fn change_instance(
        &self,
        arn: &InstanceArn,
        change: &Change,
    ) -> Result<Outcome<InstanceRecord>, TableError> {
        let operation = "change an instance's record";
        let Expression {
            condition,
            update,
            names,
            values,
        } = Expression::of(change)
            .map_err(|error| self.error(operation, TableErrorKind::Malformed, error))?;
        let answer = self
            .client
            .update_item()
            .table_name(&self.name)
            .set_key(Some(key(arn.as_str(), INSTANCE)))
            .condition_expression(condition)
            .update_expression(update)
            .set_expression_attribute_names(Some(names))
            .set_expression_attribute_values((!values.is_empty()).then_some(values))
            .return_values(ReturnValue::AllNew)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .send()
            .await;
        let outcome = match answer {
            Ok(output) => Outcome::Applied(output.attributes.unwrap_or_default()),
            Err(error) => match error.as_service_error() {
                Some(UpdateItemError::ConditionalCheckFailedException(failed)) => {
                    Outcome::Conflict(failed.item.clone())
                }
                _ => return Err(self.refused(operation)(error)),
            },
        };
        self.outcome(operation, outcome)
    }

    async fn change_instances(
        &self,
        changes: &[(InstanceArn, Change)],
    ) -> Vec<Result<Outcome<(), InstanceRecord>, TableError>> {
        self.change_by_transactions(changes).await
    }

    async fn instance(&self, arn: &InstanceArn) -> Result<Option<InstanceRecord>, TableError> {
        let operation = "read an instance's record";
        self.client
            .get_item()
            .table_name(&self.name)
            .set_key(Some(key(arn.as_str(), INSTANCE)))
            .consistent_read(true)
            .send()
            .await
            .map_err(self.refused(operation))?
            .item
            .map(|item| self.read(operation, item))
            .transpose()
    }

    async fn instances(&self, arns: &[InstanceArn]) -> Result<Vec<InstanceRecord>, TableError> {
        let operation = "read instances' records";
        let keys = arns.iter().map(|arn| key(arn.as_str(), INSTANCE)).collect();
        let items = self.batch_get(operation, keys).await?;
        Ok(self.readable(operation, items))
    }

    async fn instances_in(
        &self,
        state: State,
        until: Option<Time>,
    ) -> Result<Vec<InstanceRecord>, TableError> {
        let operation = "list instances by state";
        let (condition, values) = match until {
            None => ("#state = :state", values([(":state", state.to_string())])),
            Some(until) => (
                "#state = :state AND threshold <= :until",
                values([(":state", state.to_string()), (":until", until.to_string())]),
            ),
        };
        let mut entries = self
            .query(operation, condition, values, Some(INDEX))
            .await?;
        entries.retain(is_instance);
        let mut records: Vec<InstanceRecord> = self.listed_items(operation, entries).await?;
        // The index lags behind: what has moved on meanwhile does not belong here any more.
        records.retain(|record| {
            record.state == state
                && record
                    .threshold
                    .is_some_and(|t| until.is_none_or(|until| t <= until))
        });
        records.sort_by_key(|record| record.threshold);
        Ok(records)
    }

    async fn put_provision(
        &self,
        record: &ProvisionRecord,
    ) -> Result<Outcome<ProvisionRecord>, TableError> {
        let operation = "write a provision record";
        let mut item = self.write(
            operation,
            record,
            [
                ("pk", run_key(&record.run)),
                ("sk", format!("PROVISION#{}", record.label)),
            ],
        )?;
        if record.phase.is_open() {
            item.extend(values([
                ("state", OPEN_PROVISION.to_owned()),
                ("threshold", record.beat.to_string()),
            ]));
        }
        let outcome = self.put_revision(operation, item, record.revision).await?;
        self.outcome(operation, outcome)
    }

    async fn provisions_of(&self, run: &RunId) -> Result<Vec<ProvisionRecord>, TableError> {
        let operation = "read a run's provision records";
        self.query(operation, "pk = :pk", values([(":pk", run_key(run))]), None)
            .await?
            .into_iter()
            .map(|item| self.read(operation, item))
            .collect()
    }

    async fn live(&self) -> Result<Live, TableError> {
        let operation = "list what is under way";
        let entries = self.scan_index(operation).await?;
        let (instances, others): (Vec<Item>, Vec<Item>) =
            entries.into_iter().partition(is_instance);
        let provisions = others.into_iter().filter(is_provision).collect();
        let (mut instances, mut provisions): (Vec<InstanceRecord>, Vec<ProvisionRecord>) = tokio::try_join!(
            self.listed_items(operation, instances),
            self.listed_items(operation, provisions),
        )?;
        // The index lags behind: what has ended meanwhile does not belong here any more.
        instances.retain(|record| record.state != State::Terminated);
        provisions.retain(|record| record.phase.is_open());
        provisions.sort_by(|a, b| a.label.cmp(&b.label));
        Ok(Live {
            instances,
            provisions,
        })
    }

    async fn config(&self) -> Result<Config, TableError> {
        self.read_config().await
    }

    async fn put_config(&self, item: &ConfigItem) -> Result<(), TableError> {
        self.write_config(item).await
    }

    async fn put_refresh(
        &self,
        journal: &RefreshJournal,
    ) -> Result<Outcome<RefreshJournal>, TableError> {
        let operation = "write refresh's journal";
        let keyed = [("pk", CONFIG.to_owned()), ("sk", REFRESH.to_owned())];
        let item = self.write(operation, journal, keyed)?;
        let outcome = self.put_revision(operation, item, journal.revision).await?;
        self.outcome(operation, outcome)
    }

    async fn delete_class(&self, name: &ClassName) -> Result<(), TableError> {
        self.client
            .delete_item()
            .table_name(&self.name)
            .set_key(Some(key(CONFIG, &configuration::class_key(name))))
            .send()
            .await
            .map_err(self.refused("remove a resource class"))?;
        Ok(())
    }
}

fn text<'a>(item: &'a Item, attribute: &str) -> Option<&'a str> {
    item.get(attribute)?.as_s().ok().map(String::as_str)
}

/// A machine may write any item under its own ARN, and root on it may too: none but this one is
/// its record.
fn is_instance(entry: &Item) -> bool {
    text(entry, "sk") == Some(INSTANCE)
}

/// No machine can write under such a key.
fn is_provision(entry: &Item) -> bool {
    text(entry, "pk").is_some_and(|pk| pk.starts_with(RUN_PREFIX))
}

fn run_key(run: &RunId) -> String {
    format!("{RUN_PREFIX}{run}")
}
