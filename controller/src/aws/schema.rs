//! The pool's table at DynamoDB: whether it is there, and making it.
//!
//! Stand-ins for DynamoDB may know neither TTL nor point-in-time recovery. Both are safety nets
//! that no command relies on, so an endpoint that does not know the call is warned about, not
//! failed upon.

mod features;
mod layout;

use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_dynamodb::{
    Client,
    types::{
        BillingMode, ContinuousBackupsStatus, GlobalSecondaryIndex, PointInTimeRecoveryStatus,
        TableDescription, TableStatus, Tag, TimeToLiveStatus,
    },
};
use proto::{ids::PoolName, table::dynamo::INDEX};

use self::{
    features::offered,
    layout::{INDEX_KEY, KEY, attributes, has_key, invalid, is_indexed, keys, projection},
};
use super::{failed, fleet::POOL_TAG, odd};
use crate::{
    ports::PortError,
    refresh::table::{Feature, Setting, TableAdmin, TableState, TableTrouble},
};

/// A table is made within seconds; a new index may take longer, and is waited for by the next run.
const ACTIVE_WITHIN: Duration = Duration::from_mins(2);
/// The first pause between two looks; each one doubles it, up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// The administration of one table at DynamoDB.
#[derive(Clone, Debug)]
pub struct DynamoAdmin {
    client: Client,
    name: String,
}

impl DynamoAdmin {
    /// The table of that name.
    pub fn new(client: Client, name: impl Into<String>) -> Self {
        Self {
            client,
            name: name.into(),
        }
    }

    async fn describe(&self) -> Result<Option<TableDescription>, PortError> {
        let answer = self
            .client
            .describe_table()
            .table_name(&self.name)
            .send()
            .await
            .map_err(failed(format!("look at the table {}", self.name)));
        match answer {
            Ok(answer) => Ok(answer.table),
            Err(error) if error.code.as_deref() == Some("ResourceNotFoundException") => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The table once it can be used; none if there is no such table.
    async fn settled(&self) -> Result<Option<TableDescription>, PortError> {
        let wait = async {
            let mut pause = FIRST_PAUSE;
            loop {
                let Some(table) = self.describe().await? else {
                    return Ok(None);
                };
                match table.table_status() {
                    Some(TableStatus::Active) | None if is_indexed(&table) => {
                        return Ok(Some(table));
                    }
                    Some(TableStatus::Deleting) => {
                        return Err(
                            self.trouble("is being deleted: run refresh again once it is gone")
                        );
                    }
                    Some(_) | None => tokio::time::sleep(pause).await,
                }
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        };
        tokio::time::timeout(ACTIVE_WITHIN, wait)
            .await
            .unwrap_or_else(|_| {
                Err(self.trouble("is not ready after two minutes; a new index may take longer: run refresh again"))
            })
    }

    fn trouble(&self, words: &str) -> PortError {
        odd(
            format!("use the table {}", self.name),
            None,
            format!("it {words}"),
        )
    }

    fn foreign(&self, what: &'static str) -> TableTrouble {
        TableTrouble::Foreign {
            name: self.name.clone(),
            what,
        }
    }

    async fn expiry(&self) -> Result<Setting, PortError> {
        let answer = self
            .client
            .describe_time_to_live()
            .table_name(&self.name)
            .send()
            .await
            .map_err(failed("look at the table's expiry"));
        offered(answer)?.map_or(Ok(Setting::NotOffered), |answer| {
            let status = answer
                .time_to_live_description
                .and_then(|described| described.time_to_live_status);
            Ok(match status {
                Some(TimeToLiveStatus::Enabled | TimeToLiveStatus::Enabling) => Setting::On,
                Some(_) | None => Setting::Off,
            })
        })
    }

    async fn recovery(&self) -> Result<Setting, PortError> {
        let answer = self
            .client
            .describe_continuous_backups()
            .table_name(&self.name)
            .send()
            .await
            .map_err(failed("look at the table's point-in-time recovery"));
        offered(answer)?.map_or(Ok(Setting::NotOffered), |answer| {
            let backups = answer.continuous_backups_description;
            let on = backups.is_some_and(|backups| {
                backups.continuous_backups_status == ContinuousBackupsStatus::Enabled
                    && backups
                        .point_in_time_recovery_description
                        .and_then(|described| described.point_in_time_recovery_status)
                        == Some(PointInTimeRecoveryStatus::Enabled)
            });
            Ok(if on { Setting::On } else { Setting::Off })
        })
    }
}

#[async_trait]
impl TableAdmin for DynamoAdmin {
    async fn observe(&self) -> Result<Option<TableState>, TableTrouble> {
        let Some(table) = self.settled().await? else {
            return Ok(None);
        };
        if !has_key(table.key_schema(), &KEY) {
            return Err(self.foreign("another key than `pk` and `sk`"));
        }
        let indexes = table.global_secondary_indexes();
        let index = indexes.iter().find(|it| it.index_name() == Some(INDEX));
        if index.is_some_and(|index| !has_key(index.key_schema(), &INDEX_KEY)) {
            return Err(self.foreign("an index `by-state` with other keys"));
        }
        let index = match index {
            Some(_) => Setting::On,
            None => Setting::Off,
        };
        let arn = table
            .table_arn
            .ok_or_else(|| self.trouble("has no ARN in its description"))?;
        Ok(Some(TableState {
            arn,
            index,
            expiry: self.expiry().await?,
            recovery: self.recovery().await?,
        }))
    }

    async fn create(&self, pool: &PoolName) -> Result<(), PortError> {
        let operation = format!("create the table {}", self.name);
        let tag = Tag::builder()
            .key(POOL_TAG)
            .value(pool.as_str())
            .build()
            .map_err(invalid)?;
        let index = GlobalSecondaryIndex::builder()
            .index_name(INDEX)
            .set_key_schema(Some(keys(&INDEX_KEY)?))
            .projection(projection())
            .build()
            .map_err(invalid)?;
        let answer = self
            .client
            .create_table()
            .table_name(&self.name)
            .set_attribute_definitions(Some(attributes()?))
            .set_key_schema(Some(keys(&KEY)?))
            .global_secondary_indexes(index)
            .billing_mode(BillingMode::PayPerRequest)
            .deletion_protection_enabled(false)
            .tags(tag)
            .send()
            .await
            .map_err(failed(operation));
        match answer {
            Ok(_) => {}
            // Another refresh was faster.
            Err(error) if error.code.as_deref() == Some("ResourceInUseException") => {}
            Err(error) => return Err(error),
        }
        self.settled()
            .await?
            .map(drop)
            .ok_or_else(|| self.trouble("is not there although it was created: run refresh again"))
    }

    async fn turn_on(&self, feature: Feature) -> Result<(), PortError> {
        match feature {
            Feature::Index => self.turn_index_on().await,
            Feature::Expiry => self.turn_expiry_on().await,
            Feature::Recovery => self.turn_recovery_on().await,
        }
    }
}
