//! GitHub's REST API: the tokens that register and remove runners.

use std::{fmt, time::Duration};

use async_trait::async_trait;
use proto::{instance::Secret, time::Time};
use reqwest::{Client, Response, StatusCode};
use serde::Deserialize;

use crate::ports::{Forge, PortError, RunnerToken};

/// How long one call may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// What is shown of an answer that is not GitHub's own form.
const SHOWN: usize = 200;

/// Where runners register.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// One repository: `owner/repo`.
    Repository {
        /// A user or an organisation.
        owner: String,
        /// The repository's name.
        repo: String,
    },
    /// All repositories of an organisation.
    Organisation {
        /// The organisation.
        owner: String,
    },
}

impl Scope {
    fn path(&self) -> String {
        match self {
            Self::Repository { owner, repo } => format!("repos/{owner}/{repo}"),
            Self::Organisation { owner } => format!("orgs/{owner}"),
        }
    }

    /// The permission that a token needs here, in words.
    fn permission(&self) -> &'static str {
        match self {
            Self::Repository { .. } => "`Administration: write` on the repository",
            Self::Organisation { .. } => "`Self-hosted runners: write` on the organisation",
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Repository { owner, repo } => write!(f, "{owner}/{repo}"),
            Self::Organisation { owner } => f.write_str(owner),
        }
    }
}

/// Why GitHub gave no token.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("GitHub refused the token: {0}; give one that is valid and has not expired")]
    Token(String),
    #[error("GitHub says {status} ({message}); the token needs {permission}")]
    Permission {
        status: u16,
        message: String,
        permission: &'static str,
    },
    #[error("GitHub says {status}: {message}")]
    Other { status: u16, message: String },
    #[error("GitHub did not answer")]
    Transport(#[source] reqwest::Error),
    #[error("GitHub's answer has no token and end of its life in it")]
    Answer(#[source] reqwest::Error),
    #[error("the end of the token's life cannot be read")]
    Time(#[source] proto::time::InvalidTime),
}

impl Refusal {
    /// Whether a second try may help.
    fn may_pass(&self) -> bool {
        match self {
            Self::Transport(_) => true,
            Self::Other { status, .. } => *status >= 500,
            Self::Token(_) | Self::Permission { .. } | Self::Answer(_) | Self::Time(_) => false,
        }
    }

    fn code(&self) -> Option<String> {
        match self {
            Self::Token(_) => Some("401".to_owned()),
            Self::Permission { status, .. } | Self::Other { status, .. } => {
                Some(status.to_string())
            }
            Self::Transport(_) | Self::Answer(_) | Self::Time(_) => None,
        }
    }
}

/// GitHub, asked with a personal access token. The token is never shown.
#[derive(Clone, Debug)]
pub struct GithubForge {
    api_url: String,
    scope: Scope,
    pat: Secret,
}

#[derive(Deserialize)]
struct TokenAnswer {
    token: Secret,
    expires_at: String,
}

#[derive(Deserialize)]
struct ErrorAnswer {
    message: String,
}

impl GithubForge {
    /// GitHub at `api_url` (`https://api.github.com`, or a server's `https://host/api/v3`).
    pub fn new(api_url: impl Into<String>, scope: Scope, pat: Secret) -> Self {
        Self {
            api_url: api_url.into().trim_end_matches('/').to_owned(),
            scope,
            pat,
        }
    }

    /// Asks for one kind of token; once more if GitHub could not be reached or fell over.
    async fn token(&self, kind: &str) -> Result<RunnerToken, PortError> {
        let answer = match self.ask(kind).await {
            Err(refusal) if refusal.may_pass() => {
                tracing::warn!("asking GitHub for a {kind} again: {refusal}");
                self.ask(kind).await
            }
            answer => answer,
        };
        answer.map_err(|refusal| PortError {
            operation: format!("get a {kind} for {}", self.scope),
            code: refusal.code(),
            source: refusal.into(),
        })
    }

    async fn ask(&self, kind: &str) -> Result<RunnerToken, Refusal> {
        // A client of its own: this is called twice in half an hour.
        let client = Client::builder()
            .user_agent("paddock")
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(CALL_TIMEOUT)
            .build()
            .map_err(Refusal::Transport)?;
        let path = self.scope.path();
        let response = client
            .post(format!("{}/{path}/actions/runners/{kind}", self.api_url))
            .bearer_auth(self.pat.expose())
            .header("Accept", "application/vnd.github+json")
            .header("X-GitHub-Api-Version", "2022-11-28")
            .send()
            .await
            .map_err(Refusal::Transport)?;
        if !response.status().is_success() {
            return Err(self.refusal(response).await);
        }
        let answer: TokenAnswer = response.json().await.map_err(Refusal::Answer)?;
        let expires_at: Time = answer.expires_at.parse().map_err(Refusal::Time)?;
        Ok(RunnerToken {
            token: answer.token,
            expires_at,
        })
    }

    async fn refusal(&self, response: Response) -> Refusal {
        let status = response.status();
        let body = response.text().await.unwrap_or_default();
        let message = serde_json::from_str::<ErrorAnswer>(&body).map_or_else(
            |_| body.trim().chars().take(SHOWN).collect(),
            |answer| answer.message,
        );
        let code = status.as_u16();
        match status {
            StatusCode::UNAUTHORIZED => Refusal::Token(message),
            StatusCode::FORBIDDEN | StatusCode::NOT_FOUND => Refusal::Permission {
                status: code,
                message,
                permission: self.scope.permission(),
            },
            _ => Refusal::Other {
                status: code,
                message,
            },
        }
    }
}

#[async_trait]
impl Forge for GithubForge {
    async fn registration_token(&self) -> Result<RunnerToken, PortError> {
        self.token("registration-token").await
    }

    async fn removal_token(&self) -> Result<RunnerToken, PortError> {
        self.token("remove-token").await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_says_its_path_and_the_permission_it_needs() {
        let owner = || "acme".to_owned();
        let repository = Scope::Repository {
            owner: owner(),
            repo: "web".into(),
        };
        assert_eq!(repository.path(), "repos/acme/web");
        assert!(repository.permission().contains("Administration"));
        let organisation = Scope::Organisation { owner: owner() };
        assert_eq!(organisation.path(), "orgs/acme");
        assert!(organisation.permission().contains("Self-hosted runners"));
    }

    #[test]
    fn only_what_may_pass_is_tried_again() {
        let other = |status| Refusal::Other {
            status,
            message: "no".into(),
        };
        assert!(other(502).may_pass() && !other(422).may_pass());
        assert!(!Refusal::Token("Bad credentials".into()).may_pass());
    }

    #[test]
    fn the_token_does_not_show() {
        let scope = Scope::Organisation {
            owner: "acme".into(),
        };
        let forge = GithubForge::new("https://api.github.com/", scope, Secret::new("hush"));
        assert!(!format!("{forge:?}").contains("hush"));
        assert_eq!(forge.api_url, "https://api.github.com");
    }
}
