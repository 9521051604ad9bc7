//! Fetching the runner program.

mod download;

use std::{fs, time::Duration};

use proto::{agent_config::Download as Source, time::human};
use tokio::process::Command;

use self::download::Download;
use crate::{
    command::{CommandError, run_to_end},
    files::{FileError, aside, remove},
    host::Machinery,
};

/// The archive has some 200 MB.
const FETCH_WITHIN: Duration = Duration::from_mins(5);
const UNPACK_WITHIN: Duration = Duration::from_mins(2);

/// The runner program is not to be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    #[error("cannot fetch the runner program from {0}")]
    Http(String, #[source] reqwest::Error),
    #[error(
        "the runner program from {url} has the SHA-256 {found} and the pool's configuration says \
         {wanted}: it is not used; run `controller refresh`, which looks it up again"
    )]
    Sum {
        url: String,
        found: String,
        wanted: String,
    },
    #[error(
        "the runner program from {url} did not arrive within {}",
        human(FETCH_WITHIN)
    )]
    Overdue { url: String },
    #[error("the runner program from {0} changes while it is fetched: name a version, not a page")]
    Moving(String),
    #[error("fetching was broken off")]
    Broken(#[from] tokio::task::JoinError),
    #[error(transparent)]
    Unpack(#[from] CommandError),
    #[error(transparent)]
    File(#[from] FileError),
}

/// Fetches the archive, checks it, and puts the program in place of what was there.
pub(crate) async fn runner(
    host: &Machinery,
    Source { url, sha256 }: &Source,
) -> Result<(), FetchError> {
    tracing::info!(url, "fetching the runner program");
    let archive = host.state_dir.join("runner.tar.gz");
    let download = Download {
        url,
        sha256,
        to: &archive,
    };
    tokio::time::timeout(FETCH_WITHIN, download.run())
        .await
        .map_err(|_| FetchError::Overdue { url: url.clone() })??;
    // Unpacked beside its place and then moved there: it is whole or not there.
    let new = aside({
        let new = host.runner_dir.with_extension("new");
        move || -> Result<_, FetchError> {
            remove(&new)?;
            fs::create_dir_all(&new).map_err(FileError::of("make the folder", &new))?;
            Ok(new)
        }
    })
    .await?;
    let mut tar = Command::new("tar");
    tar.args(["--no-same-owner", "-xzf"])
        .arg(&archive)
        .arg("-C")
        .arg(&new);
    run_to_end(
        "unpacking the runner program",
        tar,
        &host.log("unpack"),
        UNPACK_WITHIN,
    )
    .await?;
    let place = host.runner_dir.clone();
    aside(move || {
        remove(&place)?;
        fs::rename(&new, &place).map_err(FileError::of("move into place", &new))?;
        Ok(remove(&archive)?)
    })
    .await
}
