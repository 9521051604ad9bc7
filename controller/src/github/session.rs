//! Who asks GitHub: a personal access token, or a GitHub App by the token of its installation.

use proto::{instance::Secret, time::Time};
use reqwest::{Method, StatusCode};
use serde::Deserialize;
use tokio::sync::Mutex;

use super::{
    Scope, TokenAnswer,
    api::{Api, Ask},
    app::App,
    refusal::Refusal,
};
use crate::output::Masks;

/// What proves to GitHub who asks. Neither is ever shown.
#[derive(Clone, Debug)]
pub enum Credentials {
    /// A personal access token.
    Token(Secret),
    /// A GitHub App.
    App(App),
}

/// The token of an app's installation.
#[derive(Clone, Debug)]
struct Installed {
    token: Secret,
    obtained_at: Time,
    expires_at: Time,
}

impl Installed {
    fn is_half_over(&self, now: Time) -> bool {
        now.since(self.obtained_at) * 2 >= self.expires_at.since(self.obtained_at)
    }
}

/// A command's dealings with GitHub.
#[derive(Debug)]
pub(super) struct Session {
    credentials: Credentials,
    /// Kept until half of its life is over.
    installed: Mutex<Option<Installed>>,
    masks: Masks,
}

#[derive(Deserialize)]
struct InstallationAnswer {
    id: u64,
}

impl Session {
    pub(super) fn new(credentials: Credentials, masks: Masks) -> Self {
        Self {
            credentials,
            installed: Mutex::new(None),
            masks,
        }
    }

    /// What to ask with.
    pub(super) async fn bearer(&self, api: &Api, scope: &Scope) -> Result<Secret, Refusal> {
        match &self.credentials {
            Credentials::Token(token) => Ok(token.clone()),
            Credentials::App(app) => {
                let mut installed = self.installed.lock().await;
                let now = api.now();
                if let Some(known) = installed.as_ref().filter(|known| !known.is_half_over(now)) {
                    return Ok(known.token.clone());
                }
                let new = install(app, api, scope, self.masks).await?;
                Ok(installed.insert(new).token.clone())
            }
        }
    }
}

/// Finds the app's installation on the scope and gets a token of it.
async fn install(app: &App, api: &Api, scope: &Scope, masks: Masks) -> Result<Installed, Refusal> {
    let obtained_at = api.now();
    let claims = app
        .claims(obtained_at)
        .map_err(|_| Refusal::Key("it cannot sign".into()))?;
    masks.hide(&claims);
    let ask = |method, path| Ask {
        method,
        path,
        bearer: Some(&claims),
        needs: scope.permission(),
    };
    let found = api
        .send(ask(Method::GET, format!("{}/installation", scope.path())))
        .await
        .map_err(|refusal| match refusal {
            Refusal::Permission { status, .. } if status == StatusCode::NOT_FOUND.as_u16() => {
                Refusal::NotInstalled {
                    app: app.id().to_owned(),
                    scope: scope.to_string(),
                    needs: scope.permission(),
                }
            }
            refusal => of_key(refusal),
        })?;
    let InstallationAnswer { id } = found.json().await.map_err(Refusal::Answer)?;
    let path = format!("app/installations/{id}/access_tokens");
    let answer = api.send(ask(Method::POST, path)).await.map_err(of_key)?;
    let TokenAnswer { token, expires_at } = answer.json().await.map_err(Refusal::Answer)?;
    masks.hide(&token);
    Ok(Installed {
        token,
        obtained_at,
        expires_at,
    })
}

/// What GitHub refuses here is what the key signed.
fn of_key(refusal: Refusal) -> Refusal {
    match refusal {
        Refusal::Token(message) => Refusal::Key(message),
        refusal => refusal,
    }
}
