//! The log of calls that came through the front door.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;

/// One call, as it ended.
#[derive(Clone, Debug)]
pub struct Call {
    /// When it arrived.
    pub at: Timestamp,
    /// `dynamodb`, `sqs`, `ec2`, `sts`.
    pub service: String,
    /// Such as `CreateFleet`.
    pub action: String,
    /// The access key id that signed it.
    pub caller: String,
    /// The policy of `packaging/iam` that the caller is under, if any.
    pub role: Option<String>,
    /// The permissions that the call took, if the caller is under a policy and it allowed them.
    pub permissions: BTreeSet<String>,
    /// The HTTP status of the answer; 0 when the connection was cut.
    pub status: u16,
    /// How long the answer took, the front door's latency included.
    pub millis: u64,
}

impl Call {
    pub(super) fn took(elapsed: Duration) -> u64 {
        u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
    }
}
