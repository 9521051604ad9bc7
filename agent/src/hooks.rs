//! The operator's scripts around jobs and runs.

use std::{
    fs,
    path::{Path, PathBuf},
};

use nix::unistd::Uid;
use tokio::process::Command;

use crate::{
    command::{CommandError, run_to_end},
    files::{self, FileError},
    host::Machinery,
};

/// In the runner's folder, where its user can read it. The runner tells by the name that it is
/// bash's.
pub(crate) const PRE_JOB: &str = "pre-job.sh";

/// Saves a script for the agent alone; answers with what runs it.
pub(crate) fn save(path: &Path, script: &str) -> Result<Command, FileError> {
    files::remove(path)?;
    files::write_new(path, script.as_bytes(), 0o700)?;
    let mut command = if script.starts_with("#!") {
        Command::new(path)
    } else {
        let mut command = Command::new("/bin/sh");
        command.arg(path);
        command
    };
    command.current_dir("/");
    Ok(command)
}

/// Puts the script that runs before each job in its place, whatever a job put there; answers where
/// it is, if there is one.
pub(crate) fn place_pre_job(host: &Machinery) -> Result<Option<PathBuf>, FileError> {
    let path = host.runner_dir.join(PRE_JOB);
    files::remove(&path)?;
    let Some(script) = &host.jobs.pre_job_script else {
        return Ok(None);
    };
    files::write_new(&path, script.as_bytes(), 0o755)?;
    Ok(Some(path))
}

/// Runs the script that ends each cleaning, if there is one.
pub(crate) async fn post_release(host: &Machinery) -> Result<(), PostRelease> {
    let Some(script) = &host.jobs.post_release_script else {
        return Ok(());
    };
    let command = save(&host.state_dir.join("post-release-script"), script)?;
    let log = host.log("post-release-script");
    let within = host.post_release_within;
    run_to_end("the post-release script", command, &log, within).await?;
    tracing::info!("the post-release script is done");
    Ok(())
}

/// The operator's script says that the machine must not be handed out again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PostRelease {
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Command(#[from] CommandError),
}

/// Lets jobs become root, or not. What the image itself allows its users stays.
pub(crate) fn sudo(folder: &Path, user: u32, allowed: bool) -> Result<(), FileError> {
    let path = folder.join("paddock-runner");
    if !allowed {
        return files::remove(&path);
    }
    if !folder.is_dir() {
        tracing::warn!(
            "jobs cannot become root: there is no {}, so sudo seems not to be installed",
            folder.display()
        );
        return Ok(());
    }
    // Anybody's copy of the agent that is not root cannot, and need not.
    if !Uid::effective().is_root() {
        return Ok(());
    }
    // By number, for which sudo's language needs no quoting.
    let text = format!(
        "# Made by Paddock's agent; see the input runner-sudo.\n#{user} ALL=(ALL:ALL) NOPASSWD: ALL\n"
    );
    if fs::read_to_string(&path).is_ok_and(|present| present == text) {
        return Ok(());
    }
    // sudo does not read names with a point: a half-written file is nobody's rule.
    let new = folder.join("paddock-runner.new");
    files::remove(&new)?;
    files::write_new(&new, text.as_bytes(), 0o440)?;
    fs::rename(&new, &path).map_err(FileError::of("put in place", &path))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn sudo_is_given_and_taken() {
        if !Uid::effective().is_root() {
            eprintln!("SKIPPED: sudo_is_given_and_taken needs root");
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let rule = folder.path().join("paddock-runner");
        sudo(folder.path(), 1234, true).unwrap();
        let text = fs::read_to_string(&rule).unwrap();
        assert!(
            text.ends_with("\n#1234 ALL=(ALL:ALL) NOPASSWD: ALL\n"),
            "{text}"
        );
        let mode = fs::metadata(&rule).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o440);
        sudo(folder.path(), 1234, true).unwrap();
        sudo(folder.path(), 1234, false).unwrap();
        assert!(!rule.exists());
        sudo(Path::new("/no/such/folder"), 1234, true).unwrap();
        sudo(Path::new("/no/such/folder"), 1234, false).unwrap();
    }
}
