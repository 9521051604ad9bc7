//! What the runner's folder holds before the first job: all else there is a job's, and goes.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::Path,
};

use serde::{Deserialize, Serialize};

use crate::{
    files::{self, FileError, read_json, remove, write_json},
    host::Machinery,
    runner::CONFIGURATION,
};

/// Made by the runner and its jobs, whoever made them first.
const PASSING: [&str; 2] = ["_work", "_diag"];
/// Short files that steer every job: a job could leave one for the next.
const STEERING: [&str; 2] = [".env", ".path"];

#[derive(Debug, Default, Serialize, Deserialize)]
struct Manifest {
    names: BTreeSet<String>,
    /// The image's own steering files.
    texts: BTreeMap<String, String>,
}

fn file(host: &Machinery) -> std::path::PathBuf {
    host.state_dir.join("manifest.json")
}

/// Notes what is there.
pub(crate) fn note(host: &Machinery) -> Result<(), FileError> {
    let mut manifest = Manifest {
        names: names(&host.runner_dir)?.into_iter().collect(),
        texts: BTreeMap::new(),
    };
    for name in STEERING {
        if let Some(bytes) = files::read_own(&host.runner_dir.join(name))? {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            manifest.texts.insert(name.to_owned(), text);
        }
    }
    write_json(&file(host), &manifest, 0o600)
}

/// Removes what is not noted. Without a note only what certainly is a job's.
pub(crate) fn restore(host: &Machinery, owner: Option<(u32, u32)>) -> Result<(), FileError> {
    let manifest: Option<Manifest> = read_json(&file(host)).unwrap_or_else(|error| {
        tracing::warn!("{}", crate::ports::chain(&error));
        None
    });
    for name in CONFIGURATION.into_iter().chain(PASSING).chain(STEERING) {
        remove(&host.runner_dir.join(name))?;
    }
    let Some(manifest) = manifest else {
        return Ok(());
    };
    for name in names(&host.runner_dir)? {
        if !manifest.names.contains(&name) {
            remove(&host.runner_dir.join(name))?;
        }
    }
    for (name, text) in &manifest.texts {
        let path = host.runner_dir.join(name);
        files::give(&path, text.as_bytes(), owner)?;
    }
    Ok(())
}

fn names(folder: &Path) -> Result<Vec<String>, FileError> {
    let read = || -> io::Result<Vec<String>> {
        fs::read_dir(folder)?
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect()
    };
    read().map_err(FileError::of("look into", folder))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_job_wrote_beside_the_runner_goes_and_links_are_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let host = Machinery {
            state_dir: folder.path().join("state"),
            runner_dir: folder.path().join("runner"),
            runner_user: String::new(),
            instance: "i-0123456789abcdef0".parse().unwrap(),
            docker: None,
        };
        let runner = |name: &str| host.runner_dir.join(name);
        fs::create_dir_all(&host.state_dir).unwrap();
        fs::create_dir_all(runner("bin")).unwrap();
        fs::write(runner(".env"), "A=image").unwrap();
        fs::write(folder.path().join("precious"), "text").unwrap();
        note(&host).unwrap();
        fs::write(runner(".env"), "BASH_ENV=harm").unwrap();
        fs::write(runner(".path"), "/harm").unwrap();
        fs::write(runner("odd"), "").unwrap();
        std::os::unix::fs::symlink(folder.path(), runner("_diag")).unwrap();
        restore(&host, None).unwrap();
        assert_eq!(fs::read_to_string(runner(".env")).unwrap(), "A=image");
        let mut left = names(&host.runner_dir).unwrap();
        left.sort();
        assert_eq!(left, [".env", "bin"]);
        assert!(folder.path().join("precious").exists());
    }
}
