//! The runner program: there, of the right version, and read once.

use std::{path::PathBuf, time::Duration};

use proto::agent_config::AgentConfig;

use super::BootError;
use crate::{
    account::Account,
    command::run_to_end,
    fetch,
    files::{self, read_json, write_json},
    hooks,
    host::Machinery,
    protect, runner,
};

/// How long loading all of the program may take, from a disk that fetches what is read.
const WARM_WITHIN: Duration = Duration::from_mins(1);

/// Makes sure that the runner program is there; answers with its version.
pub(super) async fn find(
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
    let download = wanted.downloads.of(arch);
    fetch::runner(host, download.ok_or(BootError::NoDownload(arch))?).await?;
    files::remove(&warmed(host))?;
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

/// Puts the program out of reach of jobs that have a user of their own, and settles whether that
/// user may become root.
pub(super) fn protect(host: &Machinery) -> Result<(), BootError> {
    match host.account() {
        Ok(Account::Other(person)) if host.runner_dir.exists() => {
            let allowed = host.jobs.runner_sudo;
            hooks::sudo(&host.system.sudoers, person.user, allowed)?;
            Ok(protect::protect(&host.runner_dir, &person)?)
        }
        // Who is missing is said when the program is asked for its version.
        Ok(Account::Own | Account::Other(_)) | Err(_) => Ok(()),
    }
}

fn warmed(host: &Machinery) -> PathBuf {
    host.state_dir.join("warmed.json")
}

/// Has the program load all of its parts, once: the first run that comes waits for less. That it
/// cannot is no harm.
pub(super) async fn warm_up(host: &Machinery) {
    let done: Option<proto::ids::InstanceId> = read_json(&warmed(host)).unwrap_or_default();
    if done.as_ref() == Some(&host.instance) || !host.listener_program().exists() {
        return;
    }
    let Ok(account) = host.account() else {
        return;
    };
    let mut command = host.runner_command(&account);
    command.arg("warmup");
    let what = "the runner's warmup";
    match run_to_end(what, command, &host.log("warmup"), WARM_WITHIN).await {
        Ok(_) => {
            if let Err(error) = write_json(&warmed(host), &host.instance, 0o600) {
                tracing::warn!("{}", crate::ports::chain(&error));
            }
        }
        Err(error) => tracing::warn!("{}", crate::ports::chain(&error)),
    }
}
