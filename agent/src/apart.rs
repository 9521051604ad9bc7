//! A copy of the runner that no job can reach: its folder is root's alone, the program in it is the
//! same by hard links, and its registration is the one that was kept.
//!
//! The runner deregisters there, as root, while an idle listener still lives: what a job put into
//! that listener has the jobs' user, and could read the token of whatever else has it.

use std::{fs, os::unix::fs::DirBuilderExt, path::PathBuf};

use tokio::process::Command;

use crate::{
    account::Account,
    files::{FileError, remove, write_new},
    folder,
    host::Machinery,
    manifest, registration,
    runner::PROGRAM,
};

/// In the runner's folder, for links need the same file system, and what is root's there no job can
/// move.
const NAME: &str = ".deregister";

/// The copy. Dropped, it is gone.
pub(crate) struct Apart(PathBuf);

impl Apart {
    /// Makes it, whatever was there. Blocks.
    pub(crate) fn make(host: &Machinery) -> Result<Self, FileError> {
        let folder = host.runner_dir.join(NAME);
        remove(&folder)?;
        fs::DirBuilder::new()
            .mode(0o700)
            .create(&folder)
            .map_err(FileError::of("make the folder", &folder))?;
        let apart = Self(folder);
        let folder = &apart.0;
        folder::link(&host.runner_dir.join("bin"), &folder.join("bin"))?;
        for (name, text) in manifest::steering(host) {
            write_new(&folder.join(name), text.as_bytes(), 0o600)?;
        }
        registration::put_back(host, folder)?;
        Ok(apart)
    }

    /// The runner there, ready to be given its arguments. Nothing that it reads or writes is where
    /// a job could have been before.
    pub(crate) fn command(&self) -> Command {
        let mut command = Account::Own.command(&self.0.join(PROGRAM));
        command
            .current_dir(&self.0)
            .env("HOME", &self.0)
            .env("TMPDIR", &self.0)
            // Else .NET listens for debuggers.
            .env("DOTNET_EnableDiagnostics", "0");
        command
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        if let Err(error) = remove(&self.0) {
            tracing::warn!("{}", crate::ports::chain(&error));
        }
    }
}
