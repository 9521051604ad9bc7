//! The releases of the official runner: which one the pool's machines get, and whether GitHub
//! still takes it.

mod choose;
mod version;

use std::sync::Arc;

use proto::{
    agent_config::RunnerRelease,
    instance::Secret,
    time::{Clock, Time},
};
use reqwest::Method;
use serde::{Deserialize, de::DeserializeOwned};

pub use self::{
    choose::{NoRelease, Outdated},
    version::RunnerVersion,
};
use super::{
    api::{Api, Ask},
    refusal::Refusal,
};
use crate::ports::PortError;

/// The runner's repository.
const REPOSITORY: &str = "repos/actions/runner/releases";
/// So many releases are looked at: more than a year of them.
const PAGE: u32 = 30;

/// Which release is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// The newest that GitHub gives to everybody.
    Latest,
    /// This one.
    Pinned(RunnerVersion),
}

/// The release that was wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// It, with its archives and their sums.
    pub release: RunnerRelease,
    /// Why GitHub refuses it, or soon will.
    pub outdated: Option<Outdated>,
}

/// There is no such release to be had.
#[derive(Debug, thiserror::Error)]
pub enum LookupError {
    /// GitHub has no such release, or not with what a machine needs.
    #[error(transparent)]
    NoRelease(#[from] NoRelease),
    /// GitHub could not be asked.
    #[error(transparent)]
    Port(#[from] PortError),
}

/// A release as GitHub lists it.
#[derive(Clone, Debug, Deserialize)]
struct Listed {
    tag_name: String,
    #[serde(default)]
    draft: bool,
    #[serde(default)]
    prerelease: bool,
    published_at: Option<Time>,
    body: Option<String>,
    #[serde(default)]
    assets: Vec<Asset>,
}

/// A file of a release.
#[derive(Clone, Debug, Deserialize)]
struct Asset {
    name: String,
    browser_download_url: String,
    /// `sha256:…`; older releases have none.
    digest: Option<String>,
}

/// Where the runner's releases are published.
#[derive(Debug)]
pub struct Releases {
    api: Api,
}

impl Releases {
    /// Those that the API at `api_url` lists: `https://api.github.com`, for servers too.
    pub fn new(api_url: &str, clock: Arc<dyn Clock>) -> Self {
        Self {
            api: Api::new(api_url, clock),
        }
    }

    /// The wanted release: one call, or two for an old one. Strangers, who have no `bearer`, may
    /// ask too, but not often.
    pub async fn find(
        &self,
        wanted: Wanted,
        bearer: Option<&Secret>,
    ) -> Result<Found, LookupError> {
        let page = format!("{REPOSITORY}?per_page={PAGE}");
        let mut listed: Vec<Listed> = self.get(page, bearer).await?;
        if let Wanted::Pinned(version) = wanted
            && !listed.iter().any(|release| release.is(version))
        {
            let tag = format!("{REPOSITORY}/tags/v{version}");
            match self.get(tag, bearer).await {
                Ok(old) => listed.push(old),
                Err(error) if error.code.as_deref() == Some("404") => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(choose::choose(wanted, &listed, self.api.now())?)
    }

    async fn get<T: DeserializeOwned>(
        &self,
        path: String,
        bearer: Option<&Secret>,
    ) -> Result<T, PortError> {
        let ask = Ask {
            method: Method::GET,
            path,
            bearer,
            needs: "no permission at all: check `runner-releases-url`",
        };
        let answer = async {
            self.api
                .send(ask)
                .await?
                .json()
                .await
                .map_err(Refusal::Answer)
        };
        answer
            .await
            .map_err(|refusal: Refusal| refusal.of("look up the runner's releases"))
    }
}

impl Listed {
    fn version(&self) -> Option<RunnerVersion> {
        self.tag_name.parse().ok()
    }

    fn is(&self, version: RunnerVersion) -> bool {
        self.version() == Some(version)
    }
}
