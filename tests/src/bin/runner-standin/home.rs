//! The runner's folder and the files that make it configured.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

const SETTINGS: &str = ".runner";
const CREDENTIALS: &str = ".credentials";
const KEY: &str = ".credentials_rsaparams";

/// .NET writes its JSON files with a byte order mark.
const BYTE_ORDER_MARK: char = '\u{feff}';

/// `.runner`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Registration {
    pub(crate) agent_id: u64,
    pub(crate) agent_name: String,
    pub(crate) pool_id: u64,
    pub(crate) pool_name: String,
    pub(crate) ephemeral: bool,
    pub(crate) disable_update: bool,
    pub(crate) server_url: String,
    pub(crate) git_hub_url: String,
    pub(crate) work_folder: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Credentials {
    scheme: String,
    data: CredentialData,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct CredentialData {
    client_id: String,
}

/// The folder above the `bin` that this program was started from.
#[derive(Clone, Debug)]
pub(crate) struct Home {
    root: PathBuf,
}

impl Home {
    pub(crate) fn of_executable() -> io::Result<Self> {
        let program = fs::read_link("/proc/self/exe")?;
        let root = program
            .parent()
            .and_then(Path::parent)
            .ok_or_else(|| io::Error::other("the program is in no bin folder"))?;
        Ok(Self {
            root: root.to_owned(),
        })
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    pub(crate) fn is_configured(&self) -> bool {
        self.path(SETTINGS).exists()
    }

    pub(crate) fn registration(&self) -> io::Result<Option<Registration>> {
        match fs::read_to_string(self.path(SETTINGS)) {
            Ok(text) => Ok(Some(serde_json::from_str(
                text.trim_start_matches(BYTE_ORDER_MARK),
            )?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(crate) fn credential(&self) -> io::Result<String> {
        let text = fs::read_to_string(self.path(CREDENTIALS))?;
        let credentials: Credentials =
            serde_json::from_str(text.trim_start_matches(BYTE_ORDER_MARK))?;
        Ok(credentials.data.client_id)
    }

    /// Credentials first: who finds `.runner` finds all of it.
    pub(crate) fn save(&self, registration: &Registration, credential: &str) -> io::Result<()> {
        let credentials = Credentials {
            scheme: "OAuth".to_owned(),
            data: CredentialData {
                client_id: credential.to_owned(),
            },
        };
        self.write(
            CREDENTIALS,
            &serde_json::to_string_pretty(&credentials)?,
            0o644,
        )?;
        self.write(KEY, r#"{"exponent":"AQAB"}"#, 0o600)?;
        self.write(
            SETTINGS,
            &serde_json::to_string_pretty(registration)?,
            0o644,
        )
    }

    /// Deletes what makes the runner configured, as `remove --local` does:
    /// the migrated copies stay.
    pub(crate) fn forget(&self) -> io::Result<Vec<&'static str>> {
        let mut removed = Vec::new();
        for name in [CREDENTIALS, KEY, SETTINGS] {
            match fs::remove_file(self.path(name)) {
                Ok(()) => removed.push(name),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(removed)
    }

    /// `NAME=value` lines of `.env`, which the listener adds to its jobs' environment.
    pub(crate) fn dot_env(&self) -> Vec<(String, String)> {
        // A missing file is the normal case.
        let text = fs::read_to_string(self.path(".env")).unwrap_or_default();
        text.lines()
            .filter_map(|line| line.split_once('='))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect()
    }

    fn write(&self, name: &str, text: &str, mode: u32) -> io::Result<()> {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(mode)
            .open(self.path(name))?;
        write!(file, "{BYTE_ORDER_MARK}{text}")
    }
}
