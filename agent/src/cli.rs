//! The command line.

use std::{
    ffi::OsString,
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Args, CommandFactory, Parser, Subcommand};
use proto::time::{Clock, SystemClock};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::Instant,
};

use crate::{
    drain,
    files::FileError,
    journal,
    ports::{Cause, chain},
    start::start,
    status::{Snapshot, StatusFile},
};

/// All is well.
pub const EXIT_WELL: u8 = 0;
/// The agent or its machine is not well; or the agent had to give up.
pub const EXIT_UNWELL: u8 = 1;
/// The command line makes no sense.
pub const EXIT_USAGE: u8 = 2;
/// No agent runs here.
pub const EXIT_NOT_RUNNING: u8 = 3;

/// Paddock's daemon on each machine.
#[derive(Debug, Parser)]
#[command(name = "agent", version, arg_required_else_help = true)]
#[command(after_help = HELP)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const HELP: &str = "\
Exit codes:
  0  well
  1  the agent or its machine is not well; the text says why
  2  the command line makes no sense
  3  no agent runs here

Examples:
  sudo paddock-agent status
  sudo paddock-agent drain
  journalctl -u paddock-agent";

const RUN_HELP: &str = "\
It serves the pool that the machine's user data names, and tells the journal what it does. A signal
ends it and harms no job: the next one finds the runner again.

Examples:
  systemctl restart paddock-agent
  paddock-agent run --state-dir /tmp/agent --run-dir /tmp/agent --runner-dir /tmp/runner";

const STATUS_HELP: &str = "\
It needs root, and nothing of AWS.

Examples:
  sudo paddock-agent status
  sudo paddock-agent status --json";

const DRAIN_HELP: &str = "\
It needs root. The machine is terminated after its present run, or when its idle time is over.

Examples:
  sudo paddock-agent drain
  sudo paddock-agent drain --undo";

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the daemon; systemd does
    #[command(after_help = RUN_HELP)]
    Run(Settings),
    /// Show what the running daemon is doing
    #[command(after_help = STATUS_HELP)]
    Status(StatusArgs),
    /// Let this machine end its present run and take no new one
    #[command(after_help = DRAIN_HELP)]
    Drain(DrainArgs),
    /// Print the version
    Version,
}

/// Where the daemon shows what it does: gone with the next boot.
#[derive(Clone, Debug, Args)]
pub struct RunFolder {
    /// Where the agent shows what it does
    #[arg(
        long,
        value_name = "FOLDER",
        env = "PADDOCK_RUN_DIR",
        hide_env_values = true,
        default_value = "/run/paddock"
    )]
    pub run_dir: PathBuf,
}

/// What the daemon must find again after a boot.
#[derive(Clone, Debug, Args)]
pub struct StateFolder {
    /// Where the agent keeps what it must remember
    #[arg(
        long,
        value_name = "FOLDER",
        env = "PADDOCK_STATE_DIR",
        hide_env_values = true,
        default_value = "/var/lib/paddock"
    )]
    pub state_dir: PathBuf,
}

/// Where things are on this machine.
#[derive(Clone, Debug, Args)]
pub struct Settings {
    /// As for `drain`.
    #[command(flatten)]
    pub state: StateFolder,
    /// As for the other commands.
    #[command(flatten)]
    pub run: RunFolder,
    /// Where the runner program is
    #[arg(
        long,
        value_name = "FOLDER",
        env = "PADDOCK_RUNNER_DIR",
        hide_env_values = true,
        default_value = "/opt/paddock/runner"
    )]
    pub runner_dir: PathBuf,
    /// As whom jobs run; empty: as the agent's own user
    #[arg(
        long,
        value_name = "USER",
        env = "PADDOCK_RUNNER_USER",
        hide_env_values = true,
        default_value = "runner"
    )]
    pub runner_user: String,
    /// The program that switches the machine off
    #[arg(
        long,
        value_name = "PROGRAM",
        env = "PADDOCK_POWEROFF",
        hide_env_values = true,
        default_value = crate::power::USUAL
    )]
    pub poweroff: PathBuf,
    /// Where Docker listens, if the pool's jobs need it
    #[arg(
        long,
        value_name = "SOCKET",
        env = "PADDOCK_DOCKER_SOCKET",
        hide_env_values = true,
        default_value = "/var/run/docker.sock"
    )]
    pub docker: PathBuf,
    /// The instance metadata service
    #[arg(
        long,
        value_name = "URL",
        env = "AWS_EC2_METADATA_SERVICE_ENDPOINT",
        hide_env_values = true,
        default_value = crate::imds::USUAL
    )]
    pub metadata: String,
}

#[derive(Debug, Args)]
struct StatusArgs {
    #[command(flatten)]
    run: RunFolder,
    /// As one JSON object, for programs
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct DrainArgs {
    #[command(flatten)]
    state: StateFolder,
    #[command(flatten)]
    run: RunFolder,
    /// Let it take new runs again
    #[arg(long)]
    undo: bool,
}

/// The command line, for its manual and its completions.
pub fn command() -> clap::Command {
    Cli::command()
}

/// Runs the program with these arguments.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // With nowhere to print to, the code still tells.
            let _ = error.print();
            let usage = error.use_stderr();
            return ExitCode::from(if usage { EXIT_USAGE } else { EXIT_WELL });
        }
    };
    let result = match cli.command {
        Command::Run(settings) => daemon(&settings).map(|()| EXIT_WELL),
        Command::Status(args) => show_status(&args),
        Command::Drain(args) => drain(&args),
        Command::Version => print(env!("CARGO_PKG_VERSION")).map(|()| EXIT_WELL),
    };
    ExitCode::from(result.unwrap_or_else(|cause| {
        eprintln!("agent: {cause}");
        EXIT_UNWELL
    }))
}

fn daemon(settings: &Settings) -> Result<(), Cause> {
    journal::begin();
    // Fails when there is one already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start: {error}"))?
        .block_on(async {
            let mut terminate = signal(SignalKind::terminate()).map_err(|error| chain(&error))?;
            let mut interrupt = signal(SignalKind::interrupt()).map_err(|error| chain(&error))?;
            let shutdown = async move {
                tokio::select! {
                    // Both are cancel-safe: a signal that was not delivered stays.
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
            };
            let settings = settings.clone();
            // A task of its own: the first one is woken by way of the kernel each time.
            tokio::spawn(async move { start(&settings, Instant::now(), shutdown).await })
                .await
                .map_err(|error| chain(&error))?
        })
}

fn show_status(args: &StatusArgs) -> Result<u8, Cause> {
    let Some(snapshot) = running(&args.run.run_dir)? else {
        return Ok(EXIT_NOT_RUNNING);
    };
    let now = SystemClock.now();
    if args.json {
        print(&serde_json::to_string_pretty(&snapshot).map_err(|error| chain(&error))?)?;
    } else {
        print(snapshot.text(now).trim_end())?;
    }
    Ok(match snapshot.ailment(now) {
        None => EXIT_WELL,
        Some(_) => EXIT_UNWELL,
    })
}

/// What is wrong with one of the agent's files, and what to do: the folder is root's alone.
fn cause(error: &FileError) -> Cause {
    let cause = chain(error);
    match error.kind() {
        io::ErrorKind::PermissionDenied => format!("{cause}: ask as root, with `sudo`"),
        _ => cause,
    }
}

/// What the agent with this folder says of itself; none, and said so, when none runs.
fn running(run_dir: &Path) -> Result<Option<Snapshot>, Cause> {
    let snapshot = StatusFile::of(run_dir)
        .read()
        .map_err(|error| cause(&error))?
        .filter(Snapshot::is_running);
    if snapshot.is_none() {
        let folder = run_dir.display();
        eprintln!(
            "agent: no agent runs that shows itself in {folder}: see `systemctl status paddock-agent`"
        );
    }
    Ok(snapshot)
}

fn drain(args: &DrainArgs) -> Result<u8, Cause> {
    let Some(snapshot) = running(&args.run.run_dir)? else {
        return Ok(EXIT_NOT_RUNNING);
    };
    let unknown =
        "the agent does not know yet which machine this is: try again, or see `agent status`";
    let instance = snapshot.instance.ok_or(unknown)?;
    drain::wish(&args.state.state_dir, instance.id(), !args.undo).map_err(|error| cause(&error))?;
    print(if args.undo {
        "this machine takes new runs again within seconds"
    } else {
        "this machine takes no new run; it is terminated after its present one, or when its idle time is over"
    })?;
    Ok(EXIT_WELL)
}

fn print(text: &str) -> Result<(), Cause> {
    writeln!(io::stdout(), "{text}").map_err(|error| chain(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_not_look_hears_how_to() {
        let trouble = |kind| {
            let path = Path::new("/run/paddock/status.json");
            cause(&FileError::of("read", path)(io::Error::from(kind)))
        };
        let denied = trouble(io::ErrorKind::PermissionDenied);
        assert!(denied.ends_with(": ask as root, with `sudo`"), "{denied}");
        let other = trouble(io::ErrorKind::StorageFull);
        assert!(!other.contains("sudo"), "{other}");
    }
}
