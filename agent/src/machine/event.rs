//! What the machine hears and what it wants done.

use std::time::Duration;

use proto::{
    change::Change,
    ids::{InstanceId, Label},
    instance::{InstanceRecord, Job, Secret},
    time::Time,
};
use serde::{Deserialize, Serialize};

/// The present, by two clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// As the table and people tell time; may jump.
    pub wall: Time,
    /// Since the agent started; never jumps. Deadlines are counted by it.
    pub mono: Duration,
}

/// For whom the runner is registered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Tenant {
    /// The label that its jobs ask for.
    pub label: Label,
    /// The record's generation when the machine was given to it.
    pub generation: u64,
    /// The runner's name at GitHub: `<instance id>-<generation>`.
    pub name: String,
}

/// A listener process. The start time tells it from a later process with the same id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ListenerId {
    /// Its process id.
    pub pid: i32,
    /// When it started, in the kernel's ticks since the machine booted.
    pub started: u64,
}

/// What the agent must remember across its own restart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Saved {
    /// For whom.
    pub tenant: Tenant,
    /// The runner program's version: a later agent need not ask it, for a job may be using it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Whether the runner is configured, and so may listen.
    #[serde(default)]
    pub configured: bool,
    /// Whether GitHub may know the runner: from the first try to configure until a removal.
    #[serde(default = "perhaps")]
    pub registered: bool,
    /// Whether it said that it listens.
    #[serde(default)]
    pub listening: bool,
    /// The listener, while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listener: Option<ListenerId>,
    /// How much of the listener's output was understood.
    #[serde(default)]
    pub offset: u64,
    /// The job that runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<Job>,
    /// GitHub's registration token, for a runner that registers anew after each job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<Secret>,
}

impl Saved {
    /// A tenant of whom nothing is left but a listener that lives, registered under this name, which
    /// tells its generation; the label follows from that, once the record is seen.
    pub fn unremembered(instance: &InstanceId, name: String, listener: ListenerId) -> Option<Self> {
        let generation = name
            .strip_prefix(instance.as_str())
            .and_then(|rest| rest.strip_prefix('-'))
            .and_then(|number| number.parse().ok());
        Some(Self {
            tenant: Tenant {
                label: "0".parse().ok()?,
                generation: generation.unwrap_or_default(),
                name,
            },
            version: None,
            configured: true,
            registered: true,
            listening: false,
            listener: Some(listener),
            offset: 0,
            job: None,
            token: None,
        })
    }
}

/// To deregister once too often does no harm.
fn perhaps() -> bool {
    true
}

/// A line of the listener's output that means something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// `Listening for Jobs`
    Listening,
    /// `Running job: X`
    JobStarted(String),
    /// `Job X completed with result: Y`
    JobEnded,
}

/// How the listener ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It could not be started; why, stands in place of its last lines.
    NotStarted,
    /// With this exit code.
    Code(i32),
    /// By a signal, or unseen: it was started by an agent before this one.
    Unknown,
}

/// What EC2 announces of the machine's end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Notices {
    /// The instant at which EC2 takes this spot machine away, once that is settled.
    pub interruption: Option<Time>,
    /// EC2 expects to take this spot machine away before long.
    pub rebalance: bool,
}

/// How the machine is, as far as it can be seen from inside.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Vitals {
    /// The file systems that jobs write to.
    pub disks: Vec<Disk>,
    /// Bytes of memory that programs can still have, if that is known.
    pub memory: Option<u64>,
    /// How far the machine's clock is from AWS's.
    pub clock_off: Duration,
    /// Why Docker does not answer, if it is asked for and does not.
    pub docker: Option<String>,
    /// When the runner program was built, if its file tells.
    pub runner_built: Option<Time>,
    /// Whether the listener has a worker; none without a listener.
    pub worker: Option<bool>,
    /// An operator asked that this machine takes no new tenant.
    pub drained: bool,
    /// Why the agent cannot write what it has to remember, if so.
    pub forgetful: Option<String>,
    /// How long ago the listener last wrote anything; none without a listener.
    pub silent: Option<Duration>,
}

/// What is left of a file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    /// A folder on it.
    pub path: String,
    /// Bytes that are free.
    pub free: u64,
    /// Files that can still be made; none where there is no limit.
    pub files: Option<u64>,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Time passed.
    Tick,
    /// The table's answer to the one call under way; an error as people read it.
    Table(Result<Answer, String>),
    /// Boot is over: the runner program's version, or why it failed.
    Booted(Result<String, String>),
    /// `configure` ended.
    Configured(Result<(), String>),
    /// The listener runs.
    ListenerStarted(u64, ListenerId),
    /// The listener said something; its output is understood up to this offset.
    ListenerSaid(u64, Said, u64),
    /// The listener ended, in this way and with these last lines.
    ListenerEnded(u64, Ending, String),
    /// `remove` ended.
    Removed(Result<(), String>),
    /// The listener is stopped and the machine is clean, or not.
    Retired(Result<(), String>),
    /// How the machine is, or why that cannot be said.
    Examined(Result<Vitals, String>),
    /// EC2 announced something new.
    Noticed(Notices),
    /// The machine did not go off.
    PowerOffFailed(String),
}

/// What the table answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The record as it is now.
    pub record: Option<Box<InstanceRecord>>,
    /// Whether a change was applied; true for a look.
    pub applied: bool,
}

/// A call to the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// Reads the own record.
    Look,
    /// Changes it.
    Change(Change),
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Script and runner program; answers with [`Event::Booted`].
    Boot,
    /// One call to the table; answers with [`Event::Table`].
    Table(Call),
    /// Registers the runner; answers with [`Event::Configured`].
    Configure {
        /// For whom.
        tenant: Tenant,
        /// GitHub's registration token.
        token: Secret,
        /// How long it may take.
        within: Duration,
    },
    /// Starts the listener; everything that it says carries this number.
    Listen(u64),
    /// Finds a listener again that an earlier agent started, and reads on from the offset.
    Adopt(u64, ListenerId, u64),
    /// Deregisters the runner, whose idle listener is spared; answers with [`Event::Removed`].
    Remove(Secret, Option<ListenerId>),
    /// Keeps the listener from its next job. It ends at once if it has none; else at the first of
    /// these after its job.
    Dismiss(ListenerId),
    /// Stops the listener and cleans the machine; answers with [`Event::Retired`].
    Retire(Option<ListenerId>),
    /// Looks how the machine and this listener are; answers with [`Event::Examined`].
    Examine(Option<ListenerId>),
    /// Remembers this across restarts.
    Save(Option<Saved>),
    /// Switches the machine off, which terminates it.
    PowerOff(String),
}
