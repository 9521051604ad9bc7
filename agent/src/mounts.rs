//! What is mounted where. Cleaning must neither wander into a file system that somebody else uses,
//! nor leave one behind that a job mounted.

use std::{
    fs, io,
    os::unix::ffi::OsStringExt,
    path::{Path, PathBuf},
};

use nix::mount::{MntFlags, umount2};

use crate::files::FileError;

/// The places where something is mounted, in the order of mounting.
pub(crate) fn points() -> Result<Vec<PathBuf>, FileError> {
    let path = Path::new("/proc/self/mountinfo");
    let text = fs::read(path).map_err(FileError::of("read", path))?;
    Ok(text
        .split(|byte| *byte == b'\n')
        .filter_map(|line| line.split(|byte| *byte == b' ').nth(4))
        .map(plain)
        .collect())
}

/// Without the octal escapes for white space and backslashes.
fn plain(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, more)) = rest.split_first() {
        let escape = more
            .get(..3)
            .filter(|_| *first == b'\\')
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        bytes.push(escape.unwrap_or(*first));
        rest = if escape.is_some() { &more[3..] } else { more };
    }
    std::ffi::OsString::from_vec(bytes).into()
}

/// Unmounts what was mounted in these folders since `before`; answers with what is still mounted
/// there. A place counts as often as something is mounted at it, one over the other.
pub(crate) fn undo(folders: &[PathBuf], before: &[PathBuf]) -> Result<Vec<PathBuf>, FileError> {
    let inside = |point: &PathBuf| folders.iter().any(|folder| point.starts_with(folder));
    let times = |point: &PathBuf, points: &[PathBuf]| points.iter().filter(|p| *p == point).count();
    let mut now: Vec<PathBuf> = points()?.into_iter().filter(inside).collect();
    let mut left = Vec::new();
    // The last mount covers the earlier ones.
    while let Some(point) = now.pop() {
        if times(&point, &now) < times(&point, before) {
            left.push(point);
        } else {
            umount2(&point, MntFlags::MNT_DETACH)
                .map_err(io::Error::from)
                .map_err(FileError::of("unmount", &point))?;
        }
    }
    Ok(left)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are() {
        assert_eq!(plain(br"/mnt/a\040b\134"), Path::new(r"/mnt/a b\"));
        assert_eq!(plain(br"/mnt\9"), Path::new(r"/mnt\9"));
        assert!(points().unwrap().contains(&PathBuf::from("/proc")));
    }

    #[test]
    fn what_a_job_mounted_is_unmounted_and_what_was_there_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let [own, theirs] = ["own", "their s"].map(|name| folder.path().join(name));
        for place in [&own, &theirs] {
            fs::create_dir(place).unwrap();
        }
        for place in [&own, &theirs, &own] {
            let none: Option<&str> = None;
            let flags = nix::mount::MsFlags::empty();
            if let Err(error) = nix::mount::mount(none, place, Some("tmpfs"), flags, none) {
                eprintln!("SKIPPED: only root can mount: {error}");
                return;
            }
            fs::write(place.join("file"), "").unwrap();
        }
        fs::write(own.join("laid over"), "").unwrap();
        let left = undo(std::slice::from_ref(&own), std::slice::from_ref(&own)).unwrap();
        assert_eq!(left, [own.as_path()]);
        assert!(!own.join("laid over").exists());
        let left = undo(&[folder.path().to_owned()], std::slice::from_ref(&own)).unwrap();
        assert_eq!(left, [own.as_path()]);
        assert!(own.join("file").exists() && !theirs.join("file").exists());
        umount2(&own, MntFlags::MNT_DETACH).unwrap();
    }
}
