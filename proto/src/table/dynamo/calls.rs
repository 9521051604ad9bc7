//! The calls that several operations of the table share, and what their errors mean.

use std::{collections::HashMap, error::Error, time::Duration};

use aws_sdk_dynamodb::{
    config::http::HttpResponse,
    error::{ProvideErrorMetadata, SdkError},
    operation::put_item::PutItemError,
    types::{AttributeValue, KeysAndAttributes, ReturnValuesOnConditionCheckFailure},
};
use serde::{Serialize, de::DeserializeOwned};

use super::{DynamoTable, INDEX, Item};
use crate::table::{Outcome, TableError, TableErrorKind};

/// `BatchGetItem` takes so many keys.
const BATCH: usize = 100;
/// Pauses before keys that a throttled table left out are asked for again; each doubles the last.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_millis(1600);

impl DynamoTable {
    pub(super) fn error(
        &self,
        operation: &'static str,
        kind: TableErrorKind,
        source: impl Into<Box<dyn Error + Send + Sync>>,
    ) -> TableError {
        TableError {
            operation,
            table: self.name.clone(),
            kind,
            source: source.into(),
        }
    }

    /// Gives the SDK's error its operation and its kind.
    pub(super) fn refused<E>(
        &self,
        operation: &'static str,
    ) -> impl FnOnce(SdkError<E, HttpResponse>) -> TableError
    where
        E: ProvideErrorMetadata + Error + Send + Sync + 'static,
    {
        move |error| {
            let kind = match error.code() {
                Some("ResourceNotFoundException") => TableErrorKind::NoTable,
                Some("ValidationException")
                    if error
                        .message()
                        .is_some_and(|it| it.contains("specified index")) =>
                {
                    TableErrorKind::NoIndex
                }
                Some(
                    "AccessDeniedException"
                    | "UnrecognizedClientException"
                    | "ExpiredTokenException"
                    | "InvalidSignatureException",
                ) => TableErrorKind::Denied,
                Some(_) | None => TableErrorKind::Unavailable,
            };
            self.error(operation, kind, crate::aws::cause(error))
        }
    }

    pub(super) fn read<T: DeserializeOwned>(
        &self,
        operation: &'static str,
        item: Item,
    ) -> Result<T, TableError> {
        serde_dynamo::from_item(item)
            .map_err(|error| self.error(operation, TableErrorKind::Malformed, error))
    }

    pub(super) fn write<T: Serialize>(
        &self,
        operation: &'static str,
        value: &T,
        extra: impl IntoIterator<Item = (&'static str, String)>,
    ) -> Result<Item, TableError> {
        let mut item: Item = serde_dynamo::to_item(value)
            .map_err(|error| self.error(operation, TableErrorKind::Malformed, error))?;
        item.extend(
            extra
                .into_iter()
                .map(|(name, text)| (name.into(), AttributeValue::S(text))),
        );
        Ok(item)
    }

    /// Puts an item under a condition; a conflict carries the item as it is.
    pub(super) async fn put(
        &self,
        operation: &'static str,
        item: Item,
        condition: &str,
        values: Option<Item>,
    ) -> Result<Outcome<Item>, TableError> {
        let answer = self
            .client
            .put_item()
            .table_name(&self.name)
            .set_item(Some(item.clone()))
            .condition_expression(condition)
            .set_expression_attribute_values(values)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .send()
            .await;
        match answer {
            Ok(_) => Ok(Outcome::Applied(item)),
            Err(error) => match error.as_service_error() {
                Some(PutItemError::ConditionalCheckFailedException(failed)) => {
                    Ok(Outcome::Conflict(failed.item.clone()))
                }
                _ => Err(self.refused(operation)(error)),
            },
        }
    }

    pub(super) fn outcome<T: DeserializeOwned>(
        &self,
        operation: &'static str,
        outcome: Outcome<Item>,
    ) -> Result<Outcome<T>, TableError> {
        Ok(match outcome {
            Outcome::Applied(item) => Outcome::Applied(self.read(operation, item)?),
            Outcome::Conflict(item) => {
                Outcome::Conflict(item.map(|item| self.read(operation, item)).transpose()?)
            }
        })
    }

    /// Every item of a query, page after page.
    pub(super) async fn query(
        &self,
        operation: &'static str,
        condition: &str,
        values: Item,
        index: Option<&str>,
    ) -> Result<Vec<Item>, TableError> {
        let names = condition
            .contains("#state")
            .then(|| HashMap::from([("#state".to_owned(), "state".to_owned())]));
        let mut items = Vec::new();
        let mut start = None;
        loop {
            let page = self
                .client
                .query()
                .table_name(&self.name)
                .set_index_name(index.map(str::to_owned))
                .consistent_read(index.is_none())
                .key_condition_expression(condition)
                .set_expression_attribute_names(names.clone())
                .set_expression_attribute_values(Some(values.clone()))
                .set_exclusive_start_key(start)
                .send()
                .await
                .map_err(self.refused(operation))?;
            items.extend(page.items.unwrap_or_default());
            match page.last_evaluated_key.filter(|key| !key.is_empty()) {
                Some(key) => start = Some(key),
                None => return Ok(items),
            }
        }
    }

    /// The items of these keys as they are now, in no order.
    pub(super) async fn batch_get(
        &self,
        operation: &'static str,
        mut keys: Vec<Item>,
    ) -> Result<Vec<Item>, TableError> {
        let mut items = Vec::with_capacity(keys.len());
        let mut pause = FIRST_PAUSE;
        while !keys.is_empty() {
            let rest = keys.split_off(keys.len().min(BATCH));
            let wanted = KeysAndAttributes::builder()
                .set_keys(Some(keys))
                .consistent_read(true)
                .build()
                .map_err(|error| self.error(operation, TableErrorKind::Malformed, error))?;
            let answer = self
                .client
                .batch_get_item()
                .request_items(&self.name, wanted)
                .send()
                .await
                .map_err(self.refused(operation))?;
            items.extend(answer.responses.unwrap_or_default().into_values().flatten());
            let left: Vec<Item> = answer
                .unprocessed_keys
                .unwrap_or_default()
                .into_values()
                .flat_map(|left| left.keys)
                .collect();
            if !left.is_empty() {
                if pause > LONGEST_PAUSE {
                    let words =
                        format!("{} keys were left unanswered: it is throttled", left.len());
                    return Err(self.error(operation, TableErrorKind::Unavailable, words));
                }
                tokio::time::sleep(pause).await;
                pause *= 2;
            }
            keys = left;
            keys.extend(rest);
        }
        Ok(items)
    }

    /// Those items that can be read. One that a newer version wrote, or that somebody spoiled,
    /// must not keep the others from being looked after; its machine counts as one without a
    /// record.
    pub(super) fn readable<T: DeserializeOwned>(
        &self,
        operation: &'static str,
        items: Vec<Item>,
    ) -> Vec<T> {
        let read = |item: Item| {
            let key = item.get("pk").and_then(|pk| pk.as_s().ok()).cloned();
            self.read(operation, item)
                .inspect_err(|error| {
                    let key = key.as_deref().unwrap_or("an item without a key");
                    tracing::warn!("{key} cannot be read and is passed over: {}", error.source);
                })
                .ok()
        };
        items.into_iter().filter_map(read).collect()
    }

    /// Puts an item that follows the one of the revision before; 1 follows nothing.
    pub(super) async fn put_revision(
        &self,
        operation: &'static str,
        item: Item,
        revision: u64,
    ) -> Result<Outcome<Item>, TableError> {
        let previous = revision.saturating_sub(1);
        if previous == 0 {
            let condition = "attribute_not_exists(pk)";
            return self.put(operation, item, condition, None).await;
        }
        let value = AttributeValue::N(previous.to_string());
        let values = HashMap::from([(":previous".to_owned(), value)]);
        self.put(operation, item, "revision = :previous", Some(values))
            .await
    }

    /// Every entry of the index, page after page.
    pub(super) async fn scan_index(
        &self,
        operation: &'static str,
    ) -> Result<Vec<Item>, TableError> {
        let mut items = Vec::new();
        let mut start = None;
        loop {
            let page = self
                .client
                .scan()
                .table_name(&self.name)
                .index_name(INDEX)
                .set_exclusive_start_key(start)
                .send()
                .await
                .map_err(self.refused(operation))?;
            items.extend(page.items.unwrap_or_default());
            match page.last_evaluated_key.filter(|key| !key.is_empty()) {
                Some(key) => start = Some(key),
                None => return Ok(items),
            }
        }
    }

    /// The items of these entries of the index, read from the table itself.
    pub(super) async fn listed_items<T: DeserializeOwned>(
        &self,
        operation: &'static str,
        entries: Vec<Item>,
    ) -> Result<Vec<T>, TableError> {
        let keys = entries
            .into_iter()
            .map(|mut item| {
                item.retain(|name, _| name == "pk" || name == "sk");
                item
            })
            .collect();
        let items = self.batch_get(operation, keys).await?;
        Ok(self.readable(operation, items))
    }
}
