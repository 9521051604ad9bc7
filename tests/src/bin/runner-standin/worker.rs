//! `Runner.Worker`: the steps of one job, which it reports to GitHub itself.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::{ExitCode, ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tests::yard::github::wire::{Finish, Progress};
use tokio::io::{AsyncBufReadExt, BufReader, Lines, Stdin};
use tokio::process::{Child, Command};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::job::{Order, result};
use crate::server::Server;

/// How often the log is sent.
const REPORT: Duration = Duration::from_millis(200);

/// On cancel a step gets SIGINT, after this SIGTERM …
const INTERRUPT: Duration = Duration::from_millis(7500);

/// … and after this SIGKILL.
const TERMINATE: Duration = Duration::from_millis(2500);

enum Ended {
    Exited(ExitStatus),
    Canceled,
}

pub(crate) async fn main() -> ExitCode {
    // A signal to the whole process group is the listener's affair; it tells
    // the worker through the pipe. Without handlers both would die of it.
    let ignored = [
        tokio::signal::unix::SignalKind::interrupt(),
        tokio::signal::unix::SignalKind::terminate(),
    ]
    .map(tokio::signal::unix::signal);
    let code = match work().await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("worker: {error}");
            result::FAILED
        }
    };
    drop(ignored);
    code.into()
}

async fn work() -> io::Result<u8> {
    let mut input = BufReader::new(tokio::io::stdin()).lines();
    let Some(line) = input.next_line().await? else {
        return Ok(result::CANCELED);
    };
    let order: Order = serde_json::from_str(&line)?;
    let canceled = CancellationToken::new();
    tokio::spawn(watch(input, canceled.clone()));
    let server = Server::new(&order.server_url).map_err(|f| io::Error::other(f.to_string()))?;
    let (job_id, session_id) = (order.message.job_id, order.session.clone());
    let path = order.log.clone();
    let mut log = Tail {
        path: &path,
        sent: 0,
    };
    let mut job = Job::prepare(order, canceled)?;
    let over = CancellationToken::new();
    let run = async {
        let code = job.run().await;
        over.cancel();
        code
    };
    let report = async {
        while timeout(REPORT, over.cancelled()).await.is_err() {
            let (text, end) = log.next();
            let body = Progress {
                session_id: session_id.clone(),
                log: text,
            };
            if server.progress(job_id, &body).await.is_ok() {
                log.sent = end;
            }
        }
    };
    let (code, ()) = tokio::join!(run, report);
    let code = code?;
    if let Some(conclusion) = result::conclusion(code) {
        let body = Finish {
            session_id,
            conclusion,
            log: log.next().0,
        };
        server.finish_surely(job_id, &body).await;
    }
    Ok(code)
}

/// The part of a growing file that was not sent yet.
struct Tail<'a> {
    path: &'a Path,
    sent: u64,
}

impl Tail<'_> {
    /// The new text and where it ends.
    fn next(&self) -> (String, u64) {
        let mut bytes = Vec::new();
        let read = File::open(self.path).and_then(|mut file| {
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

/// Anything more on the input, its end included, means cancel.
async fn watch(mut input: Lines<BufReader<Stdin>>, canceled: CancellationToken) {
    let _ = input.next_line().await;
    canceled.cancel();
}

struct Job {
    order: Order,
    workspace: PathBuf,
    log: File,
    canceled: CancellationToken,
}

impl Job {
    fn prepare(order: Order, canceled: CancellationToken) -> io::Result<Self> {
        let repository = &order.message.repository;
        let name = repository.rsplit('/').next().unwrap_or(repository);
        let workspace = order.work.join(name).join(name);
        for folder in [
            &workspace,
            &order.work.join("_temp"),
            &order.work.join("_tool"),
        ] {
            fs::create_dir_all(folder)?;
        }
        let log = OpenOptions::new()
            .append(true)
            .create(true)
            .open(&order.log)?;
        Ok(Self {
            order,
            workspace,
            log,
            canceled,
        })
    }

    async fn run(&mut self) -> io::Result<u8> {
        let before = std::env::var("ACTIONS_RUNNER_HOOK_JOB_STARTED").ok();
        let after = std::env::var("ACTIONS_RUNNER_HOOK_JOB_COMPLETED").ok();
        let steps: Vec<String> = before
            .into_iter()
            .chain(self.order.message.steps.clone())
            .collect();
        let mut code = self.all(&steps).await?;
        // The last hook runs after a failure too.
        if let Some(hook) = after
            && self.all(&[hook]).await? != result::SUCCEEDED
            && code == result::SUCCEEDED
        {
            code = result::FAILED;
        }
        Ok(code)
    }

    async fn all(&mut self, steps: &[String]) -> io::Result<u8> {
        for step in steps {
            writeln!(self.log, "##[group]Run {step}\n##[endgroup]")?;
            match self.step(step).await? {
                Ended::Exited(status) if status.success() => {}
                Ended::Exited(status) => {
                    let code = status.code().unwrap_or(-1);
                    writeln!(
                        self.log,
                        "##[error]Process completed with exit code {code}."
                    )?;
                    return Ok(result::FAILED);
                }
                Ended::Canceled => {
                    writeln!(self.log, "##[error]The operation was canceled.")?;
                    return Ok(result::CANCELED);
                }
            }
        }
        Ok(result::SUCCEEDED)
    }

    async fn step(&self, step: &str) -> io::Result<Ended> {
        if self.canceled.is_cancelled() {
            return Ok(Ended::Canceled);
        }
        let message = &self.order.message;
        let temp = self.order.work.join("_temp");
        let mut shell = Command::new("bash")
            .args(["--noprofile", "--norc", "-e", "-o", "pipefail", "-c", step])
            .current_dir(&self.workspace)
            .env("CI", "true")
            .env("GITHUB_ACTIONS", "true")
            .env("GITHUB_RUN_ID", message.run_id.to_string())
            .env("GITHUB_RUN_ATTEMPT", "1")
            .env("GITHUB_REPOSITORY", &message.repository)
            .env("GITHUB_JOB", &message.name)
            .env("GITHUB_WORKSPACE", &self.workspace)
            .env("RUNNER_NAME", &self.order.runner_name)
            .env("RUNNER_OS", "Linux")
            .env("RUNNER_ARCH", "X64")
            .env("RUNNER_ENVIRONMENT", "self-hosted")
            .env("RUNNER_TEMP", temp)
            .env("RUNNER_TOOL_CACHE", self.order.work.join("_tool"))
            .env(
                "RUNNER_WORKSPACE",
                self.workspace.parent().unwrap_or(&self.workspace),
            )
            .envs(&message.env)
            .stdin(Stdio::null())
            .stdout(self.log.try_clone()?)
            .stderr(self.log.try_clone()?)
            .process_group(0)
            .spawn()?;
        tokio::select! {
            status = shell.wait() => Ok(Ended::Exited(status?)),
            () = self.canceled.cancelled() => {
                cancel(&mut shell).await?;
                Ok(Ended::Canceled)
            }
        }
    }
}

/// SIGINT, SIGTERM, SIGKILL, with GitHub's pauses.
async fn cancel(shell: &mut Child) -> io::Result<()> {
    let group = shell.id().and_then(|pid| i32::try_from(pid).ok());
    let send = |signal| {
        if let Some(group) = group {
            // Fails when the step just ended, which is what is wanted.
            let _ = killpg(Pid::from_raw(group), signal);
        }
    };
    for (signal, pause) in [(Signal::SIGINT, INTERRUPT), (Signal::SIGTERM, TERMINATE)] {
        send(signal);
        if timeout(pause, shell.wait()).await.is_ok() {
            return Ok(());
        }
    }
    send(Signal::SIGKILL);
    shell.wait().await.map(drop)
}
