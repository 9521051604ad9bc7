//! What refresh made of the desired state, for provision and release to go by.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    agent_config::RunnerRelease,
    ids::ClassName,
    instance::{Secret, UsageClass},
    time::Time,
};

/// The version of the table's layout that this code reads and writes.
pub const SCHEMA_VERSION: u32 = 1;

/// How long an idle machine that is kept stays without another refresh, which runs at least hourly.
pub const KEPT: Duration = Duration::from_hours(1);

/// What the table itself is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Schema {
    /// The layout that the table was written in: [`SCHEMA_VERSION`].
    pub version: u32,
    /// The table's ARN: it names the partition, region and account of the pool's machines.
    pub table_arn: String,
    /// Where the pool's runners register: a pool serves one repository or organisation.
    pub github_url: String,
}

/// A named size of machine, with its queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ResourceClass {
    /// Such as `large`.
    pub name: ClassName,
    /// vCPU, exactly.
    pub cpu: u32,
    /// MiB of memory, at least.
    pub mmem: u32,
    /// The queue that lists its idle machines.
    pub queue_url: String,
}

/// A machine image, as far as what is made from it depends on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Image {
    /// `ami-…`
    pub id: String,
    /// The name of its root device, such as `/dev/xvda`.
    pub root_device: String,
    /// GiB of its root volume: what is made from it has no less.
    pub root_gib: u32,
}

/// The launch template that new machines are made from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LaunchTemplate {
    /// `lt-…`
    pub id: String,
    /// The version that fleets name.
    pub version: i64,
    /// SHA-256 over the content of that version, hexadecimal.
    pub content_hash: String,
    /// The runner program that its user data names, if it names one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runner: Option<RunnerRelease>,
    /// The image that it names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<Image>,
}

/// Subnets and times. All times are in seconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Parameters {
    /// Where machines are launched: one fleet override each.
    pub subnet_ids: Vec<String>,
    /// How long a machine may stay idle.
    pub idle_time_sec: u64,
    /// Whether the pool keeps some idle machines whatever their idle time.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub keeps_idle: bool,
    /// So many jobs at most run on a machine, if there is a limit: then it is not pooled again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_jobs: Option<u32>,
    /// A machine older than this is not pooled again, if there is a limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_age_sec: Option<u64>,
    /// How long a run may keep a machine, unless provision says otherwise.
    pub max_runtime_sec: u64,
    /// How long a claimed machine may take to register.
    pub claim_timeout_sec: u64,
    /// How long a launched fleet may take to register.
    pub fleet_timeout_sec: u64,
    /// How long a release waits for a machine.
    pub release_timeout_sec: u64,
    /// How old the last beat of a healthy machine may be.
    pub healthy_within_sec: u64,
    /// Whether commands publish metrics.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub metrics: bool,
}

impl Parameters {
    /// How long a machine may stay idle.
    pub fn idle_time(&self) -> Duration {
        Duration::from_secs(self.idle_time_sec)
    }

    /// How long a machine that comes back may stay unless refresh decides otherwise. One of a pool
    /// that keeps some may be needed: refresh ends those that are not when their idle time is over.
    pub fn stay(&self) -> Duration {
        if self.keeps_idle {
            self.idle_time().max(KEPT)
        } else {
            self.idle_time()
        }
    }

    /// How long a claimed machine may take to register.
    pub fn claim_timeout(&self) -> Duration {
        Duration::from_secs(self.claim_timeout_sec)
    }

    /// How long a launched fleet may take to register.
    pub fn fleet_timeout(&self) -> Duration {
        Duration::from_secs(self.fleet_timeout_sec)
    }

    /// How long a machine may stay `created`: two minutes more than its provision waits for it,
    /// so that the provision itself ends what it launched.
    pub fn created_timeout(&self) -> Duration {
        self.fleet_timeout() + Duration::from_mins(2)
    }

    /// How long a release waits for a machine.
    pub fn release_timeout(&self) -> Duration {
        Duration::from_secs(self.release_timeout_sec)
    }

    /// How old the last beat of a healthy machine may be.
    pub fn healthy_within(&self) -> Duration {
        Duration::from_secs(self.healthy_within_sec)
    }
}

/// GitHub's short-lived tokens, which refresh obtains and machines use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GithubTokens {
    /// Registers a runner.
    pub registration: Secret,
    /// Deregisters one.
    pub removal: Secret,
    /// When they were obtained.
    pub obtained_at: Time,
    /// When the first of them ends (GitHub: an hour later).
    pub expires_at: Time,
}

impl GithubTokens {
    /// Whether half of their life is over.
    pub fn is_half_over(&self, now: Time) -> bool {
        now.since(self.obtained_at) * 2 >= self.expires_at.since(self.obtained_at)
    }
}

/// The journal of refresh: who is at work, and what the next one has to know.
///
/// It is a lease too. Whoever writes it counts the revision up and says until when it works; the
/// table refuses a write that does not follow the last one. So a refresh that looked at the world
/// while another one changed it finds out before it does anything itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RefreshJournal {
    /// Grows by one at each write; 1 is the first.
    pub revision: u64,
    /// Tells one refresh from another.
    pub holder: String,
    /// When the holder began.
    pub since: Time,
    /// Until when nobody else may act; none once the holder is done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Time>,
    /// Kinds of machines whose floor could not be raised.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub floor: Vec<FloorTrouble>,
}

/// Machines of one kind that could not be launched for the floor: refresh lets some time pass
/// before it tries again, more after each failure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FloorTrouble {
    /// Their class.
    pub resource_class: ClassName,
    /// On demand or spot.
    pub usage_class: UsageClass,
    /// How often in a row.
    pub failures: u32,
    /// When the next try may be made.
    pub not_before: Time,
    /// Why the last one failed.
    pub why: String,
}

impl FloorTrouble {
    /// Whether it is about machines of this kind.
    pub fn is_of(&self, (class, usage): &(ClassName, UsageClass)) -> bool {
        self.resource_class == *class && self.usage_class == *usage
    }
}

impl RefreshJournal {
    /// Whether its holder is at work, as far as anybody can tell.
    pub fn is_held(&self, now: Time) -> bool {
        self.until.is_some_and(|until| until > now)
    }
}

/// One configuration item of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigItem {
    /// `schema`
    Schema(Schema),
    /// `launch-template`
    LaunchTemplate(LaunchTemplate),
    /// `resource-class#<name>`
    ResourceClass(ResourceClass),
    /// `parameters`
    Parameters(Parameters),
    /// `github-token`
    GithubTokens(GithubTokens),
}

/// All of the configuration, as far as it is there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// What the table itself is.
    pub schema: Option<Schema>,
    /// The launch template.
    pub launch_template: Option<LaunchTemplate>,
    /// The classes, by name.
    pub resource_classes: Vec<ResourceClass>,
    /// Subnets and times.
    pub parameters: Option<Parameters>,
    /// GitHub's tokens.
    pub github_tokens: Option<GithubTokens>,
    /// Refresh's journal; written by [`crate::table::Table::put_refresh`] alone.
    pub refresh: Option<RefreshJournal>,
}

impl Config {
    /// Takes one item in, in the place of its predecessor.
    pub fn put(&mut self, item: ConfigItem) {
        match item {
            ConfigItem::Schema(schema) => self.schema = Some(schema),
            ConfigItem::LaunchTemplate(template) => self.launch_template = Some(template),
            ConfigItem::ResourceClass(class) => {
                self.resource_classes
                    .retain(|known| known.name != class.name);
                self.resource_classes.push(class);
                self.resource_classes.sort_by(|a, b| a.name.cmp(&b.name));
            }
            ConfigItem::Parameters(parameters) => self.parameters = Some(parameters),
            ConfigItem::GithubTokens(tokens) => self.github_tokens = Some(tokens),
        }
    }

    /// The class of that name.
    pub fn class(&self, name: &ClassName) -> Option<&ResourceClass> {
        self.resource_classes
            .iter()
            .find(|class| class.name == *name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_renewed_before_half_of_their_life_is_over() {
        let tokens = GithubTokens {
            registration: Secret::new("a"),
            removal: Secret::new("b"),
            obtained_at: Time::from_millis(0),
            expires_at: Time::from_millis(3_600_000),
        };
        assert!(!tokens.is_half_over(Time::from_millis(1_799_999)));
        assert!(tokens.is_half_over(Time::from_millis(1_800_000)));
    }
}
