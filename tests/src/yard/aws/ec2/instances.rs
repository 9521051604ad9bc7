//! Instances and their life.
//!
//! ```text
//! pending ──machine runs──▶ running ──TerminateInstances──▶ shutting-down ──machine stops──▶ terminated
//!    │                         └────────────machine stops──────────────────────────────────────▲
//!    └──TerminateInstances─────────────────────────────────────────────────────────────────────┘
//! ```

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::super::super::clock;
use super::super::catalogue::InstanceType;
use super::network::Subnet;

/// How long a terminated instance stays visible.
const REMEMBERED: Duration = Duration::from_hours(1);

/// Where an instance stands in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InstanceState {
    /// Launched; its machine is not up yet.
    Pending,
    /// Its machine is up.
    Running,
    /// Told to terminate; its machine is still up.
    ShuttingDown,
    /// Gone; visible for another hour.
    Terminated,
}

impl InstanceState {
    /// EC2's name for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::ShuttingDown => "shutting-down",
            Self::Terminated => "terminated",
        }
    }

    /// EC2's number for it.
    pub(super) fn code(self) -> u8 {
        match self {
            Self::Pending => 0,
            Self::Running => 16,
            Self::ShuttingDown => 32,
            Self::Terminated => 48,
        }
    }

    /// Whether it is there to stay, and so counts against the quota.
    pub fn is_alive(self) -> bool {
        match self {
            Self::Pending | Self::Running => true,
            Self::ShuttingDown | Self::Terminated => false,
        }
    }
}

/// An instance as a test sees it.
#[derive(Clone, Debug)]
pub struct InstanceView {
    /// Its id.
    pub id: String,
    /// Where it stands in its life.
    pub state: InstanceState,
    /// Its type, such as `c5.large`.
    pub instance_type: String,
    /// Its availability zone.
    pub zone: String,
    /// Whether AWS may take it away.
    pub spot: bool,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
}

impl InstanceView {
    /// Whether it is pending or running.
    pub fn alive(&self) -> bool {
        self.state.is_alive()
    }
}

/// How an instance was asked for.
#[derive(Clone, Debug)]
pub(super) struct Blueprint {
    pub(super) image: String,
    pub(super) user_data: Vec<u8>,
    pub(super) profile: Option<String>,
    /// Ids and names.
    pub(super) groups: Vec<(String, String)>,
    pub(super) key_name: Option<String>,
    pub(super) client_token: Option<String>,
}

/// An instance.
#[derive(Clone, Debug)]
pub(super) struct Instance {
    pub(super) id: String,
    pub(super) reservation: String,
    /// Grows from launch to launch.
    pub(super) sequence: u64,
    pub(super) state: InstanceState,
    pub(super) kind: &'static InstanceType,
    pub(super) subnet: Subnet,
    pub(super) spot: bool,
    pub(super) launched: Timestamp,
    pub(super) blueprint: Blueprint,
    /// Why it is going or gone.
    pub(super) reason: Option<&'static str>,
    visible_at: Instant,
    ended_at: Option<Instant>,
}

/// All instances that are still remembered, in the order of their launch.
#[derive(Debug, Default)]
pub(super) struct Instances {
    all: Vec<Instance>,
    launched: u64,
}

impl Instances {
    pub(super) fn add(
        &mut self,
        kind: &'static InstanceType,
        subnet: Subnet,
        spot: bool,
        blueprint: Blueprint,
        reservation: &str,
        lag: Duration,
    ) -> &Instance {
        self.launched += 1;
        let at = self.all.len();
        self.all.push(Instance {
            id: super::new_id("i"),
            reservation: reservation.to_owned(),
            sequence: self.launched,
            state: InstanceState::Pending,
            kind,
            subnet,
            spot,
            launched: clock::now(),
            blueprint,
            reason: None,
            visible_at: Instant::now() + lag,
            ended_at: None,
        });
        &self.all[at]
    }

    /// Those that a caller can see by now.
    pub(super) fn visible(&self) -> impl Iterator<Item = &Instance> {
        let now = Instant::now();
        self.all
            .iter()
            .filter(move |instance| instance.visible_at <= now)
    }

    /// All of them, even those that a caller cannot see yet.
    pub(super) fn all(&self) -> &[Instance] {
        &self.all
    }

    pub(super) fn find(&self, id: &str) -> Option<&Instance> {
        self.all.iter().find(|instance| instance.id == id)
    }

    /// How many count against the quota.
    pub(super) fn alive(&self) -> usize {
        self.all
            .iter()
            .filter(|instance| instance.state.is_alive())
            .count()
    }

    pub(super) fn machine_running(&mut self, id: &str) {
        if let Some(instance) = self.find_mut(id)
            && instance.state == InstanceState::Pending
        {
            instance.state = InstanceState::Running;
        }
    }

    pub(super) fn machine_stopped(&mut self, id: &str) {
        if let Some(instance) = self.find_mut(id) {
            instance.end("Client.InstanceInitiatedShutdown");
        }
    }

    /// Tells an instance to terminate and returns its state before.
    pub(super) fn terminate(&mut self, id: &str) -> Option<InstanceState> {
        let instance = self.find_mut(id)?;
        let before = instance.state;
        match before {
            InstanceState::Pending => instance.end("Client.UserInitiatedShutdown"),
            InstanceState::Running => {
                instance.state = InstanceState::ShuttingDown;
                instance.reason = Some("Client.UserInitiatedShutdown");
            }
            InstanceState::ShuttingDown | InstanceState::Terminated => {}
        }
        Some(before)
    }

    /// Drops those that ended long ago and returns their ids.
    pub(super) fn forget(&mut self) -> Vec<String> {
        let now = Instant::now();
        let (gone, kept) = std::mem::take(&mut self.all)
            .into_iter()
            .partition(|instance| instance.ended_at.is_some_and(|at| at + REMEMBERED <= now));
        self.all = kept;
        let gone: Vec<Instance> = gone;
        gone.into_iter().map(|instance| instance.id).collect()
    }

    fn find_mut(&mut self, id: &str) -> Option<&mut Instance> {
        self.all.iter_mut().find(|instance| instance.id == id)
    }
}

impl Instance {
    fn end(&mut self, reason: &'static str) {
        self.state = InstanceState::Terminated;
        self.reason.get_or_insert(reason);
        self.ended_at.get_or_insert_with(Instant::now);
    }
}

/// EC2's name for a usage class.
pub(super) fn lifecycle(spot: bool) -> &'static str {
    if spot { "spot" } else { "on-demand" }
}
