//! Cleaning the machine between two tenants: nothing of the last run is left for the next one.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::process::Command;

use crate::{
    account::{Account, Person},
    command::{CommandError, run_to_end},
    files::{FileError, remove},
    home,
    host::Machinery,
    manifest,
    process::Belongings,
    runner::{self, RunnerError},
};

/// Where programs leave things.
const TEMPORARY: [&str; 3] = ["/tmp", "/var/tmp", "/dev/shm"];
const DOCKER: &str = "/usr/bin/docker";
const DOCKER_SOCKET: &str = "/var/run/docker.sock";
/// How long one of docker's steps may take.
const DOCKER_WITHIN: Duration = Duration::from_mins(1);

/// The machine is not clean.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CleanError {
    #[error(transparent)]
    Runner(#[from] RunnerError),
    #[error("processes of the last run do not die: {0:?}")]
    Processes(Vec<i32>),
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Command(#[from] CommandError),
    #[error("cleaning was broken off")]
    Broken(#[from] tokio::task::JoinError),
}

/// Removes what the last run left. The listener must have ended.
///
/// Processes go first, for they could write anew what is removed. Containers and what all users
/// share are only touched when jobs have a user of their own, that is, when the machine is theirs.
pub(crate) async fn clean(host: &Machinery) -> Result<(), CleanError> {
    let account = host.account().map_err(RunnerError::from)?;
    let belongings = host.belongings(&account);
    blocking({
        let belongings = belongings.clone();
        move || kill(&belongings)
    })
    .await?;
    runner::forget(host).await?;
    if account.person().is_some() && Path::new(DOCKER_SOCKET).exists() && Path::new(DOCKER).exists()
    {
        docker(host).await?;
        // What containers held back may be free now.
        blocking(move || kill(&belongings)).await?;
    }
    if let Some(person) = account.person() {
        home::renew(host, person).await?;
    }
    let host = host.clone();
    blocking(move || {
        manifest::restore(&host, account.owner())?;
        temporary(&account)
    })
    .await
}

async fn blocking(
    work: impl FnOnce() -> Result<(), CleanError> + Send + 'static,
) -> Result<(), CleanError> {
    tokio::task::spawn_blocking(work).await?
}

fn kill(belongings: &Belongings) -> Result<(), CleanError> {
    belongings.kill_all(None).map_err(CleanError::Processes)
}

fn temporary(account: &Account) -> Result<(), CleanError> {
    let own = std::env::var_os("TMPDIR").map(PathBuf::from);
    match account.person() {
        Some(person) => {
            for folder in TEMPORARY.into_iter().map(PathBuf::from).chain(own) {
                empty(&folder, |metadata| owned_by(person, metadata))?;
            }
        }
        // With the agent's own user nothing tells whose a file is, except in a folder that was
        // set apart for this agent.
        None => {
            if let Some(own) =
                own.filter(|own| !TEMPORARY.iter().any(|shared| own == Path::new(shared)))
            {
                empty(&own, |_| true)?;
            }
        }
    }
    Ok(())
}

fn owned_by(person: &Person, metadata: &fs::Metadata) -> bool {
    metadata.uid() == person.user
}

/// Removes the entries of a folder that `is_theirs`.
fn empty(folder: &Path, is_theirs: impl Fn(&fs::Metadata) -> bool) -> Result<(), CleanError> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other.map_err(FileError::of("look into", folder))?,
    };
    for entry in entries {
        let entry = entry.map_err(FileError::of("look into", folder))?;
        // Gone meanwhile is as good.
        if entry.metadata().is_ok_and(|metadata| is_theirs(&metadata)) {
            remove(&entry.path())?;
        }
    }
    Ok(())
}

/// Removes every container, network and volume; images stay, they are what makes a machine warm.
async fn docker(host: &Machinery) -> Result<(), CleanError> {
    let steps = [
        "ids=$(docker ps -aq) && { [ -z \"$ids\" ] || docker rm -f -v $ids; }",
        "docker network prune -f",
        // Without -a, newer versions leave named volumes; older ones do not know it.
        "docker volume prune -a -f || docker volume prune -f",
    ];
    for step in steps {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", step]);
        run_to_end(
            "cleaning up after containers",
            command,
            &host.log("docker"),
            DOCKER_WITHIN,
        )
        .await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_loses_what_is_theirs_alone() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("long"), "text").unwrap();
        fs::create_dir(folder.path().join("deep")).unwrap();
        fs::write(folder.path().join("deep/file"), "").unwrap();
        fs::write(folder.path().join("keep"), "").unwrap();
        empty(folder.path(), |metadata| {
            metadata.is_dir() || metadata.len() > 0
        })
        .unwrap();
        let left: Vec<_> = fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(left, ["keep"]);
        empty(Path::new("/no/such/folder"), |_| true).unwrap();
    }
}
