//! GitHub's REST API: the tokens that register and remove runners, the runners that are there, runs
//! that are over, and the releases of the runner program.
//!
//! ```text
//! GithubForge ── session: token or app ─┐
//! Releases ─────────────────────────────┴─ api: words for refusals, limits waited for
//! ```

mod api;
mod app;
mod limit;
mod refusal;
pub mod release;
mod runners;
mod scope;
mod session;

use std::sync::Arc;

use async_trait::async_trait;
use proto::{
    ids::RunId,
    instance::Secret,
    time::{Clock, Time},
};
use reqwest::{Method, Response};
use serde::Deserialize;

use self::{
    api::{Api, Ask},
    refusal::Refusal,
    session::Session,
};
pub use self::{
    app::{App, InvalidKey},
    scope::Scope,
    session::Credentials,
};
use crate::{
    output::Masks,
    ports::{Deleted, Forge, ForgeRunner, PortError, RunState, RunnerToken},
};

/// GitHub, for one repository or organisation.
#[derive(Debug)]
pub struct GithubForge {
    api: Api,
    scope: Scope,
    session: Session,
    masks: Masks,
}

#[derive(Deserialize)]
struct TokenAnswer {
    token: Secret,
    expires_at: Time,
}

impl GithubForge {
    /// GitHub at `api_url` (`https://api.github.com`, or a server's `https://host/api/v3`). Each
    /// secret that it gives goes to `masks` first.
    pub fn new(
        api_url: &str,
        scope: Scope,
        credentials: Credentials,
        masks: Masks,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            api: Api::new(api_url, clock),
            scope,
            session: Session::new(credentials, masks),
            masks,
        }
    }

    /// What other calls of the same GitHub may be made with.
    pub async fn bearer(&self) -> Result<Secret, PortError> {
        self.session
            .bearer(&self.api, &self.scope)
            .await
            .map_err(|refusal| refusal.of(format!("log in at GitHub for {}", self.scope)))
    }

    /// Asks for one kind of token.
    async fn token(&self, kind: &str) -> Result<RunnerToken, PortError> {
        let path = format!("{}/actions/runners/{kind}", self.scope.path());
        let answer = async {
            let needs = self.scope.permission();
            let response = self.send(Method::POST, path, needs).await?;
            response.json().await.map_err(Refusal::Answer)
        };
        match answer.await {
            Ok(TokenAnswer { token, expires_at }) => {
                self.masks.hide(&token);
                Ok(RunnerToken { token, expires_at })
            }
            Err(refusal) => Err(refusal.of(format!("get a {kind} for {}", self.scope))),
        }
    }

    async fn send(
        &self,
        method: Method,
        path: String,
        needs: &'static str,
    ) -> Result<Response, Refusal> {
        let bearer = self.session.bearer(&self.api, &self.scope).await?;
        self.api
            .send(Ask {
                method,
                path,
                bearer: Some(&bearer),
                needs,
            })
            .await
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

    async fn runners(&self) -> Result<Vec<ForgeRunner>, PortError> {
        self.list_runners()
            .await
            .map_err(|refusal| refusal.of(format!("list the runners of {}", self.scope)))
    }

    async fn delete_runner(&self, id: u64) -> Result<Deleted, PortError> {
        self.delete(id)
            .await
            .map_err(|refusal| refusal.of(format!("delete runner {id} of {}", self.scope)))
    }

    async fn run(&self, repository: Option<&str>, run: &RunId) -> Result<RunState, PortError> {
        self.run_state(repository, run)
            .await
            .map_err(|refusal| refusal.of(format!("ask where run {run} stands")))
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
        let token = Credentials::Token(Secret::new("hush"));
        let forge = GithubForge::new("https://api.github.com/", scope, token, Masks::Off, clock);
        let shown = format!("{forge:?}");
        assert!(!shown.contains("hush"), "{shown}");
        assert!(shown.contains("https://api.github.com\""), "{shown}");
    }
}
