//! EC2: machines asked for, seen, and ended.

use std::time::Duration;

use async_trait::async_trait;
use proto::{
    config::{Image, ResourceClass},
    ids::{Home, InstanceArn, InstanceId, PoolName},
    instance::{InstanceRecord, UsageClass},
    state::State,
    time::Time,
};

use super::{PortError, TemplateContent, TemplateState};

/// How EC2 chooses among the instance types and subnets of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allocation {
    /// The least likely to be interrupted, then the cheapest; spot only.
    PriceCapacityOptimized,
    /// The least likely to be interrupted; spot only.
    CapacityOptimized,
    /// Spread over all of them; spot only.
    Diversified,
    /// The cheapest.
    LowestPrice,
}

impl Allocation {
    /// Those that there are for a usage class, its default first. (EC2's `prioritized` ones need
    /// priorities, which types found by their size do not have.)
    pub fn allowed(usage: UsageClass) -> &'static [Self] {
        match usage {
            UsageClass::OnDemand => &[Self::LowestPrice],
            UsageClass::Spot => &[
                Self::PriceCapacityOptimized,
                Self::CapacityOptimized,
                Self::Diversified,
                Self::LowestPrice,
            ],
        }
    }

    /// What a usage class gets when nobody chooses.
    pub fn default_of(usage: UsageClass) -> Self {
        match usage {
            UsageClass::OnDemand => Self::LowestPrice,
            UsageClass::Spot => Self::PriceCapacityOptimized,
        }
    }

    /// EC2's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PriceCapacityOptimized => "price-capacity-optimized",
            Self::CapacityOptimized => "capacity-optimized",
            Self::Diversified => "diversified",
            Self::LowestPrice => "lowest-price",
        }
    }
}

/// A request for new machines, all of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FleetRequest {
    /// Repeated with the same token, the request returns the same machines.
    pub client_token: String,
    /// How many.
    pub count: u32,
    /// `lt-…`
    pub template_id: String,
    /// The version of it.
    pub template_version: i64,
    /// One override each.
    pub subnet_ids: Vec<String>,
    /// vCPU, exactly.
    pub cpu: u32,
    /// MiB, at least.
    pub mmem: u32,
    /// With `*` as a wildcard.
    pub allowed_instance_types: Vec<String>,
    /// On demand or spot.
    pub usage_class: UsageClass,
    /// How EC2 chooses among the types and subnets.
    pub allocation: Allocation,
    /// USD an hour for one machine, at most; spot only.
    pub max_price: Option<String>,
    /// Tags of the fleet and of every instance.
    pub tags: Vec<(String, String)>,
}

/// A machine that a fleet request launched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launched {
    /// Its id.
    pub id: InstanceId,
    /// Such as `m6i.large`.
    pub instance_type: String,
    /// Such as `us-east-1a`; empty when EC2 does not say.
    pub zone: String,
}

impl Launched {
    /// Its first record: `created` at `now`, for `stay` at most, from this version of the launch
    /// template; nobody's yet.
    pub(crate) fn record(
        &self,
        home: &Home,
        class: &ResourceClass,
        usage: UsageClass,
        template_version: i64,
        now: Time,
        stay: Duration,
    ) -> InstanceRecord {
        InstanceRecord {
            arn: InstanceArn::new(home, &self.id),
            state: State::Created,
            label: None,
            threshold: Some(now + stay),
            generation: 1,
            since: now,
            created_at: now,
            resource_class: class.name.clone(),
            instance_type: self.instance_type.clone(),
            zone: self.zone.clone(),
            usage_class: usage,
            cpu: class.cpu,
            mmem: class.mmem,
            template_version,
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
}

/// Why a part of a fleet request was not met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FleetError {
    /// EC2's code, such as `InsufficientInstanceCapacity`.
    pub code: String,
    /// EC2's words.
    pub message: String,
    /// The subnet that it is about, if any.
    pub subnet_id: Option<String>,
}

/// What became of a fleet request: both lists may be non-empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FleetAnswer {
    /// The machines.
    pub launched: Vec<Launched>,
    /// The refusals.
    pub errors: Vec<FleetError>,
}

/// A machine as EC2 sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// Its id.
    pub id: InstanceId,
    /// Whether it is pending or running (or stopping and stopped, which costs too).
    pub alive: bool,
    /// When it was launched.
    pub launched_at: Time,
    /// The client token of the fleet request that launched it, as its tag `paddock:fleet` says.
    pub fleet: Option<String>,
}

/// What it means when EC2 does not know a machine that is to be terminated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unknown {
    /// It ended long ago: that is success.
    Gone,
    /// It was launched a moment ago, and EC2 is about to know it: the call is repeated for some
    /// seconds, and then the machine counts as not terminated.
    NotYet,
}

/// EC2.
#[async_trait]
pub trait Fleet: Send + Sync {
    /// Asks for machines: one synchronous request, answered with what was launched and why the
    /// rest was not.
    async fn launch(&self, request: &FleetRequest) -> Result<FleetAnswer, PortError>;

    /// Terminates machines: in batches, and one by one where a batch fails for the sake of one.
    /// Answers with those that could not be terminated.
    async fn terminate(
        &self,
        ids: &[InstanceId],
        unknown: Unknown,
    ) -> Result<Vec<(InstanceId, PortError)>, PortError>;

    /// Every machine that bears the pool's tag, as far as EC2 shows it.
    async fn machines(&self, pool: &PoolName) -> Result<Vec<Machine>, PortError>;

    /// The image of that id; none if there is no such image here.
    async fn image(&self, id: &str) -> Result<Option<Image>, PortError>;

    /// The launch template of that name with all its versions, if there is one.
    async fn template(&self, name: &str) -> Result<Option<TemplateState>, PortError>;

    /// Makes a version with this content the default one: the newest that has it, or a new one,
    /// with a new template if there is none.
    async fn put_template(
        &self,
        name: &str,
        content: &TemplateContent,
        content_hash: &str,
    ) -> Result<TemplateState, PortError>;

    /// Deletes versions of the launch template. One that is gone is no error.
    async fn delete_versions(&self, id: &str, versions: &[i64]) -> Result<(), PortError>;
}
