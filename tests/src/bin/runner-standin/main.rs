//! A stand-in for GitHub's official runner.
//!
//! It is installed as `bin/Runner.Listener` and `bin/Runner.Worker` of a
//! runner's folder and behaves, seen from outside, as those two do: commands,
//! options, files, printed lines, signals, exit codes. The name that it is
//! started under decides which of the two it is. It talks to the yard's GitHub.

mod configure;
mod exit;
mod home;
mod inputs;
mod job;
mod listener;
mod remove;
mod server;
mod terminal;
mod worker;

use std::path::Path;
use std::process::ExitCode;

use exit::Exit;
use home::Home;
use inputs::{Command, Inputs};
use terminal::Terminal;
use tests::yard::github::wire::RUNNER_VERSION;

fn main() -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("An error occurred: {error}");
            return Exit::Terminated.into();
        }
    };
    let code = runtime.block_on(either());
    // Waiting for the thread that reads standard input could take for ever.
    runtime.shutdown_background();
    code
}

async fn either() -> ExitCode {
    let mut arguments = std::env::args();
    let name = arguments.next().unwrap_or_default();
    if Path::new(&name)
        .file_name()
        .is_some_and(|n| n == "Runner.Worker")
    {
        return worker::main().await;
    }
    match listener_main(arguments.collect()).await {
        Ok(exit) => exit.into(),
        Err(error) => {
            eprintln!("An error occurred: {error}");
            Exit::Terminated.into()
        }
    }
}

async fn listener_main(arguments: Vec<String>) -> std::io::Result<Exit> {
    let inputs = Inputs::read(arguments, std::env::vars());
    if inputs.command == Command::Version {
        println!("{RUNNER_VERSION}");
        return Ok(Exit::Success);
    }
    let home = Home::of_executable()?;
    let terminal = Terminal::open(&home)?;
    if nix::unistd::Uid::effective().is_root()
        && std::env::var_os("RUNNER_ALLOW_RUNASROOT").is_none()
    {
        terminal.error("Must not run interactively with sudo");
        return Ok(Exit::Terminated);
    }
    match inputs.command {
        Command::Configure => configure::configure(&home, &terminal, &inputs).await,
        Command::Remove => remove::remove(&home, &terminal, &inputs).await,
        Command::Run => listener::run(&home, &terminal).await,
        Command::Warmup | Command::Version => Ok(Exit::Success),
        Command::Unknown(ref word) => {
            terminal.error(&format!(
                "Unrecognized command-line input arguments: '{word}'"
            ));
            Ok(Exit::Terminated)
        }
    }
}
