//! The runner program belongs to root: its jobs, which the same program runs, can use it and cannot
//! change it for whoever comes next.
//!
//! The official runner writes beside its program: `.runner`, `.credentials…`, `_diag`, `_work`. So
//! its folder is open to its user as `/tmp` is to all: what is another's there can be neither
//! removed nor renamed.

use std::{
    fs, io,
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, lchown},
    path::Path,
};

use nix::unistd::Uid;
use sha2::{Digest, Sha256};

use crate::{
    account::Person,
    files::FileError,
    manifest::{PASSING, READABLE, STEERING, is_passing},
};

/// Others may not write.
const NOT_WRITABLE: u32 = !0o022;
/// As `/tmp`, but for one group.
const SHARED: u32 = 0o1775;

/// Makes the program root's and what jobs write their user's.
pub(crate) fn protect(runner_dir: &Path, person: &Person) -> Result<(), FileError> {
    if !Uid::effective().is_root() {
        return Ok(());
    }
    let work = || -> io::Result<()> {
        for entry in fs::read_dir(runner_dir)? {
            let entry = entry?;
            let passing = PASSING.iter().any(|name| entry.file_name() == *name);
            if passing {
                own(&entry.path(), person.user, person.group, !0)?;
            } else {
                own(&entry.path(), 0, 0, NOT_WRITABLE)?;
            }
        }
        // What is there and root's, no job can make.
        for name in STEERING {
            let file = fs::OpenOptions::new()
                .append(true)
                .create(true)
                .custom_flags(nix::libc::O_NOFOLLOW)
                .open(runner_dir.join(name))?;
            file.set_permissions(fs::Permissions::from_mode(READABLE))?;
        }
        lchown(runner_dir, Some(0), Some(person.group))?;
        fs::set_permissions(runner_dir, fs::Permissions::from_mode(SHARED))
    };
    work().map_err(FileError::of("protect", runner_dir))
}

/// Gives a file, or a folder and all in it, to a user, and takes permissions from it. Links are
/// not followed.
fn own(path: &Path, user: u32, group: u32, mask: u32) -> io::Result<()> {
    let found = fs::symlink_metadata(path)?;
    if (found.uid(), found.gid()) != (user, group) {
        lchown(path, Some(user), Some(group))?;
    }
    let mode = found.mode() & 0o7777;
    if !found.is_symlink() && mode & mask != mode {
        fs::set_permissions(path, fs::Permissions::from_mode(mode & mask))?;
    }
    if found.is_dir() {
        for entry in fs::read_dir(path)? {
            own(&entry?.path(), user, group, mask)?;
        }
    }
    Ok(())
}

/// What tells whether somebody changed the program: a sum over names, owners, permissions, sizes
/// and times. Whoever is root can forge it; the rest cannot change anything to begin with.
pub(crate) fn fingerprint(runner_dir: &Path) -> Result<String, FileError> {
    let mut lines = Vec::new();
    let mut work = || -> io::Result<()> {
        let own = fs::symlink_metadata(runner_dir)?;
        lines.push(format!("{} {}", own.ino(), own.uid()));
        for entry in fs::read_dir(runner_dir)? {
            let entry = entry?;
            if !is_passing(&entry.file_name().to_string_lossy()) {
                describe(&entry.path(), &mut lines)?;
            }
        }
        Ok(())
    };
    work().map_err(FileError::of("look into", runner_dir))?;
    lines.sort();
    let mut sum = Sha256::new();
    for line in lines {
        sum.update(line.as_bytes());
        sum.update([0]);
    }
    Ok(crate::files::hexadecimal(&sum.finalize()))
}

fn describe(path: &Path, lines: &mut Vec<String>) -> io::Result<()> {
    let found = fs::symlink_metadata(path)?;
    let (time, nanoseconds) = (found.mtime(), found.mtime_nsec());
    let (mode, user, inode) = (found.mode(), found.uid(), found.ino());
    let size = if found.is_dir() { 0 } else { found.size() };
    let path_text = path.display();
    lines.push(format!(
        "{mode:o} {user} {inode} {size} {time}.{nanoseconds} {path_text}"
    ));
    if found.is_dir() {
        for entry in fs::read_dir(path)? {
            describe(&entry?.path(), lines)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_of_the_program_shows_and_a_jobs_own_files_do_not() {
        let folder = tempfile::tempdir().unwrap();
        let runner = folder.path().join("runner");
        fs::create_dir_all(runner.join("bin")).unwrap();
        fs::write(runner.join("bin/Runner.Listener"), "program").unwrap();
        let before = fingerprint(&runner).unwrap();
        fs::create_dir(runner.join("_work")).unwrap();
        fs::write(runner.join(".runner"), "{}").unwrap();
        assert_eq!(fingerprint(&runner).unwrap(), before);
        fs::write(runner.join("bin/Runner.Listener"), "harmful").unwrap();
        assert_ne!(fingerprint(&runner).unwrap(), before);
    }
}
