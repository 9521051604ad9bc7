//! A copy of what `configure` wrote, out of reach of jobs: without these files the runner cannot
//! deregister, and would say that it did.

use std::{fs, path::Path};

use crate::{
    files::{self, FileError, remove},
    host::Machinery,
    runner::CONFIGURATION,
};

fn folder(host: &Machinery) -> std::path::PathBuf {
    host.state_dir.join("registration")
}

/// Keeps the files of a runner that was just configured.
pub(crate) fn keep(host: &Machinery) -> Result<(), FileError> {
    let folder = folder(host);
    remove(&folder)?;
    fs::create_dir(&folder).map_err(FileError::of("make the folder", &folder))?;
    for name in CONFIGURATION {
        if let Some(bytes) = files::read_own(&host.runner_dir.join(name))? {
            files::put(&folder.join(name), &bytes, 0o600)?;
        }
    }
    Ok(())
}

/// Puts what was kept beside a runner program, whatever a job made of it.
///
/// Nothing is kept if the agent ended while the runner was configured: then there was no job yet,
/// and what is beside the runner counts.
pub(crate) fn put_back(host: &Machinery, to: &Path) -> Result<(), FileError> {
    let kept = folder(host);
    let from = if kept.exists() {
        &kept
    } else {
        &host.runner_dir
    };
    for name in CONFIGURATION {
        if let Some(bytes) = files::read_own(&from.join(name))? {
            files::put(&to.join(name), &bytes, 0o600)?;
        }
    }
    Ok(())
}

/// GitHub does not know the runner any more.
pub(crate) fn drop(host: &Machinery) -> Result<(), FileError> {
    remove(&folder(host))
}
