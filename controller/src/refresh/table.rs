//! The table itself, which must be there before anything else can be looked at.

use std::fmt;

use async_trait::async_trait;
use proto::ids::PoolName;

use crate::ports::PortError;

/// Something that a table can do by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feature {
    /// It forgets items whose time is up (TTL).
    Expiry,
    /// It lists what is in a live state (the index `by-state`).
    Index,
    /// It can be restored to any second of the last weeks.
    Recovery,
}

impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Expiry => "expiry of items",
            Self::Index => "the index by-state",
            Self::Recovery => "point-in-time recovery",
        })
    }
}

/// Whether a [`Feature`] works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setting {
    /// It does.
    On,
    /// It does not.
    Off,
    /// The endpoint does not know it.
    NotOffered,
}

/// A table that is there and can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableState {
    /// Names the partition, region and account of the pool.
    pub arn: String,
    /// Whether it lists what is live.
    pub index: Setting,
    /// Whether items expire.
    pub expiry: Setting,
    /// Whether it can be restored.
    pub recovery: Setting,
}

/// Why a table cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TableTrouble {
    /// There is one of the pool's name that somebody else made.
    #[error("the table {name} has {what}, so it is none of Paddock's: give another `pool-name`")]
    Foreign {
        /// Its name.
        name: String,
        /// What of it is not as Paddock makes it.
        what: &'static str,
    },
    /// It cannot be asked, or is on its way out.
    #[error(transparent)]
    Port(#[from] PortError),
}

/// The administration of the pool's table.
#[async_trait]
pub trait TableAdmin: Send + Sync {
    /// The table as it is, none if there is none; waits for one that is being made.
    ///
    /// # Errors
    ///
    /// When it cannot be asked, is on its way out, or is not one of Paddock's.
    async fn observe(&self) -> Result<Option<TableState>, TableTrouble>;

    /// Makes the table and waits until it can be used. One that is there is no error.
    async fn create(&self, pool: &PoolName) -> Result<(), PortError>;

    /// Turns a feature on. An endpoint that does not know it is no error.
    async fn turn_on(&self, feature: Feature) -> Result<(), PortError>;
}

/// Something to do about the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TableStep {
    /// It is not there.
    Create {
        /// Its name.
        name: String,
    },
    /// It lacks a feature.
    TurnOn(Feature),
}

impl fmt::Display for TableStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Create { name } => write!(f, "table {name}"),
            Self::TurnOn(feature) => write!(f, "table: {feature}"),
        }
    }
}

/// What to do about the table, in this order.
pub(super) fn plan(name: &str, table: Option<&TableState>) -> Vec<TableStep> {
    let lacks =
        |pick: fn(&TableState) -> Setting| table.is_none_or(|table| pick(table) == Setting::Off);
    let create = TableStep::Create {
        name: name.to_owned(),
    };
    // A new table has its index from the start.
    let unlisted = table.is_some_and(|table| table.index == Setting::Off);
    [
        (table.is_none(), create),
        (unlisted, TableStep::TurnOn(Feature::Index)),
        (
            lacks(|table| table.expiry),
            TableStep::TurnOn(Feature::Expiry),
        ),
        (
            lacks(|table| table.recovery),
            TableStep::TurnOn(Feature::Recovery),
        ),
    ]
    .into_iter()
    .filter_map(|(wanted, step)| wanted.then_some(step))
    .collect()
}

/// Does one step.
pub(super) async fn apply(
    admin: &dyn TableAdmin,
    pool: &PoolName,
    step: &TableStep,
) -> Result<(), PortError> {
    match step {
        TableStep::Create { .. } => admin.create(pool).await,
        TableStep::TurnOn(feature) => admin.turn_on(*feature).await,
    }
}
