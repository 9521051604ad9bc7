//! Fetching the runner program.

use std::{
    fmt::Write as _,
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::lchown,
    path::Path,
    time::Duration,
};

use proto::agent_config::Download;
use reqwest::Client;
use sha2::{Digest, Sha256};
use tokio::process::Command;

use crate::{
    command::{CommandError, run_to_end},
    files::{FileError, remove},
    host::Machinery,
    runner::RunnerError,
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
         {wanted}: it is not used"
    )]
    Sum {
        url: String,
        found: String,
        wanted: String,
    },
    #[error(transparent)]
    Unpack(#[from] CommandError),
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Account(#[from] RunnerError),
}

/// Fetches the archive, checks it, and puts the program in place of what was there.
pub(crate) async fn runner(
    host: &Machinery,
    Download {
        url,
        sha256: wanted,
    }: &Download,
) -> Result<(), FetchError> {
    tracing::info!(url, "fetching the runner program");
    let archive = host.state_dir.join("runner.tar.gz");
    let found = download(url, &archive).await?;
    if !found.eq_ignore_ascii_case(wanted) {
        remove(&archive)?;
        return Err(FetchError::Sum {
            url: url.clone(),
            found,
            wanted: wanted.clone(),
        });
    }
    // Unpacked beside its place and then moved there: it is whole or not there.
    let new = host.runner_dir.with_extension("new");
    remove(&new)?;
    fs::create_dir_all(&new).map_err(FileError::of("make the folder", &new))?;
    let mut tar = Command::new("tar");
    tar.arg("-xzf").arg(&archive).arg("-C").arg(&new);
    run_to_end(
        "unpacking the runner program",
        tar,
        &host.log("unpack"),
        UNPACK_WITHIN,
    )
    .await?;
    if let Some(person) = host.account().map_err(RunnerError::from)?.person() {
        own(&new, person.user, person.group).map_err(FileError::of("give away", &new))?;
    }
    remove(&host.runner_dir)?;
    fs::rename(&new, &host.runner_dir).map_err(FileError::of("move into place", &new))?;
    remove(&archive)?;
    Ok(())
}

/// Fetches a file; answers with its SHA-256.
async fn download(url: &str, to: &Path) -> Result<String, FetchError> {
    let http = |error| FetchError::Http(url.to_owned(), error);
    let client = Client::builder()
        .timeout(FETCH_WITHIN)
        .build()
        .map_err(http)?;
    let answer = client.get(url).send().await.map_err(http)?;
    let mut answer = answer.error_for_status().map_err(http)?;
    let mut file = File::create(to).map_err(FileError::of("write", to))?;
    let mut sum = Sha256::new();
    while let Some(chunk) = answer.chunk().await.map_err(http)? {
        sum.update(&chunk);
        file.write_all(&chunk).map_err(FileError::of("write", to))?;
    }
    Ok(sum.finalize().iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    }))
}

/// Gives a folder and all in it to a user.
fn own(path: &Path, user: u32, group: u32) -> io::Result<()> {
    lchown(path, Some(user), Some(group))?;
    if fs::symlink_metadata(path)?.is_dir() {
        for entry in fs::read_dir(path)? {
            own(&entry?.path(), user, group)?;
        }
    }
    Ok(())
}
