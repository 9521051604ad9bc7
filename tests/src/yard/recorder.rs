//! Writes down what callers and the yard say to each other, for [`crate::truth`] to judge.

use std::fs::{File, OpenOptions, create_dir_all};
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::{Body, to_bytes};
use axum::http::HeaderMap;
use axum::response::Response;
use serde::Serialize;

/// Tests that find this in their environment write all that their yards hear and say into that
/// folder.
const FOLDER: &str = "PADDOCK_RECORD";
/// Nothing that is said here is larger.
pub(super) const MAX_BODY: usize = 16 << 20;

/// Where exchanges are written to, if anywhere; clones write to the same place.
#[derive(Clone, Debug, Default)]
pub struct Recorder(Option<Arc<Mutex<File>>>);

/// A request and its answer.
#[derive(Debug, Default, Serialize)]
pub(super) struct Exchange {
    host: Host,
    /// AWS alone: `ec2`, `sqs` …
    service: String,
    /// AWS alone: such as `CreateFleet`.
    action: String,
    target: String,
    method: String,
    path: String,
    content_type: String,
    user_agent: String,
    body: String,
    /// 0 when the connection was cut.
    status: u16,
    answer: String,
    answer_type: String,
}

#[derive(Clone, Copy, Debug, Default, Serialize)]
#[serde(rename_all = "lowercase")]
enum Host {
    #[default]
    Aws,
    GitHub,
}

impl Exchange {
    /// A call of AWS that is still without an answer.
    pub(super) fn aws(service: &str, action: &str, request: &Heard<'_>) -> Self {
        Self {
            service: service.to_owned(),
            action: action.to_owned(),
            ..Self::new(Host::Aws, request)
        }
    }

    /// A call of GitHub that is still without an answer.
    pub(super) fn github(request: &Heard<'_>) -> Self {
        Self::new(Host::GitHub, request)
    }

    fn new(host: Host, request: &Heard<'_>) -> Self {
        Self {
            host,
            target: text(request.headers, "x-amz-target"),
            method: request.method.to_owned(),
            path: request.path.to_owned(),
            content_type: text(request.headers, "content-type"),
            user_agent: text(request.headers, "user-agent"),
            body: String::from_utf8_lossy(request.body).into_owned(),
            ..Self::default()
        }
    }
}

/// A request as it came.
#[derive(Debug)]
pub(super) struct Heard<'a> {
    pub(super) method: &'a str,
    pub(super) path: &'a str,
    pub(super) headers: &'a HeaderMap,
    pub(super) body: &'a [u8],
}

fn text(headers: &HeaderMap, name: &str) -> String {
    let value = headers.get(name).and_then(|value| value.to_str().ok());
    value.unwrap_or_default().to_owned()
}

impl Recorder {
    /// One that writes to this file.
    ///
    /// # Errors
    ///
    /// When it cannot be made.
    pub fn to(file: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(file)?;
        Ok(Self(Some(Arc::new(Mutex::new(file)))))
    }

    /// One as the environment asks for it.
    ///
    /// # Errors
    ///
    /// When the folder or the file cannot be made.
    pub(super) fn from_environment(world: &str) -> io::Result<Self> {
        let Some(folder) = std::env::var_os(FOLDER) else {
            return Ok(Self::default());
        };
        create_dir_all(&folder)?;
        Self::to(&Path::new(&folder).join(format!("{world}.jsonl")))
    }

    pub(super) fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Adds an answered exchange. The answer comes back as it was.
    pub(super) async fn answered(&self, mut exchange: Exchange, response: Response) -> Response {
        let (parts, body) = response.into_parts();
        let body = to_bytes(body, MAX_BODY).await.unwrap_or_default();
        exchange.status = parts.status.as_u16();
        exchange.answer = String::from_utf8_lossy(&body).into_owned();
        exchange.answer_type = text(&parts.headers, "content-type");
        self.write(&exchange);
        Response::from_parts(parts, Body::from(body))
    }

    /// Adds one as it is.
    pub(super) fn write(&self, exchange: &Exchange) {
        let Some(file) = &self.0 else { return };
        let line = serde_json::to_string(exchange).map(|line| line + "\n");
        let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
        let written = line
            .map_err(io::Error::other)
            .and_then(|line| file.write_all(line.as_bytes()));
        if let Err(error) = written {
            tracing::error!(%error, "an exchange is not recorded");
        }
    }
}
