//! A copy of what `configure` wrote, out of reach of jobs: without these files the runner cannot
//! deregister, and would say that it did.

use std::fs;

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
            files::give(&folder.join(name), &bytes, None)?;
        }
    }
    Ok(())
}

/// Puts back what was kept, whatever a job made of it.
pub(crate) fn put_back(host: &Machinery, owner: Option<(u32, u32)>) -> Result<(), FileError> {
    for name in CONFIGURATION {
        if let Some(bytes) = files::read_own(&folder(host).join(name))? {
            files::give(&host.runner_dir.join(name), &bytes, owner)?;
        }
    }
    Ok(())
}

/// GitHub does not know the runner any more.
pub(crate) fn drop(host: &Machinery) -> Result<(), FileError> {
    remove(&folder(host))
}
