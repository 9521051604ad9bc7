//! The life of one machine: pending, booting, running its first program again
//! and again, until it powers off or is terminated.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::process::Child;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::folder::Folder;
use super::processes::Mark;
use super::{Cloud, Settings, forget_control_group};
use crate::yard::aws::Launch;
use crate::yard::imds::Imds;

/// What systemd's `RestartSec` defaults to.
const RESTART: Duration = Duration::from_millis(100);

/// How often the yard looks whether a machine switched itself off.
const LOOK: Duration = Duration::from_millis(20);

/// Where a machine stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Launched; no program runs yet.
    Booting,
    /// Its first program was started.
    Up,
    /// It switched itself off.
    PoweredOff,
    /// It was terminated from outside.
    Terminated,
}

/// What changes in a machine's life.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pulse {
    pub(super) phase: Phase,
    /// The first program, while it runs.
    pub(super) pid: Option<u32>,
    /// How often it was started again.
    pub(super) restarts: u32,
}

/// One machine, shared by its own task and the yard.
pub(super) struct Machine {
    pub(super) launch: Launch,
    pub(super) folder: Folder,
    pub(super) imds: Imds,
    pub(super) terminate: CancellationToken,
    pulse: Mutex<Pulse>,
    changed: watch::Sender<()>,
}

impl Machine {
    pub(super) fn new(
        launch: Launch,
        folder: Folder,
        imds: Imds,
        terminate: CancellationToken,
        changed: watch::Sender<()>,
    ) -> Arc<Self> {
        Arc::new(Self {
            launch,
            folder,
            imds,
            terminate,
            pulse: Mutex::new(Pulse {
                phase: Phase::Booting,
                pid: None,
                restarts: 0,
            }),
            changed,
        })
    }

    pub(super) fn pulse(&self) -> Pulse {
        *self.pulse.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, change: impl FnOnce(&mut Pulse)) {
        change(&mut self.pulse.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.send_replace(());
    }

    /// Lives, then leaves nothing behind.
    pub(super) async fn live(self: Arc<Self>, settings: Arc<Settings>, cloud: Arc<dyn Cloud>) {
        let last = tokio::select! {
            // In this order: nothing is started once the end was ordered.
            biased;
            // Dropping the other branches loses nothing: processes are found by their mark.
            () = self.terminate.cancelled() => Phase::Terminated,
            () = self.switched_off() => Phase::PoweredOff,
            error = self.up(&settings, &cloud) => {
                tracing::error!(machine = self.launch.id, %error, "cannot start the first program");
                Phase::Terminated
            }
        };
        let mark = Mark::machine(&self.launch.id);
        // Scanning /proc blocks; when the runtime is going down, the yard's end kills all.
        let _ = tokio::task::spawn_blocking(move || mark.kill_all()).await;
        forget_control_group(&self.launch.id);
        self.imds.stop();
        self.set(|pulse| {
            pulse.phase = last;
            pulse.pid = None;
        });
        cloud.machine_stopped(&self.launch.id);
    }

    async fn switched_off(&self) {
        let flag = self.folder.powered_off();
        let mut looks = tokio::time::interval(LOOK);
        while !flag.exists() {
            looks.tick().await;
        }
    }

    /// Boots and keeps the first program running; ends only when that is impossible.
    async fn up(&self, settings: &Settings, cloud: &Arc<dyn Cloud>) -> io::Error {
        // EC2 calls a machine running when its hardware is there; the
        // operating system takes the other half of the time.
        tokio::time::sleep(settings.boot / 2).await;
        cloud.machine_running(&self.launch.id);
        tokio::time::sleep(settings.boot / 2).await;
        loop {
            match self.start(settings) {
                Ok(mut program) => {
                    self.set(|pulse| {
                        pulse.phase = Phase::Up;
                        pulse.pid = program.id();
                    });
                    match program.wait().await {
                        Ok(status) => {
                            tracing::info!(machine = self.launch.id, %status, "first program ended");
                        }
                        Err(error) => return error,
                    }
                }
                Err(error) => return error,
            }
            self.set(|pulse| pulse.pid = None);
            tokio::time::sleep(RESTART).await;
            self.set(|pulse| pulse.restarts += 1);
        }
    }

    fn start(&self, settings: &Settings) -> io::Result<Child> {
        self.folder
            .first_program(settings, &self.launch, &self.imds.url())?
            .spawn()
    }
}
