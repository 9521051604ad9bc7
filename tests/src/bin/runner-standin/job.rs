//! One job, as the listener sees it: a worker to start, watch, report and cancel.

use std::fs::{self, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tests::yard::github::wire::{Conclusion, Finish, JobMessage, Progress};
use tests::yard::machines::processes::Mark;
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, Command};

use crate::inputs::clean_environment;
use crate::listener::{Listener, Stop};
use crate::server::Failure;

/// How often the log is sent and the wish to cancel is asked for.
const REPORT: Duration = Duration::from_millis(200);

/// Attempts to tell GitHub how a job ended; GitHub gives up on the runner later than that.
const FINISH_ATTEMPTS: u32 = 20;

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
}

/// The worker's exit codes, as the official ones.
pub(crate) mod result {
    pub(crate) const SUCCEEDED: u8 = 100;
    pub(crate) const FAILED: u8 = 102;
    pub(crate) const CANCELED: u8 = 103;
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
        log: log.clone(),
    };
    let mut input = worker.stdin.take();
    if let Some(pipe) = &mut input {
        let line = format!("{}\n", serde_json::to_string(&order)?);
        pipe.write_all(line.as_bytes()).await?;
    }
    let mut tail = Tail { log: &log, sent: 0 };
    let mut stopped = false;
    let mut reports = tokio::time::interval(REPORT);
    let status = loop {
        tokio::select! {
            // All arms are cancel-safe: what did not happen in this turn
            // happens in a later one.
            status = worker.wait() => break status?,
            () = stop.requested() => {
                stopped = true;
                input = None;
            }
            _ = reports.tick() => {
                if report(listener, message, &mut tail).await {
                    input = None;
                }
            }
        }
    };
    drop(input);
    Mark::variable(TRACKING, &tracking).kill_all();
    let conclusion = conclusion(status);
    terminal.event(&format!(
        "Job {} completed with result: {}",
        message.name,
        match conclusion {
            Conclusion::Success => "Succeeded",
            Conclusion::Failure => "Failed",
            Conclusion::Cancelled => "Canceled",
        }
    ));
    finish(listener, message, conclusion, &mut tail).await;
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

fn conclusion(worker: ExitStatus) -> Conclusion {
    match worker.code().and_then(|code| u8::try_from(code).ok()) {
        Some(result::SUCCEEDED) => Conclusion::Success,
        Some(result::CANCELED) => Conclusion::Cancelled,
        // Failed, crashed or killed.
        Some(_) | None => Conclusion::Failure,
    }
}

/// Sends what is new in the log; answers whether the job is to be cancelled.
async fn report(listener: &Listener<'_>, message: &JobMessage, tail: &mut Tail<'_>) -> bool {
    let (log, end) = tail.next();
    let body = Progress {
        session_id: listener.session.clone(),
        log,
    };
    match listener.server.progress(message.job_id, &body).await {
        Ok(answer) => {
            tail.sent = end;
            answer.cancel
        }
        // The job is no longer ours.
        Err(Failure::Refused(..)) => true,
        Err(Failure::Trouble(_)) => false,
    }
}

async fn finish(
    listener: &Listener<'_>,
    message: &JobMessage,
    conclusion: Conclusion,
    tail: &mut Tail<'_>,
) {
    let body = Finish {
        session_id: listener.session.clone(),
        conclusion,
        log: tail.next().0,
    };
    for _ in 0..FINISH_ATTEMPTS {
        match listener.server.finish(message.job_id, &body).await {
            Ok(()) | Err(Failure::Refused(..)) => return,
            Err(Failure::Trouble(_)) => tokio::time::sleep(REPORT).await,
        }
    }
}

/// The part of a growing file that was not sent yet.
struct Tail<'a> {
    log: &'a Path,
    sent: u64,
}

impl Tail<'_> {
    /// The new text and where it ends.
    fn next(&self) -> (String, u64) {
        let mut bytes = Vec::new();
        let read = OpenOptions::new()
            .read(true)
            .open(self.log)
            .and_then(|mut file| {
                file.seek(SeekFrom::Start(self.sent))?;
                file.read_to_end(&mut bytes)
            });
        match read {
            Ok(count) => (
                String::from_utf8_lossy(&bytes).into_owned(),
                self.sent + count as u64,
            ),
            // Nothing was printed yet.
            Err(_) => (String::new(), self.sent),
        }
    }
}
