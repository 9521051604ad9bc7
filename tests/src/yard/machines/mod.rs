//! Machines that are folders and processes.
//!
//! A launch becomes a folder, an own metadata service and, after the boot time,
//! a real agent process with a clean environment, restarted when it ends as
//! systemd would do it. A machine ends by its own `poweroff` or from outside;
//! either way every process with its mark is killed and the cloud is told.

mod folder;
mod machine;
pub mod processes;
pub(crate) mod watchdog;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::BoxFuture;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::aws::{Launch, MachineEvent, Managed, Printed};
use super::github::Overdue;
use super::imds::Imds;

pub use machine::Phase;

use folder::Folder;
use machine::Machine;
use processes::Mark;

/// What machines report to.
pub trait Cloud: Send + Sync {
    /// The hardware is there.
    fn machine_running(&self, id: &str);
    /// The machine is off and nothing of it runs any more.
    fn machine_stopped(&self, id: &str);
}

/// What all machines of a world have in common.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The world's folder.
    pub world: PathBuf,
    /// The mark of every process.
    pub world_id: String,
    /// Where AWS is served.
    pub aws_url: String,
    /// Nothing of the machines runs.
    pub hollow: bool,
    /// Time from launch to the start of the first program.
    pub boot: Duration,
    /// Time that configuring a runner takes.
    pub configure: Duration,
    /// Time that deregistering a runner takes.
    pub deregister: Duration,
    /// The agent.
    pub agent_binary: PathBuf,
    /// The stand-in runner, baked into every image.
    pub runner_binary: PathBuf,
}

/// A machine as a test sees it.
#[derive(Clone, Debug)]
pub struct MachineView {
    /// `i-…`.
    pub id: String,
    /// Its disk.
    pub folder: PathBuf,
    /// Port of its metadata service.
    pub imds_port: u16,
    /// Where it stands.
    pub phase: Phase,
    /// Its first program, normally the agent, while that runs.
    pub pid: Option<u32>,
    /// How often the first program was started again.
    pub restarts: u32,
}

impl MachineView {
    /// Neither switched off nor terminated.
    pub fn alive(&self) -> bool {
        match self.phase {
            Phase::Booting | Phase::Up => true,
            Phase::PoweredOff | Phase::Terminated => false,
        }
    }
}

/// All machines of a world.
#[derive(Clone)]
pub struct Machines {
    shared: Arc<Shared>,
}

struct Shared {
    settings: Arc<Settings>,
    cloud: Arc<dyn Cloud>,
    machines: Mutex<BTreeMap<String, Arc<Machine>>>,
    changed: watch::Sender<()>,
    /// Parent of every machine's own order to end.
    closed: CancellationToken,
}

impl Machines {
    /// Launches and ends machines as `events` say, until that channel closes.
    pub fn start(
        settings: Settings,
        cloud: Arc<dyn Cloud>,
        mut events: UnboundedReceiver<MachineEvent>,
    ) -> Self {
        let machines = Self {
            shared: Arc::new(Shared {
                settings: Arc::new(settings),
                cloud,
                machines: Mutex::default(),
                changed: watch::Sender::new(()),
                closed: CancellationToken::new(),
            }),
        };
        let own = machines.clone();
        tokio::spawn(async move {
            while let Some(event) = events.recv().await {
                match event {
                    MachineEvent::Launched(launch) if own.shared.settings.hollow => {
                        own.shared.cloud.machine_running(&launch.id);
                    }
                    MachineEvent::Launched(launch) => {
                        let id = launch.id.clone();
                        if let Err(error) = own.launch(launch).await {
                            tracing::error!(machine = id, %error, "cannot build the machine");
                            own.shared.cloud.machine_stopped(&id);
                        }
                    }
                    MachineEvent::Terminated { id } => own.terminate(&id),
                }
            }
        });
        machines
    }

    async fn launch(&self, launch: Launch) -> io::Result<()> {
        let folder = Folder::create(&self.shared.settings, &launch)?;
        let imds = Imds::start(launch.clone()).await?;
        let machine = Machine::new(
            launch,
            folder,
            imds,
            self.shared.closed.child_token(),
            self.shared.changed.clone(),
        );
        self.lock()
            .insert(machine.launch.id.clone(), Arc::clone(&machine));
        self.shared.changed.send_replace(());
        tokio::spawn(machine.live(
            Arc::clone(&self.shared.settings),
            Arc::clone(&self.shared.cloud),
        ));
        Ok(())
    }

    fn terminate(&self, id: &str) {
        match self.find(id) {
            Some(machine) => machine.terminate.cancel(),
            // It was not built, so there is nothing to end.
            None => self.shared.cloud.machine_stopped(id),
        }
    }

    /// All machines ever launched, by id.
    pub fn list(&self) -> Vec<MachineView> {
        self.lock().values().map(|machine| view(machine)).collect()
    }

    /// One machine.
    pub fn get(&self, id: &str) -> Option<MachineView> {
        self.find(id).map(|machine| view(&machine))
    }

    /// Waits until `reached` says yes to the list of machines.
    pub async fn wait(
        &self,
        within: Duration,
        mut reached: impl FnMut(&[MachineView]) -> bool,
    ) -> Result<Vec<MachineView>, Overdue<Vec<MachineView>>> {
        let deadline = Instant::now() + within;
        let mut changes = self.shared.changed.subscribe();
        loop {
            changes.mark_unchanged();
            let machines = self.list();
            if reached(&machines) {
                return Ok(machines);
            }
            let rung = tokio::time::timeout_at(deadline.into(), changes.changed()).await;
            if rung.is_err() {
                return Err(Overdue(machines));
            }
        }
    }

    /// Sends a signal to the first program of a machine; `false` when it does not run.
    pub fn kill_agent(&self, id: &str, signal: Signal) -> bool {
        self.get(id)
            .and_then(|machine| i32::try_from(machine.pid?).ok())
            .is_some_and(|pid| kill(Pid::from_raw(pid), signal).is_ok())
    }

    /// AWS takes a spot machine away in two minutes: the notice appears.
    /// `false` when there is no such spot machine.
    pub fn interrupt_spot(&self, id: &str) -> bool {
        self.find(id)
            .is_some_and(|machine| machine.imds.interrupt_spot())
    }

    /// AWS may take a spot machine away soon: the recommendation appears.
    /// `false` when there is no such spot machine.
    pub fn rebalance(&self, id: &str) -> bool {
        self.find(id)
            .is_some_and(|machine| machine.imds.rebalance())
    }

    /// What the machine's programs printed so far.
    pub fn console(&self, id: &str) -> String {
        self.find(id)
            .and_then(|machine| std::fs::read(machine.folder.console()).ok())
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    /// Runs a script on a machine whose first program is up, as its SSM agent would.
    async fn script(&self, id: &str, script: &str) -> Option<Printed> {
        let machine = self
            .find(id)
            .filter(|machine| machine.pulse().phase == Phase::Up)?;
        let mut command = machine.folder.script(
            &self.shared.settings,
            &machine.launch,
            &machine.imds.url(),
            script,
        );
        let output = command.output().await.ok()?;
        Some(Printed {
            code: output.status.code().unwrap_or(-1),
            output: String::from_utf8_lossy(&output.stdout).into_owned(),
        })
    }

    /// The living processes of a machine.
    pub fn processes(&self, id: &str) -> Vec<Pid> {
        Mark::machine(id).processes()
    }

    /// From now on nothing is started any more, and what runs is ended.
    pub(crate) fn close(&self) {
        self.shared.closed.cancel();
    }

    /// Terminates all machines and waits until they are gone.
    pub async fn stop(&self) {
        self.close();
        let gone = self
            .wait(Duration::from_secs(20), |all| {
                !all.iter().any(MachineView::alive)
            })
            .await;
        if let Err(overdue) = gone {
            tracing::error!(%overdue, "machines that do not stop");
        }
    }

    fn find(&self, id: &str) -> Option<Arc<Machine>> {
        self.lock().get(id).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Machine>>> {
        self.shared
            .machines
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Managed for Machines {
    fn is_managed(&self, id: &str) -> bool {
        self.find(id)
            .is_some_and(|machine| machine.pulse().phase == Phase::Up)
    }

    fn run(&self, id: String, script: String) -> BoxFuture<'static, Option<Printed>> {
        let machines = self.clone();
        async move { machines.script(&id, &script).await }.boxed()
    }
}

/// A machine that is gone takes its kernel's memory along; this one's kernel is the yard's.
pub(crate) fn forget_control_group(id: &str) {
    let slice = format!("paddock_{}.slice", id.replace('-', ""));
    for root in ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"] {
        // There is none unless the agent could make one.
        let _ = std::fs::remove_dir(Path::new(root).join(&slice));
    }
}

fn view(machine: &Machine) -> MachineView {
    let pulse = machine.pulse();
    MachineView {
        id: machine.launch.id.clone(),
        folder: machine.folder.path().to_owned(),
        imds_port: machine.imds.port(),
        phase: pulse.phase,
        pid: pulse.pid,
        restarts: pulse.restarts,
    }
}
