//! The calls that several operations of the table share, and what their errors mean.

use std::{collections::HashMap, error::Error};

use aws_sdk_dynamodb::{
    error::{ProvideErrorMetadata, SdkError},
    operation::put_item::PutItemError,
    types::{AttributeValue, ReturnValuesOnConditionCheckFailure},
};
use serde::{Serialize, de::DeserializeOwned};

use super::{DynamoTable, Item};
use crate::table::{Outcome, TableError, TableErrorKind};

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
    pub(super) fn refused<E, R>(
        &self,
        operation: &'static str,
    ) -> impl FnOnce(SdkError<E, R>) -> TableError
    where
        E: ProvideErrorMetadata + Error + Send + Sync + 'static,
        R: std::fmt::Debug + Send + Sync + 'static,
    {
        move |error| {
            let kind = match error.code() {
                Some("ResourceNotFoundException") => TableErrorKind::NoTable,
                Some(
                    "AccessDeniedException"
                    | "UnrecognizedClientException"
                    | "ExpiredTokenException"
                    | "InvalidSignatureException",
                ) => TableErrorKind::Denied,
                Some(_) | None => TableErrorKind::Unavailable,
            };
            self.error(operation, kind, error)
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
}
