//! The yard: AWS, GitHub and machines on one computer, in one process.
//!
//! ```text
//!                 ┌───────────── Yard ──────────────┐
//!  controller ────┤ aws: DynamoDB, SQS, EC2         │
//!      │          │   │ launched, terminated        │
//!      │          │ machines ── imds ── agent       ├── real processes
//!      │          │                       │         │
//!      └──────────┤ github ────────── runner        │
//!                 └─────────────────────────────────┘
//! ```
//!
//! Controllers, agents, runners and jobs are real processes; only what they
//! talk to is played. Nothing survives the yard: see [`Yard::stop`].

pub mod aws;
pub mod clock;
mod faults;
pub mod github;
pub mod imds;
pub mod machines;
mod recorder;
mod wire;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use aws::Aws;
pub use faults::{Fault, FaultKind};
use github::GitHub;
use machines::processes::Mark;
use machines::watchdog::Watchdog;
use machines::{Cloud, Machines};
pub use recorder::Recorder;

/// What a yard is made of.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Time from the launch of a machine to the start of its agent.
    pub boot: Duration,
    /// Time that configuring a runner takes.
    pub configure: Duration,
    /// Time that deregistering a runner takes.
    pub deregister: Duration,
    /// The agent's program.
    pub agent_binary: PathBuf,
    /// The stand-in runner's program.
    pub runner_binary: PathBuf,
    /// AWS.
    pub aws: aws::Settings,
    /// GitHub; its `runner_binary` is filled in from the one above when empty.
    pub github: github::Settings,
    /// Machines are seen at EC2 alone: nothing of them runs.
    pub hollow: bool,
    /// Writes down what is said to AWS and GitHub; one that is off gives way to what the
    /// environment asks for.
    pub recorder: Recorder,
    /// Keep the world's folder even when nothing went wrong.
    pub keep: bool,
}

impl Settings {
    /// A quick world around these two programs.
    pub fn new(agent_binary: impl Into<PathBuf>, runner_binary: impl Into<PathBuf>) -> Self {
        Self {
            boot: Duration::ZERO,
            configure: Duration::ZERO,
            deregister: Duration::ZERO,
            agent_binary: agent_binary.into(),
            runner_binary: runner_binary.into(),
            aws: aws::Settings::default(),
            github: github::Settings::default(),
            hollow: false,
            recorder: Recorder::default(),
            keep: false,
        }
    }
}

/// A running world.
pub struct Yard {
    /// `DynamoDB`, SQS, EC2.
    pub aws: Aws,
    /// REST API, runner service, job queue.
    pub github: GitHub,
    /// The machines that EC2 launched.
    pub machines: Machines,
    region: String,
    folder: PathBuf,
    id: String,
    keep: bool,
    _watchdog: Watchdog,
}

impl std::fmt::Debug for Yard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Yard")
            .field("id", &self.id)
            .field("folder", &self.folder)
            .finish_non_exhaustive()
    }
}

impl Cloud for Aws {
    fn machine_running(&self, id: &str) {
        Aws::machine_running(self, id);
    }

    fn machine_stopped(&self, id: &str) {
        Aws::machine_stopped(self, id);
    }
}

impl Yard {
    /// Starts everything; nothing is launched yet.
    pub async fn start(mut settings: Settings) -> io::Result<Self> {
        let id = format!("w{:012x}", rand::random::<u64>() >> 16);
        let folder = worlds().join(&id);
        std::fs::create_dir_all(&folder)?;
        let watchdog = Watchdog::start(&id)?;
        let region = settings.aws.region.clone();
        if !settings.recorder.is_on() {
            settings.recorder = Recorder::from_environment(&id)?;
        }
        settings.aws.recorder = settings.recorder.clone();
        let (events, launched) = mpsc::unbounded_channel();
        let aws = Aws::start(settings.aws, events).await?;
        let mut github = settings.github;
        github.recorder = settings.recorder;
        github
            .runner_binary
            .get_or_insert_with(|| settings.runner_binary.clone());
        let github = GitHub::start(github).await?;
        let machines = Machines::start(
            machines::Settings {
                world: folder.clone(),
                world_id: id.clone(),
                aws_url: aws.url(),
                hollow: settings.hollow,
                boot: settings.boot,
                configure: settings.configure,
                deregister: settings.deregister,
                agent_binary: settings.agent_binary,
                runner_binary: settings.runner_binary,
            },
            Arc::new(aws.clone()),
            launched,
        );
        aws.manage(Arc::new(machines.clone()));
        Ok(Self {
            aws,
            github,
            machines,
            region,
            folder,
            id,
            keep: settings.keep,
            _watchdog: watchdog,
        })
    }

    /// The mark that all processes of this world carry: `PADDOCK_YARD_WORLD`.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Everything that this world keeps on disk.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Leaves the folder there at the end.
    pub fn keep(&mut self) {
        self.keep = true;
    }

    /// What a workflow step finds in its environment when it runs the controller.
    pub fn controller_env(&self, run_id: u64, repository: &str) -> Vec<(String, String)> {
        [
            ("AWS_ENDPOINT_URL", self.aws.url()),
            ("AWS_REGION", self.region.clone()),
            ("AWS_ACCESS_KEY_ID", "AKIAYARD".to_owned()),
            (
                "AWS_SECRET_ACCESS_KEY",
                "the-yard-does-not-check-signatures".to_owned(),
            ),
            ("GITHUB_API_URL", self.github.url()),
            ("GITHUB_SERVER_URL", self.github.url()),
            ("GITHUB_REPOSITORY", repository.to_owned()),
            ("GITHUB_RUN_ID", run_id.to_string()),
            ("GITHUB_RUN_ATTEMPT", "1".to_owned()),
            // Whatever the test starts with this belongs to the world and ends with it.
            ("PADDOCK_YARD_WORLD", self.id.clone()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
    }

    /// Ends the machines, then the services. The folder goes too, unless it is to be kept.
    pub async fn stop(self) {
        self.machines.stop().await;
        self.github.stop();
        self.aws.stop().await;
        // `drop` does the rest.
    }
}

/// Also when a test panics: no process survives, and then the folder stays for a look.
impl Drop for Yard {
    fn drop(&mut self) {
        self.machines.close();
        kill_world(&self.id);
        if self.keep || std::thread::panicking() || std::env::var_os("PADDOCK_YARD_KEEP").is_some()
        {
            eprintln!("the yard's files are in {}", self.folder.display());
        } else if let Err(error) = std::fs::remove_dir_all(&self.folder) {
            tracing::warn!(%error, folder = %self.folder.display(), "left behind");
        }
    }
}

/// Kills every process of a world, for the way out that no destructor sees.
pub fn kill_world(id: &str) {
    Mark::world(id).kill_all();
}

/// Where worlds live: in the build folder, which nobody misses.
fn worlds() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().unwrap_or(tests).join("target/yard")
}
