//! What a user left outside of all folders: things to be done later, and things that the kernel
//! keeps.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use crate::{
    account::Person,
    files::{FileError, remove},
};

/// Where crontabs, mail and the wish to be served without being logged in are kept, each in a file
/// with the user's name.
const NAMED: [&str; 5] = [
    "/var/spool/cron/crontabs",
    "/var/spool/cron",
    "/var/spool/mail",
    "/var/mail",
    "/var/lib/systemd/linger",
];
/// Where `at` keeps its jobs, each in a file that its user owns.
const OWNED: [&str; 3] = [
    "/var/spool/cron/atjobs",
    "/var/spool/at",
    "/var/spool/atjobs",
];

/// Where systemd keeps `user-1001.journal` and `core.make.1001.…`, which user 1001 may read.
const NUMBERED: [&str; 2] = ["/var/log/journal", "/var/lib/systemd/coredump"];

/// Forgets what the user wanted done later; answers whether there was anything.
pub(crate) fn forget(person: &Person) -> Result<bool, FileError> {
    let mut found_any = false;
    for folder in NAMED {
        let file = Path::new(folder).join(&person.name);
        // A user may be called as one of the folders here are.
        if fs::symlink_metadata(&file).is_ok_and(|found| !found.is_dir()) {
            remove(&file)?;
            found_any = true;
        }
    }
    for folder in OWNED.map(Path::new) {
        let entries = match fs::read_dir(folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            entries => entries.map_err(FileError::of("look into", folder))?,
        };
        for entry in entries {
            let entry = entry.map_err(FileError::of("look into", folder))?;
            // Gone meanwhile is as good.
            if entry.metadata().is_ok_and(|found| person.is(found.uid())) {
                remove(&entry.path())?;
                found_any = true;
            }
        }
    }
    Ok(found_any)
}

/// Removes what systemd notes of a user's programs and lets that user read: their lines in the
/// journal, their memory when they crashed. The names have the user's number in them.
pub(crate) fn unlog(person: &Person) -> Result<(), FileError> {
    let user = person.user.to_string();
    NUMBERED
        .iter()
        .try_for_each(|folder| remove_numbered(Path::new(folder), &user))
}

fn remove_numbered(folder: &Path, number: &str) -> Result<(), FileError> {
    // Not every system has such a folder.
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let (name, path) = (entry.file_name(), entry.path());
        let mut parts = name.to_str().unwrap_or_default().split(['.', '-', '@']);
        if parts.any(|part| part == number) {
            remove(&path)?;
        } else if entry.file_type().is_ok_and(|found| found.is_dir()) {
            remove_numbered(&path, number)?;
        }
    }
    Ok(())
}

/// What System V's interprocess communication keeps of a user after all of its processes: the
/// options that make `ipcrm` remove it.
pub(crate) fn kept_by_kernel(person: &Person) -> Vec<String> {
    [("shm", "-m"), ("msg", "-q"), ("sem", "-s")]
        .into_iter()
        .flat_map(|(kind, option)| {
            let path: PathBuf = ["/proc/sysvipc", kind].iter().collect();
            // A kernel without it has no such file.
            let table = fs::read_to_string(path).unwrap_or_default();
            ids_of(&table, |user| person.is(user))
                .into_iter()
                .flat_map(move |id| [option.to_owned(), id])
                .collect::<Vec<_>>()
        })
        .collect()
}

/// The second column of the lines whose `uid` column has such a user.
fn ids_of(table: &str, is_theirs: impl Fn(u32) -> bool) -> Vec<String> {
    let mut lines = table.lines().map(str::split_whitespace);
    let column = lines
        .next()
        .and_then(|mut names| names.position(|name| name == "uid"));
    let Some(column) = column else {
        return Vec::new();
    };
    lines
        .filter_map(|fields| {
            let fields: Vec<&str> = fields.collect();
            let theirs = is_theirs(fields.get(column)?.parse().ok()?);
            theirs.then(|| fields.get(1).map(ToString::to_string))?
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_systemd_noted_of_a_user_goes_and_what_it_noted_of_others_stays() {
        let folder = tempfile::tempdir().unwrap();
        let deep = folder.path().join("0123abcd");
        fs::create_dir(&deep).unwrap();
        let name = |number: u32| {
            [
                format!("user-{number}.journal"),
                format!("user-{number}@0006-01ab.journal"),
                format!("core.a.b.{number}.0123abcd.77.1790000000000000.zst"),
            ]
        };
        for name in [name(1001), name(10_011)].concat() {
            fs::write(deep.join(name), "").unwrap();
        }
        remove_numbered(folder.path(), "1001").unwrap();
        let left = fs::read_dir(&deep).unwrap();
        let name_of =
            |entry: io::Result<fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
        let mut left: Vec<String> = left.map(name_of).collect();
        left.sort();
        let mut others = name(10_011);
        others.sort();
        assert_eq!(left, others);
        remove_numbered(Path::new("/no/such/folder"), "1001").unwrap();
    }

    #[test]
    fn a_users_share_of_the_kernels_table_is_told() {
        let table = "       key      shmid perms  size  cpid  lpid nattch   uid   gid\n\
                              0          3  1600  4096    10    10      1  1001  1001\n\
                              7          5  1600  4096    10    10      1  1002  1001\n";
        assert_eq!(ids_of(table, |user| user == 1002), ["5"]);
        assert_eq!(ids_of("", |_| true), Vec::<String>::new());
    }
}
