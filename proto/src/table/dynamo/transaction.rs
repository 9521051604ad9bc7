//! Many conditional writes in few calls.
//!
//! A transaction is all or nothing, and the changes here are not meant to be: one whose condition
//! fails must not keep back the others. So a refused transaction is tried again without those that
//! can never pass, and what still does not go through is written one by one.

use aws_sdk_dynamodb::{
    operation::transact_write_items::TransactWriteItemsError,
    types::{CancellationReason, ReturnValuesOnConditionCheckFailure, TransactWriteItem, Update},
};

use super::{DynamoTable, INSTANCE, expression::Expression, key};
use crate::{
    change::Change,
    ids::InstanceArn,
    instance::InstanceRecord,
    table::{Outcome, Table, TableError, TableErrorKind},
};

/// `TransactWriteItems` takes so many writes.
const BATCH: usize = 100;
/// So often a batch is tried as a transaction: agents beat meanwhile, and a beat in the same
/// moment is a conflict that another try does not meet.
const TRIES: usize = 3;
const OPERATION: &str = "change instances' records";

type Changed = Result<Outcome<(), InstanceRecord>, TableError>;

impl DynamoTable {
    pub(super) async fn change_by_transactions(
        &self,
        changes: &[(InstanceArn, Change)],
    ) -> Vec<Changed> {
        let mut outcomes = Vec::with_capacity(changes.len());
        for batch in changes.chunks(BATCH) {
            outcomes.extend(self.change_batch(batch).await);
        }
        outcomes
    }

    async fn change_batch(&self, batch: &[(InstanceArn, Change)]) -> Vec<Changed> {
        let mut outcomes: Vec<Option<Changed>> = batch.iter().map(|_| None).collect();
        for _ in 0..TRIES {
            let open: Vec<usize> = open(&outcomes);
            // One alone is cheaper without a transaction.
            if open.len() < 2 {
                break;
            }
            let changes: Vec<_> = open.iter().map(|i| &batch[*i]).collect();
            match self.transact(&changes).await {
                Ok(None) => open
                    .iter()
                    .for_each(|i| outcomes[*i] = Some(Ok(Outcome::Applied(())))),
                Ok(Some(reasons)) => {
                    for (i, reason) in open.iter().zip(reasons) {
                        if reason.code() == Some("ConditionalCheckFailed") {
                            outcomes[*i] = Some(self.conflict(reason));
                        }
                    }
                }
                Err(error) => {
                    for i in open {
                        let words = format!("{}", error.source);
                        outcomes[i] = Some(Err(self.error(OPERATION, error.kind, words)));
                    }
                }
            }
        }
        for i in open(&outcomes) {
            let (arn, change) = &batch[i];
            let outcome = self.change_instance(arn, change).await;
            outcomes[i] = Some(outcome.map(|outcome| match outcome {
                Outcome::Applied(_) => Outcome::Applied(()),
                Outcome::Conflict(current) => Outcome::Conflict(current),
            }));
        }
        outcomes.into_iter().flatten().collect()
    }

    /// Writes all of them, or none and a reason for each.
    async fn transact(
        &self,
        changes: &[&(InstanceArn, Change)],
    ) -> Result<Option<Vec<CancellationReason>>, TableError> {
        let writes = changes
            .iter()
            .map(|(arn, change)| self.write_of(arn, change))
            .collect::<Result<Vec<_>, _>>()?;
        let answer = self
            .client
            .transact_write_items()
            .set_transact_items(Some(writes))
            .send()
            .await;
        match answer {
            Ok(_) => Ok(None),
            Err(error) => match error.as_service_error() {
                Some(TransactWriteItemsError::TransactionCanceledException(cancelled)) => {
                    Ok(Some(cancelled.cancellation_reasons().to_vec()))
                }
                Some(_) | None => Err(self.refused(OPERATION)(error)),
            },
        }
    }

    fn write_of(
        &self,
        arn: &InstanceArn,
        change: &Change,
    ) -> Result<TransactWriteItem, TableError> {
        let malformed = |words: String| self.error(OPERATION, TableErrorKind::Malformed, words);
        let Expression {
            condition,
            update,
            names,
            values,
        } = Expression::of(change).map_err(|error| malformed(error.to_string()))?;
        let update = Update::builder()
            .table_name(&self.name)
            .set_key(Some(key(arn.as_str(), INSTANCE)))
            .condition_expression(condition)
            .update_expression(update)
            .set_expression_attribute_names(Some(names))
            .set_expression_attribute_values((!values.is_empty()).then_some(values))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .build()
            .map_err(|error| malformed(error.to_string()))?;
        Ok(TransactWriteItem::builder().update(update).build())
    }

    fn conflict(&self, reason: CancellationReason) -> Changed {
        let current = reason.item.filter(|item| !item.is_empty());
        let current = current.map(|item| self.read(OPERATION, item));
        Ok(Outcome::Conflict(current.transpose()?))
    }
}

/// Those without an outcome yet.
fn open(outcomes: &[Option<Changed>]) -> Vec<usize> {
    (0..outcomes.len())
        .filter(|i| outcomes[*i].is_none())
        .collect()
}
