//! What happens once in a machine's life: the operator's script, and the runner program.
//!
//! A phase file tells a later agent how far that came. A script that was interrupted runs again
//! from its beginning: half of it must not be taken for the whole.

use std::{fs, io::Write, os::unix::fs::OpenOptionsExt, path::Path, time::Duration};

use proto::{agent_config::AgentConfig, ids::InstanceId};
use serde::{Deserialize, Serialize};
use tokio::process::Command;

use crate::{
    command::{CommandError, run_and_tell},
    fetch::{self, FetchError},
    files::{FileError, read_json, write_json},
    host::Machinery,
    machine::ListenerId,
    manifest, process,
    runner::{self, RunnerError},
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

/// The machine cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BootError {
    #[error(transparent)]
    Script(CommandError),
    /// An earlier agent on this machine saw it.
    #[error("{0}")]
    Earlier(String),
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Runner(#[from] RunnerError),
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error(
        "there is no runner program at {0} and the pool's configuration names none to fetch: bake \
         one into the image, or let the desired state name a release"
    )]
    NoRunner(String),
    #[error("the pool's configuration has no runner program for this machine's architecture, {0}")]
    NoDownload(&'static str),
    #[error("the runner program that was fetched has version {found}, and the pool wants {wanted}")]
    WrongVersion { found: String, wanted: String },
}

/// Boots; answers with the runner program's version.
pub(crate) async fn boot(host: &Machinery, config: &AgentConfig) -> Result<String, BootError> {
    if let Some(script) = &config.pre_runner_script {
        script_once(host, script, config).await?;
    }
    // Nothing is replaced under a tenant, whose job may be running it.
    let occupied = host.is_occupied();
    let version = runner_program(host, config, occupied).await?;
    if !occupied {
        manifest::note(host)?;
    }
    Ok(version)
}

async fn script_once(
    host: &Machinery,
    script: &str,
    config: &AgentConfig,
) -> Result<(), BootError> {
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
    let path = host.state_dir.join("pre-runner-script");
    save_script(&path, script).map_err(FileError::of("write", &path))?;
    let within = std::time::Duration::try_from_secs_f64(config.times.script).unwrap_or_default();
    let mut command = if script.starts_with("#!") {
        Command::new(&path)
    } else {
        let mut command = Command::new("/bin/sh");
        command.arg(&path);
        command
    };
    command.current_dir("/");
    let log = host.log("pre-runner-script");
    let started = |pid| {
        if let Err(error) = write(Phase::Started, process::identity(pid)) {
            tracing::warn!("{}", crate::ports::chain(&error));
        }
    };
    match run_and_tell("the pre-runner script", command, &log, within, started).await {
        Ok(output) => {
            tracing::info!("the pre-runner script is done; its last lines:\n{output}");
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

fn save_script(path: &Path, script: &str) -> std::io::Result<()> {
    fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o700)
        .open(path)?
        .write_all(script.as_bytes())
}

async fn runner_program(
    host: &Machinery,
    config: &AgentConfig,
    occupied: bool,
) -> Result<String, BootError> {
    let program = host.listener_program();
    let found = if program.exists() {
        Some(runner::version(host).await?)
    } else {
        None
    };
    let Some(wanted) = config.runner.as_ref().filter(|_| !occupied) else {
        return found.ok_or_else(|| BootError::NoRunner(program.display().to_string()));
    };
    if let Some(found) = found.filter(|found| *found == wanted.version) {
        return Ok(found);
    }
    let arch = std::env::consts::ARCH;
    let download = wanted
        .downloads
        .of(arch)
        .ok_or(BootError::NoDownload(arch))?;
    fetch::runner(host, download).await?;
    let found = runner::version(host).await?;
    if found == wanted.version {
        Ok(found)
    } else {
        Err(BootError::WrongVersion {
            found,
            wanted: wanted.version.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn host(folder: &Path) -> Machinery {
        let host = Machinery {
            state_dir: folder.join("state"),
            runner_dir: folder.join("runner"),
            runner_user: String::new(),
            instance: "i-0123456789abcdef0".parse().unwrap(),
        };
        fs::create_dir_all(&host.state_dir).unwrap();
        fs::create_dir_all(host.runner_dir.join("bin")).unwrap();
        host
    }

    fn config(script: &str) -> AgentConfig {
        let text = r#"{"v":1,"pool":"p","table":"t","region":"r","githubUrl":"u"}"#;
        AgentConfig {
            pre_runner_script: Some(script.to_owned()),
            ..serde_json::from_str(text).unwrap()
        }
    }

    #[tokio::test]
    async fn the_script_runs_once_and_the_runner_says_its_version() {
        let folder = tempfile::tempdir().unwrap();
        let host = host(folder.path());
        let program = host.listener_program();
        fs::write(&program, "#!/bin/sh\necho 2.336.0\n").unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let count = folder.path().join("count");
        let config = config(&format!("echo once >> {}", count.display()));
        for _ in 0..2 {
            assert_eq!(boot(&host, &config).await.unwrap(), "2.336.0");
        }
        assert_eq!(fs::read_to_string(&count).unwrap(), "once\n");
        let other = Machinery {
            instance: "i-aaaaaaaaaaaaaaaaa".parse().unwrap(),
            ..host
        };
        boot(&other, &config).await.unwrap();
        assert_eq!(fs::read_to_string(&count).unwrap(), "once\nonce\n");
    }

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
        script_once(&host, "true", &config("true")).await.unwrap();
        assert!(!script.wait().unwrap().success());
    }

    #[tokio::test]
    async fn a_runner_that_chatters_says_its_version_all_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let host = host(folder.path());
        let program = host.listener_program();
        let set = |text: &str| {
            fs::write(&program, text).unwrap();
            fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        };
        set("#!/bin/sh\necho 2.336.0\necho warning: old >&2\n");
        assert_eq!(runner::version(&host).await.unwrap(), "2.336.0");
        set("#!/bin/sh\necho 2.336\necho oops >&2\n");
        let error = runner::version(&host).await.unwrap_err().to_string();
        assert!(error.contains("oops"), "{error}");
    }

    #[tokio::test]
    async fn a_failure_is_remembered_with_its_cause() {
        let folder = tempfile::tempdir().unwrap();
        let host = host(folder.path());
        let first = boot(&host, &config("echo no such disk; exit 3"))
            .await
            .unwrap_err();
        let again = boot(&host, &config("true")).await.unwrap_err();
        assert_eq!(first.to_string(), again.to_string());
        assert!(first.to_string().contains("exit code 3"), "{first}");
        assert!(first.to_string().contains("no such disk"), "{first}");
    }

    #[tokio::test]
    async fn a_missing_runner_is_said_with_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let error = boot(&host(folder.path()), &config("true"))
            .await
            .unwrap_err();
        assert!(error.to_string().contains("bake one"), "{error}");
    }
}
