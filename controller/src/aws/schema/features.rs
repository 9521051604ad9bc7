//! What a table has besides its items: its index, expiry and point-in-time recovery, turned on.

use std::time::Duration;

use aws_sdk_dynamodb::types::{
    CreateGlobalSecondaryIndexAction, GlobalSecondaryIndexUpdate, PointInTimeRecoverySpecification,
    TimeToLiveSpecification,
};
use proto::table::dynamo::{INDEX, TTL_ATTRIBUTE};

use super::{
    DynamoAdmin, FIRST_PAUSE, LONGEST_PAUSE, failed,
    layout::{INDEX_KEY, attributes, invalid, keys, projection},
    odd,
};
use crate::ports::PortError;

/// A new table's backups become available within seconds.
const BACKUPS_WITHIN: Duration = Duration::from_secs(30);

impl DynamoAdmin {
    /// Makes the index anew and waits until it lists what is there.
    pub(super) async fn turn_index_on(&self) -> Result<(), PortError> {
        let operation = "make the table's index";
        let create = CreateGlobalSecondaryIndexAction::builder()
            .index_name(INDEX)
            .set_key_schema(Some(keys(&INDEX_KEY)?))
            .projection(projection())
            .build()
            .map_err(invalid)?;
        let update = GlobalSecondaryIndexUpdate::builder().create(create).build();
        self.client
            .update_table()
            .table_name(&self.name)
            .set_attribute_definitions(Some(attributes()?))
            .global_secondary_index_updates(update)
            .send()
            .await
            .map_err(failed(operation))?;
        self.settled().await.map(drop)
    }

    pub(super) async fn turn_expiry_on(&self) -> Result<(), PortError> {
        let operation = "turn the table's expiry on";
        let wanted = TimeToLiveSpecification::builder()
            .enabled(true)
            .attribute_name(TTL_ATTRIBUTE)
            .build()
            .map_err(|error| odd(operation, None, error.to_string()))?;
        let answer = self
            .client
            .update_time_to_live()
            .table_name(&self.name)
            .time_to_live_specification(wanted)
            .send()
            .await
            .map_err(failed(operation));
        offered(answer).map(drop)
    }

    pub(super) async fn turn_recovery_on(&self) -> Result<(), PortError> {
        let operation = "turn the table's point-in-time recovery on";
        let wanted = PointInTimeRecoverySpecification::builder()
            .point_in_time_recovery_enabled(true)
            .build()
            .map_err(|error| odd(operation, None, error.to_string()))?;
        let wait = async {
            let mut pause = FIRST_PAUSE;
            loop {
                let answer = self
                    .client
                    .update_continuous_backups()
                    .table_name(&self.name)
                    .point_in_time_recovery_specification(wanted.clone())
                    .send()
                    .await
                    .map_err(failed(operation));
                match answer {
                    // DynamoDB is still preparing the backups of a table that was made just now.
                    Err(error)
                        if error.code.as_deref()
                            == Some("ContinuousBackupsUnavailableException") => {}
                    answer => return offered(answer).map(drop),
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        };
        tokio::time::timeout(BACKUPS_WITHIN, wait)
            .await
            .unwrap_or_else(|_| {
                Err(odd(
                    operation,
                    None,
                    "its backups are not available yet: run refresh again",
                ))
            })
    }
}

/// None when the endpoint does not know the call.
pub(super) fn offered<T>(answer: Result<T, PortError>) -> Result<Option<T>, PortError> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(error) if is_unknown_call(&error) => {
            tracing::warn!("{error}: this endpoint does not know the call");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn is_unknown_call(error: &PortError) -> bool {
    matches!(
        error.code.as_deref(),
        Some("UnknownOperationException" | "UnknownOperation" | "InvalidAction" | "NotImplemented")
    )
}
