//! Cleaning the machine between two tenants: nothing of the last run is left for the next one.

use std::{
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

use proto::time::human;
use tokio::process::Command;

use crate::{
    account::{Account, Person},
    command::{CommandError, run_to_end},
    docker,
    files::{FileError, aside},
    folder, home,
    host::Machinery,
    keyring::{self, KeysLeft},
    later, manifest, mounts,
    runner::{self, RunnerError},
};

/// Where every user may leave things.
const SHARED: [&str; 8] = [
    "/tmp",
    "/var/tmp",
    "/dev/shm",
    "/dev/mqueue",
    "/run/lock",
    "/run/screen",
    "/var/crash",
    "/var/lib/php/sessions",
];
const IPCRM_WITHIN: Duration = Duration::from_secs(10);
/// The kernel lets go of keys on its own time.
const KEYS_WITHIN: Duration = Duration::from_secs(10);
/// How long to look through all files may take: some millions, from a disk that is not slow. The
/// controller waits twice as long, so it hears why.
const FILES_WITHIN: Duration = Duration::from_mins(1);

/// The machine is not clean.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CleanError {
    #[error(transparent)]
    Runner(#[from] RunnerError),
    #[error("what is left of the last run comes back whenever it is removed")]
    ComesBack,
    #[error("the runner program in {0} is not what it was at boot: a job changed it")]
    Changed(String),
    #[error(transparent)]
    Keys(#[from] KeysLeft),
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Command(#[from] CommandError),
    #[error(
        "looking for files of the last run took longer than {}: there are very many in {}, or the \
         disk is slow; keep what belongs to the image elsewhere",
        human(FILES_WITHIN),
        SHARED.join(", ")
    )]
    Overdue,
    #[error("cleaning was broken off")]
    Broken(#[from] tokio::task::JoinError),
}

/// How often the files are gone through, should something have come back meanwhile.
const ROUNDS: u32 = 3;

/// Removes what the last run left. The listener must have ended.
///
/// Processes, and what starts some later, go first: they could write anew what is removed.
/// Containers and what all users share are only touched when jobs have a user of their own, that
/// is, when the machine is theirs.
pub(crate) async fn clean(host: &Machinery) -> Result<(), CleanError> {
    let account = host.account().map_err(RunnerError::from)?;
    let belongings = host.belongings(&account);
    aside({
        let (host, account, belongings) = (host.clone(), account.clone(), belongings.clone());
        move || {
            runner::end(&account, &belongings, None)?;
            runner::forget(&host).map_err(CleanError::File)
        }
    })
    .await?;
    if let Some(person) = account.person() {
        docker::clean(host).await?;
        // What containers held back may be free now.
        let (account, belongings) = (account.clone(), belongings.clone());
        aside(move || runner::end(&account, &belongings, None)).await?;
        free(host, person).await?;
    }
    let host = host.clone();
    in_time(aside(move || {
        for _ in 0..ROUNDS {
            host.cage().forget();
            files(&host, &account)?;
            if let Some(person) = account.person() {
                keyring::forget(person, KEYS_WITHIN)?;
            }
            if !runner::end(&account, &belongings, None)? {
                return Ok(());
            }
        }
        Err(CleanError::ComesBack)
    }))
    .await
}

/// What takes longer goes on unheard, on a machine that is not handed out any more.
async fn in_time(work: impl Future<Output = Result<(), CleanError>>) -> Result<(), CleanError> {
    tokio::time::timeout(FILES_WITHIN, work)
        .await
        .unwrap_or(Err(CleanError::Overdue))
}

/// Frees what the kernel keeps of a user.
async fn free(host: &Machinery, person: &Person) -> Result<(), CommandError> {
    let kept = later::kept_by_kernel(person);
    if kept.is_empty() {
        return Ok(());
    }
    let mut command = Command::new("ipcrm");
    command.args(kept);
    let what = "freeing shared memory";
    run_to_end(what, command, &host.log("ipcrm"), IPCRM_WITHIN).await?;
    Ok(())
}

fn files(host: &Machinery, account: &Account) -> Result<(), CleanError> {
    let temporary = temporary(account);
    let mut folders = temporary.clone();
    folders.push(host.runner_dir.clone());
    folders.extend(account.person().map(|person| person.home.clone()));
    let mut before = manifest::mounted(host).unwrap_or_else(|| folders.clone());
    // Whoever logs in, as `sudo` may, has it made.
    before.extend(
        account
            .person()
            .map(run_user)
            .filter(|own| !before.contains(own)),
    );
    let mounted = mounts::undo(&folders, &before)?;
    // What is cleaned otherwise, should it be in one of these folders.
    let mut kept = vec![host.runner_dir.clone(), host.state_dir.clone()];
    kept.extend(account.person().map(|person| person.home.clone()));
    kept.extend(mounted.clone());
    for folder in temporary {
        folder::empty(&folder, &kept, |found| {
            account.person().is_none_or(|person| person.is(found.uid()))
        })?;
    }
    if let Some(person) = account.person() {
        home::renew(host, person, &mounted)?;
        later::unlog(person)?;
    }
    manifest::restore(host, &mounted)?;
    if manifest::is_intact(host)? {
        Ok(())
    } else {
        Err(CleanError::Changed(host.runner_dir.display().to_string()))
    }
}

fn run_user(person: &Person) -> PathBuf {
    format!("/run/user/{}", person.user).into()
}

/// Where jobs may have left files. With the agent's own user nothing tells whose a file is, except
/// in a folder that was set apart for this agent.
fn temporary(account: &Account) -> Vec<PathBuf> {
    let own = std::env::var_os("TMPDIR").map(PathBuf::from);
    match account.person() {
        Some(person) => SHARED
            .map(PathBuf::from)
            .into_iter()
            .chain([run_user(person)])
            .chain(own)
            .collect(),
        None => own
            .filter(|own| !SHARED.iter().any(|shared| own == Path::new(shared)))
            .into_iter()
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn files_without_end_take_the_machine_out_of_the_pool_with_the_reason() {
        let error = in_time(std::future::pending()).await.unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("1m 0s: there are very many in /tmp, /var/tmp"),
            "{text}"
        );
    }
}
