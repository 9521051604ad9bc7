//! Removing and filling folders that jobs wrote to. Links are not followed, and certain places
//! stay: where something is kept, which may be somebody else's too.

use std::{
    fs, io,
    os::unix::fs::{lchown, symlink},
    path::{Path, PathBuf},
};

use crate::files::{FileError, remove};

/// Removes an entry; a place that stays is emptied instead.
pub(crate) fn clear(path: &Path, kept: &[PathBuf]) -> Result<(), FileError> {
    if kept.iter().any(|point| point == path) {
        return empty(path, kept, |_| true);
    }
    if kept.iter().any(|point| point.starts_with(path)) {
        // The way to such a place.
        return sweep(path, kept, &|_| true);
    }
    remove(path)
}

/// Removes what `is_theirs` of a folder, wherever it is in there.
pub(crate) fn empty(
    folder: &Path,
    kept: &[PathBuf],
    is_theirs: impl Fn(&fs::Metadata) -> bool,
) -> Result<(), FileError> {
    match sweep(folder, kept, &is_theirs) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn sweep(
    folder: &Path,
    kept: &[PathBuf],
    is_theirs: &dyn Fn(&fs::Metadata) -> bool,
) -> Result<(), FileError> {
    // Hardly any folder has such a place in it, and some have very many files.
    let kept: Vec<PathBuf> = kept
        .iter()
        .filter(|place| place.starts_with(folder))
        .cloned()
        .collect();
    let entries = fs::read_dir(folder).map_err(FileError::of("look into", folder))?;
    for entry in entries {
        let entry = entry.map_err(FileError::of("look into", folder))?;
        // Gone meanwhile is as good.
        let Ok(found) = entry.metadata() else {
            continue;
        };
        let theirs = is_theirs(&found);
        if !theirs && !found.is_dir() {
            continue;
        }
        let path = entry.path();
        if theirs && !kept.iter().any(|place| place.starts_with(&path)) {
            remove(&path)?;
        } else if found.is_dir() && !kept.contains(&path) {
            empty_inside(&path, &kept, is_theirs)?;
        }
    }
    Ok(())
}

/// As [`empty`]; a folder that the agent itself must not look into is nobody's to write to.
fn empty_inside(
    folder: &Path,
    kept: &[PathBuf],
    is_theirs: &dyn Fn(&fs::Metadata) -> bool,
) -> Result<(), FileError> {
    match sweep(folder, kept, is_theirs) {
        Err(error)
            if [io::ErrorKind::NotFound, io::ErrorKind::PermissionDenied]
                .contains(&error.kind()) =>
        {
            Ok(())
        }
        other => other,
    }
}

/// Copies all that is in a folder to another one and gives it to a user.
pub(crate) fn copy(from: &Path, to: &Path, owner: (u32, u32)) -> Result<(), FileError> {
    let work = || -> io::Result<()> {
        for entry in fs::read_dir(from)? {
            copy_one(&entry?.path(), to, owner)?;
        }
        Ok(())
    };
    work().map_err(FileError::of("copy", from))
}

/// Makes a folder that has the same files as another one on this file system, by hard links.
pub(crate) fn link(from: &Path, to: &Path) -> Result<(), FileError> {
    let work = || -> io::Result<()> {
        fs::create_dir(to)?;
        for entry in fs::read_dir(from)? {
            let entry = entry?;
            let (path, copy) = (entry.path(), to.join(entry.file_name()));
            if entry.file_type()?.is_dir() {
                link(&path, &copy).map_err(io::Error::other)?;
            } else {
                fs::hard_link(&path, &copy)?;
            }
        }
        Ok(())
    };
    work().map_err(FileError::of("link", from))
}

fn copy_one(path: &Path, to: &Path, (user, group): (u32, u32)) -> io::Result<()> {
    let Some(name) = path.file_name() else {
        return Ok(());
    };
    let copy = to.join(name);
    let found = fs::symlink_metadata(path)?;
    if found.is_symlink() {
        symlink(fs::read_link(path)?, &copy)?;
    } else if found.is_dir() {
        fs::create_dir(&copy)?;
        for entry in fs::read_dir(path)? {
            copy_one(&entry?.path(), &copy, (user, group))?;
        }
        fs::set_permissions(&copy, found.permissions())?;
    } else if found.is_file() {
        fs::copy(path, &copy)?;
    }
    if found.is_file() || found.is_dir() || found.is_symlink() {
        lchown(&copy, Some(user), Some(group))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    fn names(folder: &Path) -> Vec<std::ffi::OsString> {
        let mut names: Vec<_> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_folder_loses_what_is_theirs_alone_however_deep_and_links_are_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("long"), "text").unwrap();
        fs::create_dir(path("deep")).unwrap();
        fs::write(path("deep/long"), "text").unwrap();
        fs::write(path("deep/keep"), "").unwrap();
        fs::write(path("keep"), "").unwrap();
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("long"), "text").unwrap();
        symlink(outside.path(), path("deep/link")).unwrap();
        let is_theirs = |metadata: &fs::Metadata| metadata.is_file() && metadata.len() > 0;
        empty(folder.path(), &[], is_theirs).unwrap();
        assert_eq!(names(folder.path()), ["deep", "keep"]);
        assert_eq!(names(&path("deep")), ["keep", "link"]);
        assert_eq!(names(outside.path()), ["long"]);
        empty(Path::new("/no/such/folder"), &[], |_| true).unwrap();
    }

    #[test]
    fn the_way_to_a_mount_stays_and_so_does_what_is_mounted() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::create_dir_all(path("way/to/mount")).unwrap();
        fs::write(path("way/to/mount/theirs"), "").unwrap();
        fs::write(path("way/file"), "").unwrap();
        let mounted = [path("way/to/mount")];
        clear(&path("way"), &mounted).unwrap();
        assert_eq!(names(&path("way")), ["to"]);
        assert_eq!(names(&path("way/to/mount")), ["theirs"]);
        // The work folder itself may be one: it is emptied.
        clear(&mounted[0], &mounted).unwrap();
        assert_eq!(names(&path("way/to/mount")), Vec::<&str>::new());
    }

    #[test]
    fn a_linked_folder_has_the_same_files() {
        let folder = tempfile::tempdir().unwrap();
        let [from, to] = ["from", "to"].map(|name| folder.path().join(name));
        fs::create_dir_all(from.join("deep")).unwrap();
        fs::write(from.join("deep/program"), "text").unwrap();
        symlink("nowhere", from.join("link")).unwrap();
        link(&from, &to).unwrap();
        let inode = |folder: &Path| fs::metadata(folder.join("deep/program")).unwrap().ino();
        assert_eq!(inode(&from), inode(&to));
        assert_eq!(
            fs::read_link(to.join("link")).unwrap(),
            Path::new("nowhere")
        );
        assert!(link(&from, &to).unwrap_err().to_string().contains("from"));
    }

    #[test]
    fn a_copy_has_names_permissions_and_links() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let [from, to] = ["from", "to"].map(|name| folder.path().join(name));
        fs::create_dir_all(from.join(".config")).unwrap();
        fs::create_dir(&to).unwrap();
        fs::write(from.join(".config/run"), "text").unwrap();
        let mode = fs::Permissions::from_mode(0o750);
        fs::set_permissions(from.join(".config/run"), mode).unwrap();
        symlink("nowhere", from.join("link")).unwrap();
        let own = fs::metadata(&from).unwrap();
        copy(&from, &to, (own.uid(), own.gid())).unwrap();
        let copied = to.join(".config/run");
        assert_eq!(fs::read_to_string(&copied).unwrap(), "text");
        assert_eq!(fs::metadata(&copied).unwrap().mode() & 0o777, 0o750);
        assert_eq!(
            fs::read_link(to.join("link")).unwrap(),
            Path::new("nowhere")
        );
    }
}
