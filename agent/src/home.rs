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
    manifest,
};

/// Whether the user has a home of its own. One that is a link is not the user's alone.
pub(crate) fn is_own(person: &Person) -> bool {
    person.home.parent().is_some()
        && fs::symlink_metadata(&person.home).is_ok_and(|found| found.is_dir())
}

/// Makes the home as new.
pub(crate) fn renew(
    host: &Machinery,
    person: &Person,
    mounted: &[PathBuf],
) -> Result<(), FileError> {
    if !is_own(person) {
        if manifest::was_homeless(host) {
            return Ok(());
        }
        // One that is gone is made; whatever else is there is a job's work.
        fs::create_dir(&person.home).map_err(FileError::of("make the home", &person.home))?;
    }
    empty(&person.home, &[&host.runner_dir, &host.state_dir], mounted)?;
    // What is said of the folder itself goes with it, attributes for one; unless something stays
    // in it, or is mounted there.
    if fs::remove_dir(&person.home).is_ok() {
        fs::create_dir(&person.home).map_err(FileError::of("make the home", &person.home))?;
    }
    fs::set_permissions(&person.home, fs::Permissions::from_mode(0o750))
        .map_err(FileError::of("close", &person.home))?;
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
    Ok(())
}

#[cfg(test)]
mod tests {
    use nix::unistd::{Gid, Uid};

    use super::*;
    use crate::host::tests::machine_in;

    #[test]
    fn a_home_that_is_gone_is_made_and_a_link_in_its_place_is_no_home() {
        let folder = tempfile::tempdir().unwrap();
        let host = machine_in(folder.path());
        let person = Person {
            name: "jobs".into(),
            user: Uid::effective().as_raw(),
            group: Gid::effective().as_raw(),
            home: folder.path().join("home"),
            subordinate: Vec::new(),
        };
        renew(&host, &person, &[]).unwrap();
        assert!(is_own(&person));
        let moved = folder.path().join("moved");
        fs::rename(&person.home, &moved).unwrap();
        fs::write(moved.join("left"), "").unwrap();
        std::os::unix::fs::symlink(&moved, &person.home).unwrap();
        let error = renew(&host, &person, &[]).unwrap_err();
        assert!(
            error.to_string().contains("cannot make the home"),
            "{error}"
        );
        assert!(moved.join("left").exists());
    }

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
    }
}
