//! How to reach GitHub, and where runners register.

use proto::instance::Secret;

use super::{BadInput, given, required};
use crate::{github::Scope, inputs::RefreshInputs};

/// GitHub's API, where nothing else is said.
const API: &str = "https://api.github.com";
/// GitHub itself, where nothing else is said.
const SERVER: &str = "https://github.com";

/// How to reach GitHub, and where runners register.
#[derive(Debug)]
pub struct GithubSettings {
    /// The API that gives tokens.
    pub api_url: String,
    /// Where runners register.
    pub scope: Scope,
    /// That place as the runner program is told it: `https://github.com/owner/repo`.
    pub runners_url: String,
    /// The API that lists the runner's releases. A server of one's own does not.
    pub releases_url: String,
    /// What asks for tokens.
    pub pat: Secret,
}

impl GithubSettings {
    /// Checks what is said of GitHub.
    pub fn new(inputs: &RefreshInputs) -> Result<Self, BadInput> {
        let repository = required(
            "GITHUB_REPOSITORY",
            inputs.common.github_repository.as_ref(),
            "run this inside a workflow, or set it to owner/name",
        )?;
        let Some((owner, repo)) = repository
            .split_once('/')
            .filter(|(o, r)| !o.is_empty() && !r.is_empty())
        else {
            let wrong = format!("`{repository}` names no repository");
            return Err(BadInput::new("GITHUB_REPOSITORY", wrong, "give owner/name"));
        };
        let pat = required(
            "github-token",
            inputs.github_token.as_ref(),
            "give a personal access token that may administer the repository",
        )?;
        let server = given(inputs.github_server_url.as_ref()).unwrap_or(SERVER);
        let api = given(inputs.github_api_url.as_ref()).unwrap_or(API);
        Ok(Self {
            api_url: api.to_owned(),
            scope: Scope::Repository {
                owner: owner.to_owned(),
                repo: repo.to_owned(),
            },
            runners_url: format!("{}/{repository}", server.trim_end_matches('/')),
            releases_url: releases_url(inputs)?.to_owned(),
            pat: Secret::new(pat),
        })
    }

    /// What asks for the runner's releases: the token, where they are at the GitHub that it is
    /// for. Strangers are served too, but few times an hour.
    pub fn releases_bearer(&self) -> Option<Secret> {
        (self.releases_url == self.api_url).then(|| self.pat.clone())
    }
}

fn releases_url(inputs: &RefreshInputs) -> Result<&str, BadInput> {
    let Some(url) = given(inputs.runner_releases_url.as_ref()) else {
        return Ok(API);
    };
    if url.starts_with("https://") || url.starts_with("http://") {
        return Ok(url.trim_end_matches('/'));
    }
    Err(BadInput::new(
        "runner-releases-url",
        format!("`{url}` is no address"),
        "give an API such as https://api.github.com",
    ))
}
