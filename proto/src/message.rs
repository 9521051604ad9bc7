//! The hint in the queue that a machine is idle. The table is the truth.

use serde::{Deserialize, Serialize};

use crate::{
    ids::{ClassName, InstanceId},
    instance::{InstanceRecord, UsageClass},
    time::Time,
};

/// The version of this form of message.
pub const VERSION: u8 = 1;

/// One idle machine. A message may be late, doubled or stale: the conditional claim decides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PoolMessage {
    /// [`VERSION`].
    pub v: u8,
    /// The machine.
    pub id: InstanceId,
    /// Its class; the queue is the class's own.
    pub resource_class: ClassName,
    /// Such as `m6i.large`.
    pub instance_type: String,
    /// vCPU.
    pub cpu: u32,
    /// MiB that its class promises.
    pub mmem: u32,
    /// On demand or spot.
    pub usage_class: UsageClass,
    /// The launch template version that it was made from.
    pub template_version: i64,
    /// When it was listed.
    pub pooled_at: Time,
}

/// A message that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum InvalidMessage {
    /// Not JSON, or not of this form.
    #[error("no pool message")]
    Malformed(#[from] serde_json::Error),
    /// Written by another version of Paddock.
    #[error("pool message of version {0}, this controller reads version {VERSION}")]
    Version(u8),
}

impl PoolMessage {
    /// The message that lists an idle machine.
    pub fn of(record: &InstanceRecord, now: Time) -> Self {
        Self {
            v: VERSION,
            id: record.id().clone(),
            resource_class: record.resource_class.clone(),
            instance_type: record.instance_type.clone(),
            cpu: record.cpu,
            mmem: record.mmem,
            usage_class: record.usage_class,
            template_version: record.template_version,
            pooled_at: now,
        }
    }

    /// Reads a message's body.
    ///
    /// # Errors
    ///
    /// When it is no message of this version.
    pub fn parse(body: &str) -> Result<Self, InvalidMessage> {
        #[derive(Deserialize)]
        struct Versioned {
            v: u8,
        }
        let Versioned { v } = serde_json::from_str(body)?;
        if v != VERSION {
            return Err(InvalidMessage::Version(v));
        }
        Ok(serde_json::from_str(body)?)
    }

    /// The message's body.
    ///
    /// # Panics
    ///
    /// Never: texts and numbers are always JSON.
    pub fn body(&self) -> String {
        serde_json::to_string(self).expect("texts and numbers are always JSON")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message() -> PoolMessage {
        PoolMessage {
            v: VERSION,
            id: "i-0123456789abcdef0".parse().unwrap(),
            resource_class: "large".parse().unwrap(),
            instance_type: "m6i.large".into(),
            cpu: 2,
            mmem: 4096,
            usage_class: UsageClass::Spot,
            template_version: 3,
            pooled_at: Time::from_millis(0),
        }
    }

    #[test]
    fn reads_back() {
        assert_eq!(PoolMessage::parse(&message().body()).unwrap(), message());
    }

    #[test]
    fn what_is_no_message_is_named() {
        assert!(matches!(
            PoolMessage::parse("{}"),
            Err(InvalidMessage::Malformed(_))
        ));
        let foreign = message().body().replace("\"v\":1", "\"v\":9");
        assert!(matches!(
            PoolMessage::parse(&foreign),
            Err(InvalidMessage::Version(9))
        ));
        let hostile = message()
            .body()
            .replace("i-0123456789abcdef0", "i-1; rm -rf /");
        assert!(matches!(
            PoolMessage::parse(&hostile),
            Err(InvalidMessage::Malformed(_))
        ));
    }
}
