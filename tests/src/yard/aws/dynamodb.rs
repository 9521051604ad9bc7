//! DynamoDB: dynoxide in memory, at home in the yard's region and account.

use std::collections::BTreeSet;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use dynoxide::Database;
use serde::Deserialize;
use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Settings;
use super::forward::Forward;
use super::service::Request;

/// Where dynoxide says that its tables are. A machine's key is made of its table's region and
/// account, so they have to be those of the machines.
const ELSEWHERE: &str = "arn:aws:dynamodb:dynoxide:000000000000:";

/// A DynamoDB of its own, on a port of its own.
pub(super) struct Dynamodb {
    forward: Forward,
    home: String,
    /// Tables that can be recovered as of any time; dynoxide knows no backups.
    recoverable: Mutex<BTreeSet<String>>,
}

impl Dynamodb {
    pub(super) async fn open(
        settings: &Settings,
        shutdown: &CancellationToken,
        tasks: &TaskTracker,
    ) -> io::Result<Self> {
        let database = Database::memory().map_err(|error| io::Error::other(error.to_string()))?;
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let forward = Forward::to(&format!("http://{}", listener.local_addr()?), None)?;
        let shutdown = shutdown.clone();
        tasks.spawn(async move {
            let stopped = shutdown.cancelled_owned();
            let served = dynoxide::server::serve_with_shutdown(listener, database, stopped).await;
            if let Err(error) = served {
                tracing::warn!(%error, "DynamoDB broke");
            }
        });
        let home = format!("arn:aws:dynamodb:{}:{}:", settings.region, settings.account);
        Ok(Self {
            forward,
            home,
            recoverable: Mutex::default(),
        })
    }

    pub(super) async fn answer(&self, request: Request) -> Response {
        match request.action.as_str() {
            "DescribeContinuousBackups" | "UpdateContinuousBackups" => self.backups(request).await,
            "DeleteTable" => {
                if let Ok(Backups { table, .. }) = serde_json::from_slice(&request.body) {
                    self.recoverable().remove(&table);
                }
                self.ask(request).await
            }
            _ => self.ask(request).await,
        }
    }

    fn recoverable(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.recoverable
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Point-in-time recovery, of a table that exists.
    async fn backups(&self, mut request: Request) -> Response {
        let asked: Backups = match serde_json::from_slice(&request.body) {
            Ok(asked) => asked,
            Err(error) => {
                let words = error.to_string();
                return request.refuse(StatusCode::BAD_REQUEST, "SerializationException", &words);
            }
        };
        request.body = json!({ "TableName": asked.table }).to_string().into();
        let target = HeaderValue::from_static("DynamoDB_20120810.DescribeTable");
        request.headers.insert("x-amz-target", target);
        if !self.ask(request.clone()).await.status().is_success() {
            let words = format!("Table not found: {}", asked.table);
            return request.refuse(StatusCode::BAD_REQUEST, "TableNotFoundException", &words);
        }
        let mut recoverable = self.recoverable();
        match asked.wanted.map(|wanted| wanted.enabled) {
            Some(true) => _ = recoverable.insert(asked.table.clone()),
            Some(false) => _ = recoverable.remove(&asked.table),
            None => {}
        }
        let status = if recoverable.contains(&asked.table) {
            "ENABLED"
        } else {
            "DISABLED"
        };
        let body = json!({ "ContinuousBackupsDescription": {
            "ContinuousBackupsStatus": "ENABLED",
            "PointInTimeRecoveryDescription": { "PointInTimeRecoveryStatus": status },
        } });
        (
            [(header::CONTENT_TYPE, "application/x-amz-json-1.0")],
            body.to_string(),
        )
            .into_response()
    }

    async fn ask(&self, mut request: Request) -> Response {
        request.body = replace(&request.body, &self.home, ELSEWHERE);
        match self.forward.try_send(&request).await {
            Ok((status, mut headers, body)) => {
                // It is the sum of the body as it was.
                headers.remove("x-amz-crc32");
                headers.remove(header::CONTENT_LENGTH);
                let body = replace(&body, ELSEWHERE, &self.home);
                (status, headers, Body::from(body)).into_response()
            }
            Err(error) => request.refuse(
                StatusCode::BAD_GATEWAY,
                "ServiceUnavailable",
                &error.to_string(),
            ),
        }
    }
}

/// What the calls about backups ask.
#[derive(Deserialize)]
struct Backups {
    #[serde(rename = "TableName")]
    table: String,
    #[serde(rename = "PointInTimeRecoverySpecification")]
    wanted: Option<Recovery>,
}

#[derive(Deserialize)]
struct Recovery {
    #[serde(rename = "PointInTimeRecoveryEnabled")]
    enabled: bool,
}

fn replace(body: &axum::body::Bytes, from: &str, to: &str) -> axum::body::Bytes {
    match std::str::from_utf8(body) {
        Ok(text) if text.contains(from) => text.replace(from, to).into(),
        Ok(_) | Err(_) => body.clone(),
    }
}
