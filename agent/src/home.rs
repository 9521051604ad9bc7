//! The home of the user that jobs run as: as new for each tenant.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::process::Command;

use crate::{
    account::Person,
    clean::CleanError,
    command::run_to_end,
    files::{FileError, remove},
    host::Machinery,
};

const SKELETON: &str = "/etc/skel";
const CRONTAB: &str = "/usr/bin/crontab";
const WITHIN: Duration = Duration::from_mins(1);

/// Makes the home as new, and forgets what the user wanted done later.
pub(crate) async fn renew(host: &Machinery, person: &Person) -> Result<(), CleanError> {
    let log = host.log("home");
    if Path::new(CRONTAB).exists() {
        let mut command = Command::new(CRONTAB);
        command.args(["-r", "-u", &person.name]);
        // Fails when there is none, which is what is wanted.
        if let Err(error) = run_to_end("removing the crontab", command, &log, WITHIN).await {
            tracing::debug!("{error}");
        }
    }
    // A home without a folder of its own, or one that is a link, is not the user's alone.
    if person.home.parent().is_none()
        || !fs::symlink_metadata(&person.home).is_ok_and(|found| found.is_dir())
    {
        return Ok(());
    }
    let (home, kept) = (
        person.home.clone(),
        [host.runner_dir.clone(), host.state_dir.clone()],
    );
    tokio::task::spawn_blocking(move || empty(&home, &kept)).await??;
    // There may be no skeleton.
    let skeleton = names(Path::new(SKELETON)).unwrap_or_default();
    if skeleton.is_empty() {
        return Ok(());
    }
    let mut command = Command::new("cp");
    command.arg("-R").arg("--");
    command.args(skeleton.iter().map(|name| Path::new(SKELETON).join(name)));
    command.arg(&person.home);
    run_to_end("filling the home", command, &log, WITHIN).await?;
    let mut command = Command::new("chown");
    command
        .args(["-hR", &format!("{}:{}", person.user, person.group), "--"])
        .args(skeleton.iter().map(|name| person.home.join(name)));
    run_to_end("giving the home to its user", command, &log, WITHIN).await?;
    Ok(())
}

/// Removes what is in the home, what Paddock itself needs aside.
fn empty(home: &Path, kept: &[PathBuf]) -> Result<(), FileError> {
    for name in names(home).map_err(FileError::of("look into", home))? {
        let path = home.join(name);
        if !kept.iter().any(|kept| kept.starts_with(&path)) {
            remove(&path)?;
        }
    }
    fs::set_permissions(home, fs::Permissions::from_mode(0o750))
        .map_err(FileError::of("close", home))
}

fn names(folder: &Path) -> io::Result<Vec<std::ffi::OsString>> {
    fs::read_dir(folder)?
        .map(|entry| Ok(entry?.file_name()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_home_is_emptied_but_for_paddocks_own() {
        let home = tempfile::tempdir().unwrap();
        fs::create_dir_all(home.path().join("actions/runner")).unwrap();
        fs::create_dir_all(home.path().join(".ssh")).unwrap();
        fs::write(home.path().join(".bashrc"), "harm").unwrap();
        empty(home.path(), &[home.path().join("actions/runner")]).unwrap();
        assert_eq!(names(home.path()).unwrap(), ["actions"]);
        let mode = fs::metadata(home.path()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o750);
    }
}
