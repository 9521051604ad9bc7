//! What the runner's folder holds before the first job: all else there is a job's, and goes.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{
    files::{self, FileError, read_json, write_json},
    folder, home, hooks,
    host::Machinery,
    mounts, protect,
    runner::CONFIGURATION,
};

/// Made by the runner and its jobs, whoever made them first.
pub(crate) const PASSING: [&str; 2] = ["_work", "_diag"];
/// Short files that steer each command of the runner and each job. The runner reads them even when
/// it deregisters, so they are root's, empty if there is nothing to say: a job that could make one
/// would steer what comes after it.
pub(crate) const STEERING: [&str; 2] = [".env", ".path"];

/// How everybody can read a steering file.
pub(crate) const READABLE: u32 = 0o644;

/// Whether an entry of the runner's folder is not part of the program.
pub(crate) fn is_passing(name: &str) -> bool {
    [&PASSING[..], &STEERING, &CONFIGURATION, &[hooks::PRE_JOB]]
        .concat()
        .contains(&name)
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Manifest {
    names: BTreeSet<String>,
    /// The image's own steering files.
    texts: BTreeMap<String, String>,
    /// What tells a change of the program.
    #[serde(default)]
    fingerprint: Option<String>,
    /// Where something was mounted.
    #[serde(default)]
    mounts: Vec<PathBuf>,
    /// Whether the jobs' user had no folder of its own as its home.
    #[serde(default)]
    homeless: bool,
}

fn file(host: &Machinery) -> std::path::PathBuf {
    host.state_dir.join("manifest.json")
}

/// Notes what is there.
pub(crate) fn note(host: &Machinery) -> Result<(), FileError> {
    let mut manifest = Manifest {
        names: names(&host.runner_dir)?.into_iter().collect(),
        texts: BTreeMap::new(),
        fingerprint: Some(protect::fingerprint(&host.runner_dir)?),
        mounts: mounts::points()?,
        homeless: match host.account() {
            Ok(account) => account.person().is_some_and(|person| !home::is_own(person)),
            Err(_) => false,
        },
    };
    for name in STEERING {
        if let Some(bytes) = files::read_own(&host.runner_dir.join(name))? {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            manifest.texts.insert(name.to_owned(), text);
        }
    }
    write_json(&file(host), &manifest, 0o600)
}

fn read(host: &Machinery) -> Option<Manifest> {
    read_json(&file(host)).unwrap_or_else(|error| {
        tracing::warn!("{}", crate::ports::chain(&error));
        None
    })
}

/// Where something was mounted when the machine had booted, if that is known.
pub(crate) fn mounted(host: &Machinery) -> Option<Vec<PathBuf>> {
    read(host).map(|manifest| manifest.mounts)
}

/// Whether the jobs' user had no home of its own when the machine had booted.
pub(crate) fn was_homeless(host: &Machinery) -> bool {
    read(host).unwrap_or_default().homeless
}

/// What the image's steering files say.
pub(crate) fn steering(host: &Machinery) -> BTreeMap<String, String> {
    read(host).unwrap_or_default().texts
}

/// Takes from jobs what they could have put beside the program to steer the runner's next command.
/// What the runner keeps there for its present registration stays.
pub(crate) fn disarm(host: &Machinery) -> Result<(), FileError> {
    let Some(manifest) = read(host) else {
        return Ok(());
    };
    for name in names(&host.runner_dir)? {
        if !manifest.names.contains(&name) && !is_passing(&name) {
            folder::clear(&host.runner_dir.join(&name), &manifest.mounts)?;
        }
    }
    steer(host, &manifest.texts)
}

/// Puts the steering files back, should somebody have become root to change them.
fn steer(host: &Machinery, texts: &BTreeMap<String, String>) -> Result<(), FileError> {
    let shared = host
        .account()
        .is_ok_and(|account| account.person().is_some());
    for name in STEERING {
        // An agent of an earlier version did not see to it that there is one.
        if let Some(text) = texts.get(name).map(String::as_str).or(shared.then_some("")) {
            files::put(&host.runner_dir.join(name), text.as_bytes(), READABLE)?;
        }
    }
    Ok(())
}

/// Removes what is not noted. Without a note only what certainly is a job's. What is mounted there
/// stays, empty.
pub(crate) fn restore(host: &Machinery, mounted: &[PathBuf]) -> Result<(), FileError> {
    let clear = |name: &str| folder::clear(&host.runner_dir.join(name), mounted);
    let jobs = CONFIGURATION.into_iter().chain(PASSING).chain(STEERING);
    for name in jobs.chain([hooks::PRE_JOB]) {
        clear(name)?;
    }
    let Some(manifest) = read(host) else {
        return Ok(());
    };
    for name in names(&host.runner_dir)? {
        if !manifest.names.contains(&name) {
            clear(&name)?;
        }
    }
    steer(host, &manifest.texts)
}

/// Whether the program is still what it was when the machine had booted.
pub(crate) fn is_intact(host: &Machinery) -> Result<bool, FileError> {
    let noted = read(host).and_then(|manifest| manifest.fingerprint);
    Ok(match noted {
        Some(noted) => protect::fingerprint(&host.runner_dir)? == noted,
        None => true,
    })
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
    use crate::host::tests::machine_in;

    #[test]
    fn what_a_job_wrote_beside_the_runner_goes_and_links_are_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let host = machine_in(folder.path());
        let runner = |name: &str| host.runner_dir.join(name);
        fs::create_dir_all(&host.state_dir).unwrap();
        fs::create_dir_all(runner("bin")).unwrap();
        fs::write(runner(".env"), "A=image").unwrap();
        fs::write(folder.path().join("precious"), "text").unwrap();
        note(&host).unwrap();
        fs::write(runner(".env"), "BASH_ENV=harm").unwrap();
        fs::write(runner(".path"), "/harm").unwrap();
        fs::write(runner("odd"), "").unwrap();
        fs::write(runner(".runner"), "").unwrap();
        std::os::unix::fs::symlink(folder.path(), runner("_diag")).unwrap();
        disarm(&host).unwrap();
        assert!(!runner("odd").exists() && runner(".runner").exists());
        assert_eq!(fs::read_to_string(runner(".env")).unwrap(), "A=image");
        restore(&host, &[]).unwrap();
        assert!(is_intact(&host).unwrap());
        assert_eq!(fs::read_to_string(runner(".env")).unwrap(), "A=image");
        let mut left = names(&host.runner_dir).unwrap();
        left.sort();
        assert_eq!(left, [".env", "bin"]);
        assert!(folder.path().join("precious").exists());
    }
}
