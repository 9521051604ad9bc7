//! What kind of AWS this one shall be.

use std::time::Duration;

use aws_sdk_sqs::config::Credentials;

use super::super::recorder::Recorder;
use super::capacity::Capacity;

/// The account, its region and how they behave.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The port to listen on; 0 takes a free one.
    pub port: u16,
    /// The only region there is.
    pub region: String,
    /// The only account there is.
    pub account: String,
    /// How much of what can be launched from the start; no entry, no limit.
    pub capacity: Vec<Capacity>,
    /// How many instances may live at once, the account's quota.
    pub quota: usize,
    /// What a spot machine costs, whichever: USD an hour.
    pub spot_price: f64,
    /// For how long the name of a deleted queue stays blocked.
    pub queue_name_blocked: Duration,
    /// For how long a new instance is unknown to `DescribeInstances` and `TerminateInstances`.
    pub instance_lag: Duration,
    /// Seeds what a standard queue may do to its readers: messages out of
    /// order, short polls that miss some, messages delivered twice. `None` is a
    /// queue on its best behaviour.
    pub queue_disorder: Option<u64>,
    /// Forward every call to this other stand-in for AWS and watch its
    /// instances, instead of serving from here. The region and the account
    /// here must be those over there.
    pub upstream: Option<String>,
    /// Whose requests the other stand-in gets; without them it gets the callers' own signatures,
    /// which are good for this address alone.
    pub upstream_credentials: Option<Credentials>,
    /// Watch the instances of this pool alone: the other stand-in has more to do.
    pub upstream_pool: Option<String>,
    /// Writes down what is said.
    pub recorder: Recorder,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            port: 0,
            region: "us-east-1".to_owned(),
            account: "123456789012".to_owned(),
            capacity: Vec::new(),
            quota: 500,
            spot_price: 0.04,
            queue_name_blocked: Duration::from_mins(1),
            instance_lag: Duration::ZERO,
            queue_disorder: None,
            upstream: None,
            upstream_credentials: None,
            upstream_pool: None,
            recorder: Recorder::default(),
        }
    }
}
