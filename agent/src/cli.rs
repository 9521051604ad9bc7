//! The command line.

use std::{
    ffi::OsString,
    io::Write,
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
    drain, journal,
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
  paddock-agent status
  paddock-agent status --json
  paddock-agent drain
  journalctl -u paddock-agent";

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the daemon; systemd does
    Run(Settings),
    /// Shows what the running daemon is doing
    Status(StatusArgs),
    /// Lets this machine end its present run and take no new one
    Drain(DrainArgs),
    /// Prints the version
    Version,
}

/// Where things are on this machine.
#[derive(Clone, Debug, Args)]
pub struct Settings {
    /// Where the agent keeps what it must remember
    #[arg(long, env = "PADDOCK_STATE_DIR", default_value = DEFAULT_STATE)]
    pub state_dir: PathBuf,
    /// Where the runner program is
    #[arg(
        long,
        env = "PADDOCK_RUNNER_DIR",
        default_value = "/opt/paddock/runner"
    )]
    pub runner_dir: PathBuf,
    /// As whom jobs run; empty: as the agent's own user
    #[arg(long, env = "PADDOCK_RUNNER_USER", default_value = "runner")]
    pub runner_user: String,
    /// The program that switches the machine off
    #[arg(long, env = "PADDOCK_POWEROFF", default_value = crate::power::USUAL)]
    pub poweroff: PathBuf,
    /// Where Docker listens, if the pool's jobs need it
    #[arg(
        long,
        env = "PADDOCK_DOCKER_SOCKET",
        default_value = "/var/run/docker.sock"
    )]
    pub docker: PathBuf,
    /// The instance metadata service
    #[arg(
        long,
        env = "AWS_EC2_METADATA_SERVICE_ENDPOINT",
        default_value = crate::imds::USUAL
    )]
    pub metadata: String,
}

#[derive(Debug, Args)]
struct StatusArgs {
    /// Where the agent keeps what it must remember
    #[arg(long, env = "PADDOCK_STATE_DIR", default_value = DEFAULT_STATE)]
    state_dir: PathBuf,
    /// As one JSON object, for programs
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct DrainArgs {
    /// Where the agent keeps what it must remember
    #[arg(long, env = "PADDOCK_STATE_DIR", default_value = DEFAULT_STATE)]
    state_dir: PathBuf,
    /// Let it take new runs again
    #[arg(long)]
    undo: bool,
}

const DEFAULT_STATE: &str = "/var/lib/paddock";

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
    let Some(snapshot) = running(&args.state_dir)? else {
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

/// What the agent with this state folder says of itself; none, and said so, when none runs.
fn running(state_dir: &Path) -> Result<Option<Snapshot>, Cause> {
    let snapshot = StatusFile::of(state_dir)
        .read()
        .map_err(|error| chain(&error))?
        .filter(Snapshot::is_running);
    if snapshot.is_none() {
        let folder = state_dir.display();
        eprintln!("agent: no agent runs with the state folder {folder}");
    }
    Ok(snapshot)
}

fn drain(args: &DrainArgs) -> Result<u8, Cause> {
    let Some(snapshot) = running(&args.state_dir)? else {
        return Ok(EXIT_NOT_RUNNING);
    };
    let unknown =
        "the agent does not know yet which machine this is: try again, or see `agent status`";
    let instance = snapshot.instance.ok_or(unknown)?;
    drain::wish(&args.state_dir, instance.id(), !args.undo).map_err(|error| chain(&error))?;
    print(if args.undo {
        "this machine takes new runs again within seconds"
    } else {
        "this machine takes no new run; it is terminated after its present one, or when its idle time is over"
    })?;
    Ok(EXIT_WELL)
}

fn print(text: &str) -> Result<(), Cause> {
    writeln!(std::io::stdout(), "{text}").map_err(|error| chain(&error))
}
