//! GitHub's REST API: the tokens that register and remove runners, and the releases of the runner
//! program.

mod api;
mod limit;
mod refusal;
pub mod release;
mod scope;

use std::sync::Arc;

use async_trait::async_trait;
use proto::{
    instance::Secret,
    time::{Clock, Time},
};
use reqwest::Method;
use serde::Deserialize;

pub use self::scope::Scope;
use self::{
    api::{Api, Ask},
    refusal::Refusal,
};
use crate::ports::{Forge, PortError, RunnerToken};

/// GitHub, asked with a personal access token. The token is never shown.
#[derive(Debug)]
pub struct GithubForge {
    api: Api,
    scope: Scope,
    pat: Secret,
}

#[derive(Deserialize)]
struct TokenAnswer {
    token: Secret,
    expires_at: String,
}

impl GithubForge {
    /// GitHub at `api_url` (`https://api.github.com`, or a server's `https://host/api/v3`).
    pub fn new(api_url: &str, scope: Scope, pat: Secret, clock: Arc<dyn Clock>) -> Self {
        Self {
            api: Api::new(api_url, clock),
            scope,
            pat,
        }
    }

    /// Asks for one kind of token.
    async fn token(&self, kind: &str) -> Result<RunnerToken, PortError> {
        self.ask(kind)
            .await
            .map_err(|refusal| refusal.of(format!("get a {kind} for {}", self.scope)))
    }

    async fn ask(&self, kind: &str) -> Result<RunnerToken, Refusal> {
        let ask = Ask {
            method: Method::POST,
            path: format!("{}/actions/runners/{kind}", self.scope.path()),
            bearer: Some(&self.pat),
            needs: self.scope.permission(),
        };
        let response = self.api.send(ask).await?;
        let answer: TokenAnswer = response.json().await.map_err(Refusal::Answer)?;
        let expires_at: Time = answer.expires_at.parse().map_err(Refusal::Time)?;
        Ok(RunnerToken {
            token: answer.token,
            expires_at,
        })
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
    use proto::time::SystemClock;

    use super::*;

    #[test]
    fn the_token_does_not_show() {
        let scope = Scope::Organisation {
            owner: "acme".into(),
        };
        let clock = Arc::new(SystemClock);
        let pat = Secret::new("hush");
        let forge = GithubForge::new("https://api.github.com/", scope, pat, clock);
        let shown = format!("{forge:?}");
        assert!(!shown.contains("hush"), "{shown}");
        assert!(shown.contains("https://api.github.com\""), "{shown}");
    }
}
