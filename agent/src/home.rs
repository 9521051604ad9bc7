//! The home of the user that jobs run as: as new for each tenant.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, lchown},
    path::{Path, PathBuf},
};

use crate::{
    account::Person,
    files::FileError,
    folder::{self, clear},
    host::Machinery,
};

/// Makes the home as new.
pub(crate) fn renew(
    host: &Machinery,
    person: &Person,
    mounted: &[PathBuf],
) -> Result<(), FileError> {
    // A home without a folder of its own, or one that is a link, is not the user's alone.
    if person.home.parent().is_none()
        || !fs::symlink_metadata(&person.home).is_ok_and(|found| found.is_dir())
    {
        return Ok(());
    }
    empty(&person.home, &[&host.runner_dir, &host.state_dir], mounted)?;
    let owner = (person.user, person.group);
    // A job that was root may have given it away.
    lchown(&person.home, Some(owner.0), Some(owner.1))
        .map_err(FileError::of("give back", &person.home))?;
    if host.system.skeleton.is_dir() {
        folder::copy(&host.system.skeleton, &person.home, owner)?;
    }
    Ok(())
}

/// Removes what is in the home, what Paddock itself needs aside.
fn empty(home: &Path, kept: &[&Path], mounted: &[PathBuf]) -> Result<(), FileError> {
    let entries = fs::read_dir(home).map_err(FileError::of("look into", home))?;
    for entry in entries {
        let path = entry.map_err(FileError::of("look into", home))?.path();
        if !kept.iter().any(|kept| kept.starts_with(&path)) {
            clear(&path, mounted)?;
        }
    }
    fs::set_permissions(home, fs::Permissions::from_mode(0o750))
        .map_err(FileError::of("close", home))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_home_is_emptied_but_for_paddocks_own() {
        let home = tempfile::tempdir().unwrap();
        let runner = home.path().join("actions/runner");
        fs::create_dir_all(&runner).unwrap();
        fs::create_dir_all(home.path().join(".ssh")).unwrap();
        fs::write(home.path().join(".bashrc"), "harm").unwrap();
        empty(home.path(), &[&runner], &[]).unwrap();
        let left: Vec<_> = fs::read_dir(home.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(left, ["actions"]);
        let mode = fs::metadata(home.path()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o750);
    }
}
