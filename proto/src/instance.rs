//! The record of one machine: everything the pool knows of it, in one item under 1 KiB.
//!
//! Every field has one writer. A machine's role may write the agent's fields alone, so whoever
//! takes that role can lie about the machine, but not give it more time. What is written there and
//! cannot be read counts as not said: it must not hide the record.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Deserializer, Serialize, de::IgnoredAny};

use crate::{
    ids::{ClassName, Home, InstanceArn, InstanceId, Label},
    signal::{Report, Signal},
    state::State,
    time::Time,
};

/// How EC2 bills a machine, and whether it may take it away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UsageClass {
    /// Stays until it is terminated.
    OnDemand,
    /// Cheaper; EC2 takes it away with two minutes' notice.
    Spot,
}

impl UsageClass {
    /// The name as inputs and EC2 write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OnDemand => "on-demand",
            Self::Spot => "spot",
        }
    }
}

impl fmt::Display for UsageClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for UsageClass {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "on-demand" => Ok(Self::OnDemand),
            "spot" => Ok(Self::Spot),
            _ => Err("allowed: on-demand, spot".to_owned()),
        }
    }
}

/// A GitHub token on its way to one machine. `Debug` does not show it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Takes a secret into keeping.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The secret itself: for the one call that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// What the machine's runner program is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Runner {
    /// Version of the runner program, as it prints it.
    pub version: String,
    /// The name it is registered under at GitHub (`<instance id>-<generation>`), while it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// The job that the runner works on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Job {
    /// Its name, as the runner prints it.
    pub name: String,
    /// When the runner took it.
    pub since: Time,
}

/// Whether a machine may be handed out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Health {
    /// Whether it may.
    pub healthy: bool,
    /// Why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// One machine. Every field has one writer, named with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InstanceRecord {
    /// The key. Controller, once.
    #[serde(rename = "pk")]
    pub arn: InstanceArn,
    /// Controller.
    pub state: State,
    /// Whose machine it is. Controller.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<Label>,
    /// The instant after which it must not stay in its state; none once terminated. Controller.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threshold: Option<Time>,
    /// Grows by one at each transition. Controller.
    pub generation: u64,
    /// When the present state began. Controller.
    pub since: Time,
    /// When EC2 launched it. Controller, once.
    pub created_at: Time,
    /// Its resource class. Controller, once.
    pub resource_class: ClassName,
    /// Such as `m6i.large`. Controller, once.
    pub instance_type: String,
    /// Such as `us-east-1a`. Controller, once.
    pub zone: String,
    /// Controller, once.
    pub usage_class: UsageClass,
    /// vCPU. Controller, once.
    pub cpu: u32,
    /// MiB of memory that its class promises. Controller, once.
    pub mmem: u32,
    /// The version of the launch template that it was made from. Controller, once.
    pub template_version: i64,
    /// GitHub's token for the next registration or removal. The controller writes it with a
    /// claim or a release, the agent removes it once used.
    #[serde(
        default,
        deserialize_with = "if_readable",
        skip_serializing_if = "Option::is_none"
    )]
    pub token: Option<Secret>,
    /// Why it was terminated. Controller.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When DynamoDB may forget the record (seconds since 1970), once terminated. Controller.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<i64>,
    /// The last beat. Agent.
    #[serde(
        default,
        deserialize_with = "if_readable",
        skip_serializing_if = "Option::is_none"
    )]
    pub heartbeat: Option<Time>,
    /// The last signal. Agent.
    #[serde(
        default,
        deserialize_with = "if_readable",
        skip_serializing_if = "Option::is_none"
    )]
    pub report: Option<Report>,
    /// Agent.
    #[serde(
        default,
        deserialize_with = "if_readable",
        skip_serializing_if = "Option::is_none"
    )]
    pub runner: Option<Runner>,
    /// The job that runs. Agent.
    #[serde(
        default,
        deserialize_with = "if_readable",
        skip_serializing_if = "Option::is_none"
    )]
    pub job: Option<Job>,
    /// How many jobs ended on the machine. Agent.
    #[serde(default, deserialize_with = "if_readable")]
    pub jobs: u32,
    /// Agent.
    #[serde(
        default,
        deserialize_with = "if_readable",
        skip_serializing_if = "Option::is_none"
    )]
    pub health: Option<Health>,
}

/// What a machine's role may write, it may spoil.
fn if_readable<'de, T, D>(deserializer: D) -> Result<T, D::Error>
where
    T: Deserialize<'de> + Default,
    D: Deserializer<'de>,
{
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Said<T> {
        Readable(T),
        Spoiled(IgnoredAny),
    }
    Ok(match Said::deserialize(deserializer)? {
        Said::Readable(value) => value,
        Said::Spoiled(IgnoredAny) => T::default(),
    })
}

impl InstanceRecord {
    /// A `large` machine in its first generation with nothing reported, for tests to alter.
    #[doc(hidden)]
    pub fn example(state: State) -> Self {
        let home = Home {
            partition: "aws".into(),
            region: "us-east-1".into(),
            account: "123456789012".into(),
        };
        Self {
            arn: InstanceArn::new(&home, &"i-0123456789abcdef0".parse().expect("a valid id")),
            state,
            label: None,
            threshold: Some(Time::EPOCH + Duration::from_mins(1)),
            generation: 1,
            since: Time::EPOCH,
            created_at: Time::EPOCH,
            resource_class: "large".parse().expect("a valid name"),
            instance_type: "m6i.large".into(),
            zone: "us-east-1a".into(),
            usage_class: UsageClass::OnDemand,
            cpu: 2,
            mmem: 4096,
            template_version: 1,
            token: None,
            reason: None,
            expires_at: None,
            heartbeat: None,
            report: None,
            runner: None,
            job: None,
            jobs: 0,
            health: None,
        }
    }

    /// The instance's id.
    pub fn id(&self) -> &InstanceId {
        self.arn.id()
    }

    /// The signal of this very generation, if the agent gave one.
    pub fn fresh_report(&self) -> Option<&Report> {
        self.report
            .as_ref()
            .filter(|report| report.generation == self.generation)
    }

    /// Whether the agent said `signal` for this very generation.
    pub fn says(&self, signal: Signal) -> bool {
        self.fresh_report()
            .is_some_and(|report| report.signal == signal)
    }

    /// Whether it is idle and no job runs: a released machine is idle while its last job ends.
    pub fn is_free(&self) -> bool {
        self.state == State::Idle && self.job.is_none()
    }

    /// Whether the last beat is not older than `healthy_within`.
    pub fn beats(&self, now: Time, healthy_within: Duration) -> bool {
        self.heartbeat
            .is_some_and(|heartbeat| now.since(heartbeat) <= healthy_within)
    }

    /// Whether EC2 takes it away. Once said that holds for good, whichever generation it was said in.
    pub fn is_interrupted(&self) -> bool {
        self.report
            .as_ref()
            .is_some_and(|report| report.signal == Signal::Interrupted)
    }

    /// Why the machine must not be handed out, if so, by what it says of itself.
    pub fn unhealthy(&self) -> Option<&str> {
        self.health
            .as_ref()
            .filter(|health| !health.healthy)
            .map(|health| health.reason.as_deref().unwrap_or("no reason given"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_do_not_show() {
        assert_eq!(format!("{:?}", Secret::new("hush")), "Secret(…)");
    }

    #[test]
    fn what_a_machine_spoils_in_its_record_does_not_hide_it() {
        let whole = InstanceRecord {
            token: Some(Secret::new("t")),
            heartbeat: Some(Time::EPOCH),
            jobs: 3,
            ..InstanceRecord::example(State::Running)
        };
        let text = serde_json::to_value(&whole).unwrap();
        assert_eq!(serde_json::from_value(text.clone()).ok(), Some(whole));
        for spoiled in [serde_json::json!({"a": [1]}), 7.into(), "x".into()] {
            let mut text = text.clone();
            for field in ["token", "heartbeat", "report", "runner", "job", "health"] {
                text[field] = spoiled.clone();
            }
            text["jobs"] = "many".into();
            let read: InstanceRecord = serde_json::from_value(text).unwrap();
            assert_eq!((read.heartbeat, read.report, read.jobs), (None, None, 0));
            assert!(read.threshold.is_some());
        }
        let mut text = text;
        text["threshold"] = "soon".into();
        assert!(serde_json::from_value::<InstanceRecord>(text).is_err());
    }

    #[test]
    fn usage_classes_read_back() {
        for class in [UsageClass::OnDemand, UsageClass::Spot] {
            assert_eq!(class.as_str().parse(), Ok(class));
            assert_eq!(serde_json::to_value(class).unwrap(), class.as_str());
        }
        assert!("cheap".parse::<UsageClass>().is_err());
    }
}
