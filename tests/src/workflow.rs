//! Workflow steps as GitHub runs them: the `controller` as a real process, its inputs in
//! `INPUT_…`, its outputs in a file.

mod terminal;

use std::{
    collections::BTreeMap,
    fs, io,
    path::PathBuf,
    process::Stdio,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::process::{Child, Command};

pub use self::terminal::Terminal;
use crate::{
    binaries::Binaries,
    yard::{Yard, aws::iam::session_of},
};

/// The repository whose workflows use the pool.
pub const REPOSITORY: &str = "acme/widgets";

/// Runs steps of workflows against a yard.
#[derive(Debug)]
pub struct Workflow<'a> {
    yard: &'a Yard,
    binaries: &'a Binaries,
    /// `github.run_id`
    pub run: u64,
    /// `github.run_attempt`
    pub attempt: u32,
    /// `github.repository`
    pub repository: String,
    /// What else stands in the steps' environment.
    pub environment: Vec<(String, String)>,
    /// Flags, as an operator at a terminal gives them.
    pub flags: Vec<String>,
}

/// What a step came to.
#[derive(Clone, Debug)]
pub struct Step {
    /// The exit code; 128 and the signal's number when one ended it.
    pub code: i32,
    /// Its log: stdout, then stderr.
    pub log: String,
    /// What it wrote to `GITHUB_OUTPUT`.
    pub outputs: BTreeMap<String, String>,
    /// What it wrote to `GITHUB_STEP_SUMMARY`.
    pub summary: String,
    /// From start to exit.
    pub took: Duration,
}

impl Step {
    /// The machines that it got.
    pub fn machines(&self) -> Vec<String> {
        let text = self
            .outputs
            .get("instance-ids")
            .map_or("[]", String::as_str);
        serde_json::from_str(text).unwrap_or_default()
    }

    /// A number among its outputs.
    pub fn number(&self, name: &str) -> Option<u32> {
        self.outputs.get(name)?.parse().ok()
    }
}

/// A step under way.
#[derive(Debug)]
pub struct Running {
    child: Child,
    files: [PathBuf; 2],
    began: Instant,
}

impl<'a> Workflow<'a> {
    /// The steps of one run.
    pub fn new(yard: &'a Yard, binaries: &'a Binaries, run: u64) -> Self {
        Self {
            yard,
            binaries,
            run,
            attempt: 1,
            repository: REPOSITORY.to_owned(),
            environment: Vec::new(),
            flags: Vec::new(),
        }
    }

    /// Starts a step.
    ///
    /// # Errors
    ///
    /// When the controller cannot be started.
    pub fn start(&self, mode: &str, inputs: &[(&str, &str)]) -> io::Result<Running> {
        let name = format!("{}-{mode}-{:08x}", self.run, rand::random::<u32>());
        let files =
            ["output", "summary"].map(|kind| self.yard.folder().join(format!("{name}.{kind}")));
        let mut command = self.command(mode, inputs);
        command
            .env("GITHUB_OUTPUT", &files[0])
            .env("GITHUB_STEP_SUMMARY", &files[1])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        Ok(Running {
            child: command.spawn()?,
            files,
            began: Instant::now(),
        })
    }

    /// Starts a command as somebody at a terminal does: outside of any workflow's step.
    ///
    /// # Errors
    ///
    /// When there is no terminal, or the controller cannot be started.
    pub fn at_terminal(&self, mode: &str, inputs: &[(&str, &str)]) -> io::Result<Terminal> {
        Terminal::start(self.command(mode, inputs))
    }

    fn command(&self, mode: &str, inputs: &[(&str, &str)]) -> Command {
        let mut command = Command::new(&self.binaries.controller);
        command
            .args(&self.flags)
            .env_clear()
            .envs(self.yard.controller_env(self.run, &self.repository))
            .envs(self.environment.iter().cloned())
            .env("GITHUB_RUN_ATTEMPT", self.attempt.to_string())
            .env("INPUT_MODE", mode)
            // Its credentials are those of a role that may do what this command does.
            .env("AWS_SESSION_TOKEN", session_of(mode))
            .kill_on_drop(true);
        if let Ok(filter) = std::env::var("RUST_LOG") {
            command.env("RUST_LOG", filter);
        }
        for (name, value) in inputs {
            command.env(format!("INPUT_{}", name.to_uppercase()), value);
        }
        command
    }

    /// Runs a step to its end.
    ///
    /// # Errors
    ///
    /// When the controller cannot be started or waited for.
    pub async fn step(&self, mode: &str, inputs: &[(&str, &str)]) -> io::Result<Step> {
        self.start(mode, inputs)?.finish().await
    }
}

impl Running {
    /// The controller's process id, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Sends it a signal, as GitHub does to cancel it.
    ///
    /// # Errors
    ///
    /// When it has ended already.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        let pid = self.pid().ok_or(io::ErrorKind::NotFound)?;
        kill(Pid::from_raw(pid.cast_signed()), signal)?;
        Ok(())
    }

    /// Waits for its end.
    ///
    /// # Errors
    ///
    /// When it cannot be waited for.
    pub async fn finish(self) -> io::Result<Step> {
        use std::os::unix::process::ExitStatusExt;

        let output = self.child.wait_with_output().await?;
        let [outputs, summary] = self
            .files
            .map(|path| fs::read_to_string(path).unwrap_or_default());
        let status = output.status;
        Ok(Step {
            code: status
                .code()
                .or(status.signal().map(|signal| 128 + signal))
                .unwrap_or(-1),
            log: [output.stdout, output.stderr]
                .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
                .concat(),
            outputs: outputs
                .lines()
                .filter_map(|line| line.split_once('='))
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
            summary,
            took: self.began.elapsed(),
        })
    }
}
