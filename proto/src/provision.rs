//! The journal of one provision: written before each step that has an effect outside the table.
//!
//! Whoever finds an open journal whose beat stopped knows what to undo: the machines it names, and
//! those that a fleet request with its client token launched.

use std::{collections::BTreeMap, fmt, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    ids::{ClassName, InstanceId, Label, RunId},
    instance::UsageClass,
    time::Time,
};

/// A journal whose beat is older than this belongs to a controller that died. The controller
/// beats every few seconds, and GitHub kills a cancelled step within ten.
pub const DEAD_AFTER: Duration = Duration::from_mins(1);

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Request {
    /// How many machines.
    pub count: u32,
    /// Of which class.
    pub resource_class: ClassName,
    /// On demand or spot.
    pub usage_class: UsageClass,
    /// Instance types that will do, with `*` as a wildcard.
    pub allowed_instance_types: Vec<String>,
    /// How long the run may keep them, in seconds.
    pub max_runtime_sec: u64,
}

/// How far a provision came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Leases and claims idle machines, launches what is missing, waits until all are registered.
    Open,
    /// All machines run; the run may use them.
    Committed,
    /// Gives back and terminates what it had.
    RollingBack,
    /// Failed, and nothing of it is left.
    RolledBack,
    /// The run gave its machines back.
    Released,
}

impl Phase {
    /// Whether somebody must be at work on it: if nobody is, refresh takes over.
    pub fn is_open(self) -> bool {
        match self {
            Self::Open | Self::RollingBack => true,
            Self::Committed | Self::RolledBack | Self::Released => false,
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Open => "open",
            Self::Committed => "committed",
            Self::RollingBack => "rolling back",
            Self::RolledBack => "rolled back",
            Self::Released => "released",
        })
    }
}

/// The journal. Keyed by run and label; whoever writes it counts the revision up, and the table
/// refuses a write that does not follow the last one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProvisionRecord {
    /// The run.
    pub run: RunId,
    /// The label of its machines.
    pub label: Label,
    /// Grows by one at each write; 1 is the first.
    pub revision: u64,
    /// The attempt of the run that asked (GitHub counts re-runs from 1).
    #[serde(default = "first_attempt")]
    pub attempt: u32,
    /// The repository whose run it is, `owner/name`: an organisation's pool serves many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
    /// What was asked for.
    pub request: Request,
    /// How far it came.
    pub phase: Phase,
    /// The client token of its fleet request: repeated, it returns the same machines.
    pub client_token: String,
    /// Idle machines that it claimed.
    pub claimed: Vec<InstanceId>,
    /// Machines that it launched.
    pub launched: Vec<InstanceId>,
    /// Once committed: the generation in which the run has each of its machines.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub generations: BTreeMap<InstanceId, u64>,
    /// When it began.
    pub started_at: Time,
    /// When its controller last wrote it.
    pub beat: Time,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// When DynamoDB may forget it (seconds since 1970), once closed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<i64>,
}

/// Records of older controllers do not say.
fn first_attempt() -> u32 {
    1
}

impl ProvisionRecord {
    /// All its machines: claimed ones first.
    pub fn machines(&self) -> impl Iterator<Item = &InstanceId> {
        self.claimed.iter().chain(&self.launched)
    }

    /// All its machines, each with the generation in which the run has it. Candidates that were
    /// lost on the way have none, nor have machines of older controllers.
    pub fn lent(&self) -> Vec<(InstanceId, Option<u64>)> {
        self.machines()
            .map(|id| (id.clone(), self.generations.get(id).copied()))
            .collect()
    }

    /// Whether its controller has not been heard of for [`DEAD_AFTER`] while it was at work.
    pub fn is_orphaned(&self, now: Time) -> bool {
        self.phase.is_open() && now.since(self.beat) > DEAD_AFTER
    }

    /// The next revision, written at `now`.
    #[must_use]
    pub fn next(&self, now: Time) -> Self {
        Self {
            revision: self.revision + 1,
            beat: now,
            ..self.clone()
        }
    }
}
