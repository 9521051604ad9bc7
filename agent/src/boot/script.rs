//! The operator's script.
//!
//! A phase file tells a later agent how far it came. A script that was interrupted runs again
//! from its beginning: half of it must not be taken for the whole.

use std::{path::Path, time::Duration};

use proto::{agent_config::AgentConfig, ids::InstanceId};
use serde::{Deserialize, Serialize};

use super::BootError;
use crate::{
    command::{CommandError, run_and_tell},
    files::{read_json, write_json},
    hooks,
    host::Machinery,
    lines::Lines,
    machine::{ListenerId, text::printable},
    process,
};

/// How far the script came.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Phase {
    Started,
    Done,
    Failed { cause: String },
}

#[derive(Debug, Serialize, Deserialize)]
struct PhaseFile {
    /// An image made from a used machine carries the file of that one.
    instance: InstanceId,
    phase: Phase,
    /// The script, while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    script: Option<ListenerId>,
}

/// How long an interrupted script may take to go once killed.
const SCRIPT_ENDS_WITHIN: Duration = Duration::from_secs(10);

/// How often the script's output goes on to the journal.
const OVERHEAR: Duration = Duration::from_millis(100);
/// Lines that go on each time: the agent has more to do than to listen to a script.
const LINES_TOLD: usize = 200;

/// Runs the script, unless it ran before.
pub(super) async fn once(host: &Machinery, config: &AgentConfig) -> Result<(), BootError> {
    let Some(script) = &config.pre_runner_script else {
        return Ok(());
    };
    let file = host.state_dir.join("boot.json");
    let write = |phase, script| {
        let instance = host.instance.clone();
        let file_now = PhaseFile {
            instance,
            phase,
            script,
        };
        write_json(&file, &file_now, 0o600)
    };
    let earlier: Option<PhaseFile> = read_json(&file).unwrap_or_else(|error| {
        tracing::warn!("how far boot came is lost: {error}");
        None
    });
    match earlier.filter(|earlier| earlier.instance == host.instance) {
        Some(PhaseFile {
            phase: Phase::Done, ..
        }) => return Ok(()),
        Some(PhaseFile {
            phase: Phase::Failed { cause },
            ..
        }) => return Err(BootError::Earlier(cause)),
        Some(PhaseFile {
            phase: Phase::Started,
            script,
            ..
        }) => {
            tracing::warn!("the pre-runner script was interrupted: it runs again");
            if let Some(script) = script {
                process::end_group(script, SCRIPT_ENDS_WITHIN).await;
            }
        }
        None => {}
    }
    write(Phase::Started, None)?;
    let command = hooks::save(&host.state_dir.join("pre-runner-script"), script)?;
    let within = Duration::try_from_secs_f64(config.times.script).unwrap_or_default();
    let log = host.log("pre-runner-script");
    let started = |pid| {
        if let Err(error) = write(Phase::Started, process::identity(pid)) {
            tracing::warn!("{}", crate::ports::chain(&error));
        }
    };
    let work = run_and_tell("the pre-runner script", command, &log, within, started);
    let aloud = |line: &str| tracing::info!("pre-runner script: {line}");
    match overheard(&log, work, aloud).await {
        Ok(_) => {
            tracing::info!("the pre-runner script is done");
            write(Phase::Done, None)?;
            Ok(())
        }
        Err(error) => {
            let cause = crate::ports::chain(&error);
            write(Phase::Failed { cause }, None)?;
            Err(BootError::Script(error))
        }
    }
}

/// Tells what a program writes to its log, as it comes.
async fn overheard(
    log: &Path,
    work: impl Future<Output = Result<String, CommandError>>,
    mut tell: impl FnMut(&str),
) -> Result<String, CommandError> {
    let mut lines = None;
    let mut news = || {
        let reader = match &mut lines {
            Some(reader) => reader,
            none => none.insert(Lines::open(log, 0)?),
        };
        let mut piece = Vec::new();
        let more = reader.piece(&mut piece)?;
        for (line, _) in piece.iter().take(LINES_TOLD) {
            tell(&printable(line));
        }
        let left = piece.len().saturating_sub(LINES_TOLD);
        if left > 0 {
            tell(&format!("… {left} lines left out"));
        }
        std::io::Result::Ok(more)
    };
    tokio::pin!(work);
    let result = loop {
        tokio::select! {
            // First, so that the log is this run's and not an earlier one's.
            biased;
            // Cancel-safe: the same future is asked again, or the loop is over.
            result = &mut work => break result,
            // Cancel-safe: only time passes.
            () = tokio::time::sleep(OVERHEAR) => {}
        }
        if let Err(error) = news() {
            tracing::debug!("the script's output is not to be read: {error}");
        }
    };
    loop {
        match news() {
            Ok(true) => tokio::task::yield_now().await,
            Ok(false) => return result,
            Err(error) => {
                tracing::debug!("the script's output is not to be read: {error}");
                return result;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tokio::process::Command;

    use super::*;
    use crate::boot::tests::{config, host};

    #[tokio::test]
    async fn a_script_of_an_earlier_agent_ends_before_it_runs_again() {
        let folder = tempfile::tempdir().unwrap();
        let host = host(folder.path());
        let mut command = std::process::Command::new("sleep");
        std::os::unix::process::CommandExt::process_group(command.arg("600"), 0);
        let mut script = command.spawn().unwrap();
        let _own = process::Own::child(Some(script.id()));
        let file = PhaseFile {
            instance: host.instance.clone(),
            phase: Phase::Started,
            script: process::identity(i32::try_from(script.id()).unwrap()),
        };
        write_json(&host.state_dir.join("boot.json"), &file, 0o600).unwrap();
        once(&host, &config("true")).await.unwrap();
        assert!(!script.wait().unwrap().success());
    }

    #[tokio::test]
    async fn what_the_script_prints_is_heard_while_it_runs() {
        let folder = tempfile::tempdir().unwrap();
        let (log, go) = (folder.path().join("log"), folder.path().join("go"));
        // What an interrupted run left is not this one's.
        fs::write(&log, "of an earlier run\n").unwrap();
        let text = "printf 'fetching \\033[1mall\\n'; until [ -e \"$0\" ]; do sleep 0.01; done; echo last >&2";
        let mut command = Command::new("sh");
        command.args(["-c", text]).arg(&go);
        let work = run_and_tell("the script", command, &log, OVERHEAR * 600, |_| {});
        let mut heard = Vec::new();
        let output = overheard(&log, work, |line| {
            heard.push(line.to_owned());
            // It ends only once it was heard.
            fs::write(&go, "").unwrap();
        });
        assert!(output.await.unwrap().ends_with("last"));
        assert_eq!(heard, ["fetching [1mall", "last"]);
    }

    #[tokio::test]
    async fn of_a_script_that_never_stops_talking_most_is_counted() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let mut command = Command::new("sh");
        command.args(["-c", "yes | head -n 1000000"]);
        let work = run_and_tell("the script", command, &log, OVERHEAR * 600, |_| {});
        let (mut told, mut left) = (0, 0);
        let output = overheard(&log, work, |line| {
            match line
                .split(' ')
                .nth(1)
                .and_then(|word| word.parse::<usize>().ok())
            {
                Some(lines) => left += lines,
                None => told += 1,
            }
        });
        output.await.unwrap();
        assert_eq!(told + left, 1_000_000);
        assert!(told >= LINES_TOLD && left > told, "{told}");
    }
}
