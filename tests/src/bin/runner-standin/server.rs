//! The stand-in's side of the conversation with the yard's GitHub.

use std::time::Duration;

use ::tests::yard::github::wire::{
    Acquire, Finish, JobId, JobMessage, OpenSession, Progress, ProgressAnswer, Refusal, Register,
    Registered, Remove, SessionOpened,
};
use reqwest::{Client, RequestBuilder, Response, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Longer than the server holds a poll.
const TIMEOUT: Duration = Duration::from_secs(15);

/// Attempts to tell GitHub how a job ended; GitHub gives up on the runner later than that.
const FINISH_ATTEMPTS: u32 = 20;

/// Pause between two of them.
const FINISH_RETRY: Duration = Duration::from_millis(200);

/// The host and the scope behind `--url`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) host: String,
    pub(crate) scope: String,
}

impl Address {
    /// `http://host/owner/repo` or `http://host/owner`.
    pub(crate) fn parse(url: &str) -> Option<Self> {
        let (scheme, rest) = url.split_once("://")?;
        let (host, scope) = rest.trim_end_matches('/').split_once('/')?;
        (matches!(scheme, "http" | "https") && (1..=2).contains(&scope.split('/').count())).then(
            || Self {
                host: format!("{scheme}://{host}"),
                scope: scope.to_owned(),
            },
        )
    }
}

/// Why GitHub did not do it.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It refuses, for a reason.
    Refused(StatusCode, String),
    /// It is not there or in trouble.
    Trouble(String),
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Refused(status, message) => write!(f, "Http response code: {status}: {message}"),
            Self::Trouble(message) => f.write_str(message),
        }
    }
}

impl Failure {
    pub(crate) fn is(&self, wanted: StatusCode) -> bool {
        matches!(self, Self::Refused(status, _) if *status == wanted)
    }
}

impl From<reqwest::Error> for Failure {
    fn from(error: reqwest::Error) -> Self {
        Self::Trouble(error.to_string())
    }
}

/// GitHub, as a runner reaches it.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    host: String,
    client: Client,
}

impl Server {
    pub(crate) fn new(host: &str) -> Result<Self, Failure> {
        // Some provider has to be there although only plain HTTP is spoken; a
        // second installation changes nothing.
        let _ = rustls::crypto::ring::default_provider().install_default();
        Ok(Self {
            host: host.to_owned(),
            client: Client::builder().no_proxy().timeout(TIMEOUT).build()?,
        })
    }

    pub(crate) async fn register(&self, request: &Register) -> Result<Registered, Failure> {
        answer(self.post("register", request)).await
    }

    pub(crate) async fn remove(&self, request: &Remove) -> Result<(), Failure> {
        send(self.post("remove", request)).await.map(drop)
    }

    pub(crate) async fn open_session(
        &self,
        request: &OpenSession,
    ) -> Result<SessionOpened, Failure> {
        answer(self.post("sessions", request)).await
    }

    pub(crate) async fn close_session(&self, session: &str) -> Result<(), Failure> {
        let url = format!("{}/_runner/sessions/{session}", self.host);
        send(self.client.delete(url)).await.map(drop)
    }

    /// Waits for a job; `None` when the long poll ran out.
    pub(crate) async fn poll(&self, session: &str) -> Result<Option<JobMessage>, Failure> {
        let url = format!("{}/_runner/sessions/{session}/message", self.host);
        let response = send(self.client.get(url)).await?;
        if response.status() == StatusCode::NO_CONTENT {
            return Ok(None);
        }
        Ok(Some(response.json().await?))
    }

    pub(crate) async fn acquire(&self, job: JobId, session_id: &str) -> Result<(), Failure> {
        let body = Acquire {
            session_id: session_id.to_owned(),
        };
        send(self.post(&format!("jobs/{job}/acquire"), &body))
            .await
            .map(drop)
    }

    pub(crate) async fn progress(
        &self,
        job: JobId,
        body: &Progress,
    ) -> Result<ProgressAnswer, Failure> {
        answer(self.post(&format!("jobs/{job}/progress"), body)).await
    }

    /// Tells how a job ended, unless it is somebody else's by now, or GitHub in trouble for long.
    pub(crate) async fn finish_surely(&self, job: JobId, body: &Finish) {
        for _ in 0..FINISH_ATTEMPTS {
            match send(self.post(&format!("jobs/{job}/finish"), body)).await {
                Ok(_) | Err(Failure::Refused(..)) => return,
                Err(Failure::Trouble(_)) => tokio::time::sleep(FINISH_RETRY).await,
            }
        }
    }

    fn post(&self, path: &str, body: &impl Serialize) -> RequestBuilder {
        self.client
            .post(format!("{}/_runner/{path}", self.host))
            .json(body)
    }
}

async fn send(request: RequestBuilder) -> Result<Response, Failure> {
    let response = request.send().await?;
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let text = response.text().await?;
    let message = serde_json::from_str::<Refusal>(&text).map_or(text, |refusal| refusal.message);
    if status.is_server_error() {
        Err(Failure::Trouble(format!("{status}: {message}")))
    } else {
        Err(Failure::Refused(status, message))
    }
}

async fn answer<T: DeserializeOwned>(request: RequestBuilder) -> Result<T, Failure> {
    Ok(send(request).await?.json().await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_a_repository_or_an_organisation() {
        let address = Address::parse("http://127.0.0.1:80/acme/widgets/").unwrap();
        assert_eq!(address.host, "http://127.0.0.1:80");
        assert_eq!(address.scope, "acme/widgets");
        assert_eq!(Address::parse("https://x/acme").unwrap().scope, "acme");
        assert_eq!(Address::parse("https://x"), None);
        assert_eq!(Address::parse("https://x/a/b/c"), None);
    }
}
