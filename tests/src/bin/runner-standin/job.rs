//! One job, as the listener sees it: a worker to start, watch and cancel. The worker itself tells
//! GitHub how the job goes and ends.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tests::yard::github::wire::{Conclusion, Finish, JobMessage, Progress};
use tests::yard::machines::processes::Mark;
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, Command};

use crate::inputs::clean_environment;
use crate::listener::{Listener, Stop};
use crate::server::Failure;

/// How often the wish to cancel is asked for.
const ASK: Duration = Duration::from_millis(200);

/// The variable by which everything that a job started is found at its end.
const TRACKING: &str = "RUNNER_TRACKING_ID";

/// First line on the worker's standard input. A second line, or the end of the
/// input, means cancel.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) message: JobMessage,
    pub(crate) runner_name: String,
    /// The runner's work folder.
    pub(crate) work: PathBuf,
    /// Where the steps print to.
    pub(crate) log: PathBuf,
    /// GitHub, as the runner was told of it.
    pub(crate) server_url: String,
    /// The session that the job was taken in.
    pub(crate) session: String,
}

/// The worker's exit codes, as the official ones.
pub(crate) mod result {
    use tests::yard::github::wire::Conclusion;

    pub(crate) const SUCCEEDED: u8 = 100;
    pub(crate) const FAILED: u8 = 102;
    pub(crate) const CANCELED: u8 = 103;

    /// None for what no worker that came to its end exits with.
    pub(crate) fn conclusion(code: u8) -> Option<Conclusion> {
        match code {
            SUCCEEDED => Some(Conclusion::Success),
            FAILED => Some(Conclusion::Failure),
            CANCELED => Some(Conclusion::Cancelled),
            _ => None,
        }
    }
}

/// Answers whether a signal asked the listener to stop meanwhile.
pub(crate) async fn run(
    listener: &Listener<'_>,
    message: &JobMessage,
    stop: &mut Stop,
) -> io::Result<bool> {
    let terminal = listener.terminal;
    terminal.event(&format!("Running job: {}", message.name));
    let tracking = format!("github_{}_{}", listener.session, message.job_id);
    let log = listener
        .home
        .path(&format!("_diag/pages/{}.log", message.job_id));
    if let Some(folder) = log.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut worker = spawn(listener, &tracking)?;
    let order = Order {
        message: message.clone(),
        runner_name: listener.registration.agent_name.clone(),
        work: listener.home.path(&listener.registration.work_folder),
        log,
        server_url: listener.registration.server_url.clone(),
        session: listener.session.clone(),
    };
    let mut input = worker.stdin.take();
    if let Some(pipe) = &mut input {
        let line = format!("{}\n", serde_json::to_string(&order)?);
        pipe.write_all(line.as_bytes()).await?;
    }
    let mut stopped = false;
    let mut asks = tokio::time::interval(ASK);
    let status = loop {
        tokio::select! {
            // All arms are cancel-safe: what did not happen in this turn
            // happens in a later one.
            status = worker.wait() => break status?,
            () = stop.requested() => {
                stopped = true;
                input = None;
            }
            _ = asks.tick() => {
                if is_to_cancel(listener, message).await {
                    input = None;
                }
            }
        }
    };
    drop(input);
    Mark::variable(TRACKING, &tracking).kill_all();
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    let concluded = code.and_then(result::conclusion);
    let conclusion = concluded.unwrap_or(Conclusion::Failure);
    terminal.event(&format!(
        "Job {} completed with result: {}",
        message.name,
        match conclusion {
            Conclusion::Success => "Succeeded",
            Conclusion::Failure => "Failed",
            Conclusion::Cancelled => "Canceled",
        }
    ));
    if concluded.is_none() {
        // It crashed or was killed.
        let body = Finish {
            session_id: listener.session.clone(),
            conclusion,
            log: String::new(),
        };
        listener.server.finish_surely(message.job_id, &body).await;
    }
    Ok(stopped)
}

fn spawn(listener: &Listener<'_>, tracking: &str) -> io::Result<Child> {
    Command::new(listener.home.path("bin/Runner.Worker"))
        .args(["spawnclient", "0", "1"])
        .env_clear()
        .envs(clean_environment())
        .envs(listener.home.dot_env())
        .env(TRACKING, tracking)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
}

async fn is_to_cancel(listener: &Listener<'_>, message: &JobMessage) -> bool {
    let body = Progress {
        session_id: listener.session.clone(),
        log: String::new(),
    };
    match listener.server.progress(message.job_id, &body).await {
        Ok(answer) => answer.cancel,
        // The job is no longer ours.
        Err(Failure::Refused(..)) => true,
        Err(Failure::Trouble(_)) => false,
    }
}
