//! What the commands need of the world besides the table: a pool of hints, a cloud, a forge.
//!
//! Commands know these traits alone; [`crate::aws`] and [`crate::github`] are the real forms, and
//! only the wiring knows those.

use std::{collections::BTreeMap, time::Duration};

use async_trait::async_trait;
use proto::{
    config::Image,
    ids::{InstanceId, PoolName, RunId},
    instance::{Secret, UsageClass},
    message::PoolMessage,
    time::Time,
};

/// A call to a service failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation}")]
pub struct PortError {
    /// What was tried, as `receive messages from the queue`.
    pub operation: String,
    /// The service's own code, such as `UnauthorizedOperation`, if it gave one.
    pub code: Option<String>,
    /// The cause.
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

/// A message that is ours for a while. It comes back to others when the lease ends.
#[derive(Clone, Debug)]
pub struct Lease {
    /// The message, however often it is delivered.
    pub id: String,
    /// The raw body.
    pub body: String,
    /// What deletes the message or gives it back.
    pub handle: String,
}

/// SQS takes and gives so many messages a call.
pub const MESSAGES_A_CALL: usize = 10;

/// A queue as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueState {
    /// About how many messages it holds, leased ones included.
    pub messages: u64,
    /// The attributes that are not as they should be: name, value, and what it should be.
    pub odd: Vec<(String, String, String)>,
}

/// The queues that list idle machines.
#[async_trait]
pub trait Pool: Send + Sync {
    /// Leases up to `most` messages (one to [`MESSAGES_A_CALL`]) for `lease`, waiting up to `wait`
    /// (whole seconds, at most 20) for the first; none means that all servers were asked and had
    /// none.
    async fn receive(
        &self,
        queue_url: &str,
        most: usize,
        wait: Duration,
        lease: Duration,
    ) -> Result<Vec<Lease>, PortError>;

    /// Deletes leased messages: their machines are taken, or they are good for nothing.
    async fn delete(&self, queue_url: &str, handles: &[String]) -> Result<(), PortError>;

    /// Gives leased messages back at once. A lease that has ended already is no error.
    async fn give_back(&self, queue_url: &str, handles: &[String]) -> Result<(), PortError>;

    /// Lists idle machines.
    async fn send(&self, queue_url: &str, messages: &[PoolMessage]) -> Result<(), PortError>;

    /// Makes sure that there is a queue of this name with the right attributes; its URL.
    async fn ensure_queue(&self, name: &str) -> Result<String, PortError>;

    /// The queue as it is; none if there is no such queue.
    async fn queue(&self, queue_url: &str) -> Result<Option<QueueState>, PortError>;

    /// Deletes a queue. One that is gone is no error.
    async fn delete_queue(&self, queue_url: &str) -> Result<(), PortError>;
}

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

/// The root volume of new machines; it is always encrypted and goes with its machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RootVolume {
    /// GiB; none: as large as the image's.
    pub size_gib: Option<u32>,
    /// Such as `gp3`.
    pub kind: String,
}

/// What the launch template must hold. `I` is the image: as EC2 knows it, or as a user names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateContent<I = Image> {
    /// The image of new machines.
    pub image: I,
    /// Their root volume.
    pub root_volume: RootVolume,
    /// The name of the key pair that logs in to them, if any does.
    pub key_name: Option<String>,
    /// Name or ARN of the machines' instance profile.
    pub iam_instance_profile: String,
    /// `sg-…`
    pub security_group_ids: Vec<String>,
    /// User data, before base64.
    pub user_data: Vec<u8>,
    /// Tags of every machine made from it.
    pub tags: Vec<(String, String)>,
}

impl<I> TemplateContent<I> {
    /// The same with another image.
    pub fn with_image<J>(&self, image: J) -> TemplateContent<J> {
        TemplateContent {
            image,
            root_volume: self.root_volume.clone(),
            key_name: self.key_name.clone(),
            iam_instance_profile: self.iam_instance_profile.clone(),
            security_group_ids: self.security_group_ids.clone(),
            user_data: self.user_data.clone(),
            tags: self.tags.clone(),
        }
    }
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

/// The launch template as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateState {
    /// `lt-…`
    pub id: String,
    /// Its default version.
    pub version: i64,
    /// All versions, each with the content hash that it carries, if it carries one.
    pub versions: BTreeMap<i64, Option<String>>,
}

impl TemplateState {
    /// The hash that the default version carries.
    pub fn content_hash(&self) -> Option<&str> {
        self.versions.get(&self.version)?.as_deref()
    }

    /// The newest version with this content.
    pub fn version_with(&self, content_hash: &str) -> Option<i64> {
        let mut newest_first = self.versions.iter().rev();
        let found = newest_first.find(|(_, hash)| hash.as_deref() == Some(content_hash));
        found.map(|(version, _)| *version)
    }
}

/// How a program that was run on a machine ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The machine.
    pub machine: InstanceId,
    /// Such as `ended with 0`, or `TimedOut`.
    pub ending: String,
    /// What it printed.
    pub output: String,
}

/// Programs on machines.
#[async_trait]
pub trait Remote: Send + Sync {
    /// Has machines (at most 50) run a command document; the command's id. One machine that is not
    /// known (code `InvalidInstanceId`) fails the call for all.
    async fn send(&self, document: &str, machines: &[InstanceId]) -> Result<String, PortError>;

    /// The machines that are done with a command.
    async fn answers(&self, command: &str) -> Result<Vec<Answer>, PortError>;
}

/// A short-lived token of GitHub.
#[derive(Clone, Debug)]
pub struct RunnerToken {
    /// The token.
    pub token: Secret,
    /// When it ends.
    pub expires_at: Time,
}

/// A runner that is registered at GitHub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForgeRunner {
    /// Its number there.
    pub id: u64,
    /// Its name: `<instance id>-<generation>` for those of a pool.
    pub name: String,
    /// Whether its listener is there.
    pub online: bool,
    /// Whether it has a job, as far as GitHub's list knows.
    pub busy: bool,
}

impl ForgeRunner {
    /// The machine that it was registered by, if a pool's machine did.
    pub fn machine(&self) -> Option<InstanceId> {
        let (id, generation) = self.name.rsplit_once('-')?;
        generation.parse::<u64>().ok()?;
        id.parse().ok()
    }
}

/// What became of the wish to delete a runner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deleted {
    /// It is gone, now or already.
    Yes,
    /// It has a job, and stays.
    Busy,
}

/// Where a workflow run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunState {
    /// Its latest attempt is over.
    Over,
    /// It waits or runs.
    Active,
    /// GitHub does not know it, or does not tell.
    Unknown,
}

/// GitHub.
#[async_trait]
pub trait Forge: Send + Sync {
    /// A token that registers runners.
    async fn registration_token(&self) -> Result<RunnerToken, PortError>;

    /// A token that removes them.
    async fn removal_token(&self) -> Result<RunnerToken, PortError>;

    /// All runners of the repository or organisation, those of other pools too.
    async fn runners(&self) -> Result<Vec<ForgeRunner>, PortError>;

    /// Deletes a runner that has no job.
    async fn delete_runner(&self, id: u64) -> Result<Deleted, PortError>;

    /// Where a run stands. An organisation's runs are found by their `repository`, `owner/name`.
    async fn run(&self, repository: Option<&str>, run: &RunId) -> Result<RunState, PortError>;
}
