//! Programs that the agent starts and waits for.

use std::{
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom},
    path::Path,
    process::Stdio,
    time::Duration,
};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use proto::time::human;
use tokio::process::Command;

use crate::{files::private, keyring, process::Own};

/// Lines of output that are kept of a program that failed.
const LINES_KEPT: usize = 40;
/// Bytes at the end of the output that are looked at for them.
const BYTES_KEPT: u64 = 16 * 1024;

/// A program did not do what it was started for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CommandError {
    /// It did not start.
    #[error("{what} cannot be started")]
    Start {
        what: String,
        #[source]
        source: io::Error,
    },
    /// It ended with something else than 0.
    #[error("{what} ended with {how}{}", after_colon(tail))]
    Failed {
        what: String,
        how: String,
        tail: String,
    },
    /// It took too long and was killed.
    #[error("{what} took longer than {} and was killed{}", human(*within), after_colon(tail))]
    Overdue {
        what: String,
        within: Duration,
        tail: String,
    },
}

fn after_colon(tail: &str) -> String {
    if tail.is_empty() {
        String::new()
    } else {
        format!("; its last lines:\n{tail}")
    }
}

/// Kills a process group when dropped: whoever stops waiting for a program ends it.
struct Group(
    Option<i32>,
    #[expect(dead_code, reason = "held for its end")] Own,
);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // Fails when all of it has ended, which is what is wanted.
            let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
        }
    }
}

/// Runs a program to its end, in a process group of its own, with its output in `log`.
///
/// A file takes the output, not a pipe: a daemon that the program leaves behind would keep a pipe
/// open for ever.
pub(crate) async fn run_to_end(
    what: &str,
    command: Command,
    log: &Path,
    within: Duration,
) -> Result<String, CommandError> {
    run_and_tell(what, command, log, within, |_| {}).await
}

/// As [`run_to_end`], and tells the process id as soon as there is one.
pub(crate) async fn run_and_tell(
    what: &str,
    mut command: Command,
    log: &Path,
    within: Duration,
    started: impl FnOnce(i32),
) -> Result<String, CommandError> {
    let start = |source| CommandError::Start {
        what: what.to_owned(),
        source,
    };
    let output = private(log).map_err(start)?;
    command
        .stdin(Stdio::null())
        .stdout(output.try_clone().map_err(start)?)
        .stderr(output)
        .process_group(0);
    let mut child = keyring::spawn(&mut command).map_err(start)?;
    let own = Own::child(child.id());
    let mut group = Group(own.pid(), own);
    if let Some(pid) = group.0 {
        started(pid);
    }
    let waited = tokio::time::timeout(within, child.wait()).await;
    let tail = || tail(log);
    match waited {
        Err(_) => Err(CommandError::Overdue {
            what: what.to_owned(),
            within,
            tail: tail(),
        }),
        Ok(Err(source)) => Err(start(source)),
        Ok(Ok(status)) => {
            group.0 = None;
            if status.success() {
                return Ok(tail());
            }
            Err(CommandError::Failed {
                what: what.to_owned(),
                how: status
                    .code()
                    .map_or_else(|| status.to_string(), |code| format!("exit code {code}")),
                tail: tail(),
            })
        }
    }
}

/// The last lines of a file; empty when it cannot be read.
pub(crate) fn tail(path: &Path) -> String {
    let read = || -> io::Result<Vec<u8>> {
        let mut file = File::open(path)?;
        let length = fs::metadata(path)?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(BYTES_KEPT)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read().unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.trim().lines().collect();
    lines[lines.len().saturating_sub(LINES_KEPT)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn shell(script: &str, within: Duration) -> Result<String, CommandError> {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        run_to_end("the script", command, &folder.path().join("log"), within).await
    }

    #[tokio::test]
    async fn a_failure_carries_code_and_last_lines() {
        let minute = Duration::from_mins(1);
        let error = shell("seq 100; echo cause >&2; exit 7", minute).await;
        let text = error.unwrap_err().to_string();
        assert!(text.starts_with("the script ended with exit code 7; its last lines:\n62\n"));
        assert!(text.ends_with("\n100\ncause"), "{text}");
    }

    #[tokio::test]
    async fn a_daemon_left_behind_holds_nobody_up() {
        let minute = Duration::from_mins(1);
        let output = shell("sleep 3 & echo done", minute).await.unwrap();
        assert_eq!(output, "done");
    }

    #[tokio::test]
    async fn what_takes_too_long_is_killed() {
        let error = shell("echo on; sleep 600", Duration::from_millis(100)).await;
        let text = error.unwrap_err().to_string();
        assert!(
            text.contains("took longer than 0.10s") && text.ends_with("on"),
            "{text}"
        );
    }
}
