//! An operator's wish that this machine takes no new tenant: a file, which the running agent looks
//! for and which outlives its restarts.

use std::path::{Path, PathBuf};

use crate::files::{FileError, private, remove};

fn file(state_dir: &Path) -> PathBuf {
    state_dir.join("drain")
}

pub(crate) fn is_wanted(state_dir: &Path) -> bool {
    file(state_dir).exists()
}

/// Wishes it, or no longer.
pub(crate) fn wish(state_dir: &Path, drained: bool) -> Result<(), FileError> {
    let path = file(state_dir);
    if drained {
        private(&path)
            .map(drop)
            .map_err(FileError::of("write", &path))
    } else {
        remove(&path)
    }
}
