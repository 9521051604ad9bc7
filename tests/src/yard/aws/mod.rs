//! AWS as Paddock sees it: DynamoDB, SQS, EC2, kept secrets and a little STS on
//! one loopback address.
//!
//! ```text
//!  SDK clients ──▶ door ──▶ sqs ───────── queues
//!                   │  └──▶ ec2 ───────── templates, fleets, instances
//!                   │  └──▶ DynamoDB ──── dynoxide, in memory
//!                   └─────▶ upstream ──── or all of it: another stand-in
//!
//!  ec2 / upstream ──▶ MachineEvent ──▶ the machines half of the yard
//! ```
//!
//! The [`door`] is the only server: it tells services apart, keeps the log of
//! calls, adds latency and injects faults. What stands behind it never sees
//! HTTP. An instance has no machine of its own: EC2 announces each launch as a
//! [`MachineEvent`], and whoever runs the machine reports back through
//! [`Aws::machine_running`] and [`Aws::machine_stopped`].

mod calls;
mod capacity;
mod catalogue;
pub mod cloudwatch;
mod door;
mod dynamodb;
mod ec2;
mod form;
mod forward;
pub mod iam;
mod iam_service;
mod secrets;
mod service;
mod settings;
mod sqs;
mod ssm;
mod sts;
mod upstream;
mod xml;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

pub use super::faults::{Fault, FaultKind};
pub use calls::Call;
pub use capacity::Capacity;
pub use ec2::{InstanceState, InstanceView};
pub use secrets::SecretKind;
pub use settings::Settings;
pub use ssm::{Managed, Printed};

use door::Door;

/// What the AWS half tells the machines half.
#[derive(Clone, Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "one event for each machine; no need to save a copy"
)]
pub enum MachineEvent {
    /// EC2 launched an instance: start its machine.
    Launched(Launch),
    /// `TerminateInstances` was called: the machine must die.
    Terminated {
        /// The instance's id.
        id: String,
    },
}

/// Everything a machine knows of itself at boot.
#[derive(Clone, Debug)]
pub struct Launch {
    /// `i-` and 17 hexadecimal digits.
    pub id: String,
    /// The instance's ARN.
    pub arn: String,
    /// Its region.
    pub region: String,
    /// The account that owns it.
    pub account: String,
    /// Its availability zone.
    pub zone: String,
    /// Its type, such as `c5.large`.
    pub instance_type: String,
    /// The image it boots from.
    pub image_id: String,
    /// Whether AWS may take it away.
    pub spot: bool,
    /// Decoded from base64, as IMDS gives it.
    pub user_data: Vec<u8>,
    /// The tags it was launched with.
    pub tags: BTreeMap<String, String>,
    /// Name or ARN of the instance profile.
    pub instance_profile: Option<String>,
}

/// A running AWS; cheap to clone. The last clone takes the servers with it.
#[derive(Clone)]
pub struct Aws {
    inner: Arc<Inner>,
}

struct Inner {
    url: String,
    door: Arc<Door>,
    shutdown: CancellationToken,
    tasks: TaskTracker,
    _guard: DropGuard,
}

impl fmt::Debug for Aws {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Aws");
        shown.field("url", &self.inner.url).finish_non_exhaustive()
    }
}

impl Aws {
    /// Binds a free port of the loopback interface and serves.
    pub async fn start(
        settings: Settings,
        events: UnboundedSender<MachineEvent>,
    ) -> io::Result<Self> {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", settings.port)).await?;
        let url = format!("http://{}", listener.local_addr()?);
        let shutdown = CancellationToken::new();
        let tasks = TaskTracker::new();
        let door = Door::open(&settings, &url, events, &shutdown, &tasks).await?;
        tasks.spawn(Arc::clone(&door).serve(listener, shutdown.clone()));
        tasks.close();
        Ok(Self {
            inner: Arc::new(Inner {
                url,
                door,
                _guard: shutdown.clone().drop_guard(),
                shutdown,
                tasks,
            }),
        })
    }

    /// The endpoint of every service, for `AWS_ENDPOINT_URL`.
    pub fn url(&self) -> String {
        self.inner.url.clone()
    }

    /// From now on Systems Manager reaches these machines.
    pub fn manage(&self, machines: Arc<dyn Managed>) {
        self.inner.door.backend().manage(machines);
    }

    /// The machine's process is up: `pending` becomes `running`.
    pub fn machine_running(&self, id: &str) {
        self.inner.door.backend().machine_running(id);
    }

    /// The machine powered itself off, or was killed: it becomes `terminated`.
    pub fn machine_stopped(&self, id: &str) {
        self.inner.door.backend().machine_stopped(id);
    }

    /// All instances that EC2 still shows, oldest first.
    pub fn instances(&self) -> Vec<InstanceView> {
        self.inner.door.backend().instances()
    }

    /// Limits how many more instances may be launched: of types that match
    /// `type_pattern`, in `zone` or in all zones together. `None` lifts the
    /// limit. A pattern may begin with a usage class: `spot/c5.*`.
    pub fn set_capacity(&self, type_pattern: &str, zone: Option<&str>, left: Option<u32>) {
        self.inner
            .door
            .backend()
            .set_capacity(type_pattern, zone, left);
    }

    /// Keeps a secret text, as an operator does before the first refresh; its ARN. None where
    /// another stand-in serves.
    pub fn keep_secret(&self, kind: SecretKind, name: &str, text: &str) -> Option<String> {
        self.inner.door.backend().keep_secret(kind, name, text)
    }

    /// Takes a permission away from everybody, as an organisation's policy would.
    pub fn forbid(&self, action: &str) {
        self.inner.door.forbid(action);
    }

    /// Gives a permission back that was taken away.
    pub fn permit(&self, action: &str) {
        self.inner.door.permit(action);
    }

    /// Attaches one more policy to the machines' role.
    ///
    /// # Errors
    ///
    /// When it has anything that is not understood here.
    pub fn attach_to_machines(&self, policy: &str) -> io::Result<()> {
        self.inner
            .door
            .attach(iam::Policy::parse(policy.as_bytes())?);
        Ok(())
    }

    /// The values that were published at CloudWatch.
    pub fn metrics(&self) -> Vec<cloudwatch::Value> {
        self.inner.door.backend().metrics()
    }

    /// Adds this much to each call, at the front door.
    pub fn set_latency(&self, latency: Duration) {
        self.inner.door.set_latency(latency);
    }

    /// Has it be so many seconds later at AWS than here; earlier, if negative.
    pub fn set_ahead(&self, seconds: i64) {
        self.inner.door.set_ahead(seconds);
    }

    /// The log of all calls, oldest first.
    pub fn calls(&self) -> Vec<Call> {
        self.inner.door.calls()
    }

    /// Lets the next matching calls go wrong.
    pub fn inject(&self, fault: Fault) {
        self.inner.door.inject(fault);
    }

    /// How many calls have gone wrong as a test asked.
    pub fn faults_met(&self) -> usize {
        self.inner.door.faults_met()
    }

    /// Closes the listeners, cuts what is under way and waits for the end.
    pub async fn stop(&self) {
        self.inner.shutdown.cancel();
        self.inner.tasks.wait().await;
    }
}
