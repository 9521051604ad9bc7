//! One call of GitHub's REST API: answered, refused with words, repeated where that may help, and
//! its limits waited for.

use std::{fmt, sync::Arc, time::Duration};

use proto::{
    instance::Secret,
    time::{Clock, Time, apart, human},
};
use reqwest::{Client, Method, Response, StatusCode, header::HeaderMap};
use serde::Deserialize;
use tokio::sync::OnceCell;

use super::{
    limit::{Patience, sent_at, wanted_pause},
    refusal::Refusal,
};

/// How long one call may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Before a call that GitHub fell over is repeated, once.
const BREATH: Duration = Duration::from_millis(500);
/// Clocks that differ by less are no reason to refuse an app's claims.
const TOLERATED: Duration = Duration::from_secs(30);
/// What is shown of an answer that is not GitHub's own form.
const SHOWN: usize = 200;

/// A GitHub.
pub(super) struct Api {
    base: String,
    client: OnceCell<Client>,
    clock: Arc<dyn Clock>,
    patience: Patience,
}

impl fmt::Debug for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Api")
            .field("base", &self.base)
            .finish_non_exhaustive()
    }
}

/// One call.
#[derive(Clone, Debug)]
pub(super) struct Ask<'a> {
    pub(super) method: Method,
    /// Below the API's root, with its query.
    pub(super) path: String,
    /// Who asks; without it, anybody.
    pub(super) bearer: Option<&'a Secret>,
    /// The permission that it takes, in words.
    pub(super) needs: &'static str,
}

#[derive(Deserialize)]
struct ErrorAnswer {
    message: String,
}

impl Api {
    /// GitHub at `base` (`https://api.github.com`, or a server's `https://host/api/v3`).
    pub(super) fn new(base: &str, clock: Arc<dyn Clock>) -> Self {
        Self {
            base: base.trim_end_matches('/').to_owned(),
            client: OnceCell::new(),
            clock,
            patience: Patience::default(),
        }
    }

    /// The present.
    pub(super) fn now(&self) -> Time {
        self.clock.now()
    }

    /// Asks until there is an answer, or no sense in asking on.
    pub(super) async fn send(&self, ask: Ask<'_>) -> Result<Response, Refusal> {
        let mut repeated = false;
        loop {
            let refusal = match self.once(&ask).await {
                Ok(response) => return Ok(response),
                Err(refusal) => refusal,
            };
            let (method, path) = (&ask.method, &ask.path);
            let granted = if let Refusal::Limited { pause, .. } = &refusal {
                self.patience.grant(*pause)
            } else {
                None
            };
            let pause = match (&refusal, granted) {
                (Refusal::Limited { message, .. }, Some(pause)) => {
                    let told = human(pause);
                    tracing::warn!("{method} {path}: {message}; waiting {told} for GitHub");
                    pause
                }
                (refusal, _) if refusal.may_pass() && !repeated => {
                    repeated = true;
                    tracing::warn!("{method} {path} once more: {refusal}");
                    BREATH
                }
                _ => return Err(refusal),
            };
            tokio::time::sleep(pause).await;
        }
    }

    async fn once(&self, ask: &Ask<'_>) -> Result<Response, Refusal> {
        let client = self.client.get_or_try_init(client).await?;
        let mut request = client
            .request(ask.method.clone(), format!("{}/{}", self.base, ask.path))
            .header("Accept", "application/vnd.github+json")
            .header("X-GitHub-Api-Version", "2022-11-28");
        if let Some(bearer) = ask.bearer {
            request = request.bearer_auth(bearer.expose());
        }
        let response = request.send().await.map_err(Refusal::Transport)?;
        if response.status().is_success() {
            Ok(response)
        } else {
            Err(self.refusal(response, ask.needs).await)
        }
    }

    async fn refusal(&self, response: Response, needs: &'static str) -> Refusal {
        let status = response.status();
        let headers = response.headers().clone();
        let body = response.text().await.unwrap_or_default();
        let message = serde_json::from_str::<ErrorAnswer>(&body).map_or_else(
            |_| body.trim().chars().take(SHOWN).collect(),
            |answer| answer.message,
        );
        let code = status.as_u16();
        if let Some(pause) = wanted_pause(status, &headers, &message, self.now()) {
            return Refusal::Limited {
                status: code,
                message,
                pause,
            };
        }
        match status {
            StatusCode::UNAUTHORIZED => match off(&headers, &message, self.now()) {
                Some(off) => Refusal::Clock(off),
                None => Refusal::Token(message),
            },
            StatusCode::FORBIDDEN | StatusCode::NOT_FOUND => Refusal::Permission {
                status: code,
                message,
                needs,
            },
            _ => Refusal::Other {
                status: code,
                message,
            },
        }
    }
}

/// How far this machine's clock is off, if GitHub refused an app's claims for their times.
fn off(headers: &HeaderMap, message: &str, here: Time) -> Option<String> {
    let about_time = message.contains("('iat')") || message.contains("('exp')");
    let there = sent_at(headers).filter(|_| about_time)?;
    let off = here.since(there).max(there.since(here));
    (off > TOLERATED).then(|| apart(here, there, "GitHub"))
}

async fn client() -> Result<Client, Refusal> {
    Client::builder()
        .user_agent("paddock")
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(CALL_TIMEOUT)
        .build()
        .map_err(Refusal::Transport)
}
