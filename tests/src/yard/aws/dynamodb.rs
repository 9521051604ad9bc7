//! DynamoDB: dynoxide in memory, at home in the yard's region and account.

use std::io;

use axum::body::Body;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use dynoxide::Database;
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
}

impl Dynamodb {
    pub(super) async fn open(
        settings: &Settings,
        shutdown: &CancellationToken,
        tasks: &TaskTracker,
    ) -> io::Result<Self> {
        let database = Database::memory().map_err(|error| io::Error::other(error.to_string()))?;
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let forward = Forward::to(&format!("http://{}", listener.local_addr()?))?;
        let shutdown = shutdown.clone();
        tasks.spawn(async move {
            let stopped = shutdown.cancelled_owned();
            let served = dynoxide::server::serve_with_shutdown(listener, database, stopped).await;
            if let Err(error) = served {
                tracing::warn!(%error, "DynamoDB broke");
            }
        });
        let home = format!("arn:aws:dynamodb:{}:{}:", settings.region, settings.account);
        Ok(Self { forward, home })
    }

    pub(super) async fn answer(&self, mut request: Request) -> Response {
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

fn replace(body: &axum::body::Bytes, from: &str, to: &str) -> axum::body::Bytes {
    match std::str::from_utf8(body) {
        Ok(text) if text.contains(from) => text.replace(from, to).into(),
        Ok(_) | Err(_) => body.clone(),
    }
}
