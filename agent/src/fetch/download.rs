//! A large file from the network, which may break off at any point.
//!
//! What has arrived stays beside the goal, with what the server calls that version of the file:
//! the next try, this agent's or a later one's, asks for the rest of just that version.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use reqwest::{
    Client, Response, StatusCode,
    header::{CONTENT_RANGE, ETAG, HeaderMap, IF_RANGE, LAST_MODIFIED, RANGE},
};
use sha2::{Digest, Sha256};

use super::FetchError;
use crate::files::{FileError, hexadecimal, remove};

/// Silence after which a connection is given up.
const SILENCE: Duration = Duration::from_secs(20);
/// Connections that may break off without bringing anything.
const TRIES: u32 = 6;
/// The first pause between two tries; doubled from then on.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// The log tells each such part of the whole.
const STEPS: u64 = 10;
const MEGABYTE: u64 = 1_000_000;

/// A file, known by its sum, and where it shall go.
#[derive(Debug)]
pub(super) struct Download<'a> {
    pub(super) url: &'a str,
    pub(super) sha256: &'a str,
    pub(super) to: &'a Path,
}

/// What one connection brought.
enum Brought {
    /// All of it is there.
    Whole,
    /// It broke off, with more than before or not.
    Part { more: bool, why: reqwest::Error },
    /// What is there does not fit what the server has: from the beginning.
    Nothing,
}

impl Download<'_> {
    /// Brings the file, unless it is there already.
    pub(super) async fn run(&self) -> Result<(), FetchError> {
        if self.to.exists() && self.sum(self.to).await?.eq_ignore_ascii_case(self.sha256) {
            tracing::info!("the runner program was fetched before");
            return Ok(());
        }
        let mut resumed = self.bring().await?;
        loop {
            let found = self.sum(&self.part()).await?;
            if found.eq_ignore_ascii_case(self.sha256) {
                fs::rename(self.part(), self.to).map_err(FileError::of("keep", self.to))?;
                return Ok(remove(&self.version())?);
            }
            self.forget()?;
            if !resumed {
                return Err(FetchError::Sum {
                    url: self.url.to_owned(),
                    found,
                    wanted: self.sha256.to_owned(),
                });
            }
            // It was put together from two files, whatever the server said.
            resumed = self.bring().await?;
        }
    }

    fn part(&self) -> PathBuf {
        self.to.with_extension("part")
    }

    fn version(&self) -> PathBuf {
        self.to.with_extension("version")
    }

    fn forget(&self) -> Result<(), FileError> {
        remove(&self.part())?;
        remove(&self.version())
    }

    async fn sum(&self, path: &Path) -> Result<String, FetchError> {
        let path = path.to_owned();
        let read = tokio::task::spawn_blocking(move || {
            sha256(&path).map_err(FileError::of("read", &path))
        });
        Ok(read.await??)
    }

    /// Brings all bytes; answers whether some were there before.
    async fn bring(&self) -> Result<bool, FetchError> {
        let http = |error| FetchError::Http(self.url.to_owned(), error);
        let client = Client::builder()
            .connect_timeout(SILENCE)
            .read_timeout(SILENCE);
        let client = client.build().map_err(http)?;
        let (mut resumed, mut tries) = (false, 0);
        loop {
            let (have, version) = self.have();
            resumed |= version.is_some();
            let brought = match self.ask(&client, have, version).await {
                Ok(answer) => self.take(answer, have).await?,
                Err(why) => Brought::Part { more: false, why },
            };
            match brought {
                Brought::Whole => return Ok(resumed),
                Brought::Nothing if tries < TRIES => self.forget()?,
                Brought::Nothing => return Err(FetchError::Moving(self.url.to_owned())),
                Brought::Part { more: true, .. } => tries = 0,
                Brought::Part { why, .. } if tries + 1 >= TRIES || !passes(&why) => {
                    return Err(http(why));
                }
                Brought::Part { why, .. } => {
                    tracing::warn!("fetching the runner program broke off: {why}");
                }
            }
            tokio::time::sleep(FIRST_PAUSE * (1 << tries)).await;
            tries += 1;
        }
    }

    /// What is there of which version. Without a version it is of no use.
    fn have(&self) -> (u64, Option<String>) {
        let version = fs::read_to_string(self.version()).ok();
        match (version, fs::metadata(self.part())) {
            (Some(version), Ok(part)) if part.len() > 0 => (part.len(), Some(version)),
            (Some(_) | None, _) => (0, None),
        }
    }

    async fn ask(
        &self,
        client: &Client,
        have: u64,
        version: Option<String>,
    ) -> Result<Response, reqwest::Error> {
        let mut request = client.get(self.url);
        if let Some(version) = version {
            request = request
                .header(RANGE, format!("bytes={have}-"))
                .header(IF_RANGE, version);
        }
        let answer = request.send().await?;
        if answer.status() == StatusCode::RANGE_NOT_SATISFIABLE {
            return Ok(answer);
        }
        answer.error_for_status()
    }

    async fn take(&self, mut answer: Response, have: u64) -> Result<Brought, FetchError> {
        let begin = match answer.status() {
            StatusCode::PARTIAL_CONTENT if begins_at(answer.headers(), have) => have,
            StatusCode::OK => 0,
            _ => return Ok(Brought::Nothing),
        };
        let whole = answer.content_length().map(|rest| begin + rest);
        let mut file = self.open(begin, answer.headers())?;
        let mut done = begin;
        loop {
            let chunk = match answer.chunk().await {
                Ok(Some(chunk)) => chunk,
                Ok(None) => return Ok(Brought::Whole),
                Err(why) => {
                    let more = done > begin;
                    return Ok(Brought::Part { more, why });
                }
            };
            file.write_all(&chunk)
                .map_err(FileError::of("write", &self.part()))?;
            tell(done, done + chunk.len() as u64, whole);
            done += chunk.len() as u64;
        }
    }

    fn open(&self, begin: u64, headers: &HeaderMap) -> Result<File, FileError> {
        if begin > 0 {
            let part = File::options().append(true).open(self.part());
            return part.map_err(FileError::of("write", &self.part()));
        }
        self.forget()?;
        let file = File::create(self.part()).map_err(FileError::of("write", &self.part()))?;
        if let Some(version) = version_in(headers) {
            fs::write(self.version(), version).map_err(FileError::of("write", &self.version()))?;
        }
        Ok(file)
    }
}

/// Whether another try may help: trouble on the way does, a plain no does not.
fn passes(error: &reqwest::Error) -> bool {
    let busy = [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_MANY_REQUESTS];
    !error.is_builder()
        && !error.is_redirect()
        && error
            .status()
            .is_none_or(|status| status.is_server_error() || busy.contains(&status))
}

/// What the server calls this version of the file, in a form that `If-Range` takes.
fn version_in(headers: &HeaderMap) -> Option<&str> {
    let text = |name| headers.get(name)?.to_str().ok();
    text(ETAG)
        .filter(|tag| !tag.starts_with("W/"))
        .or_else(|| text(LAST_MODIFIED))
}

fn begins_at(headers: &HeaderMap, begin: u64) -> bool {
    headers
        .get(CONTENT_RANGE)
        .and_then(|range| range.to_str().ok()?.strip_prefix("bytes ")?.split_once('-'))
        .is_some_and(|(from, _)| from.parse() == Ok(begin))
}

fn tell(before: u64, now: u64, whole: Option<u64>) {
    let Some(whole) = whole.filter(|whole| *whole > 0) else {
        return;
    };
    let steps = |bytes: u64| bytes * STEPS / whole;
    if steps(now) > steps(before) {
        let (done, all) = (now / MEGABYTE, whole / MEGABYTE);
        tracing::info!("the runner program: {done} of {all} MB");
    }
}

/// A file's SHA-256, hexadecimal.
fn sha256(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut sum = Sha256::new();
    let mut bytes = vec![0; 64 * 1024];
    loop {
        match file.read(&mut bytes)? {
            0 => break,
            read => sum.update(&bytes[..read]),
        }
    }
    Ok(hexadecimal(&sum.finalize()))
}

#[cfg(test)]
mod tests;
