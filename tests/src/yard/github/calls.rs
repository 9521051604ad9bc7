//! The log of REST calls, and faults on demand.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;

use super::rest::Problem;
use super::shared::Shared;
use crate::yard::clock;

/// One REST call that was answered.
#[derive(Clone, Debug)]
pub struct Call {
    /// When it came.
    pub at: Timestamp,
    /// `GET`, `POST` …
    pub method: String,
    /// Path and query.
    pub path: String,
    /// Status of the answer.
    pub status: u16,
}

/// What goes wrong on purpose.
#[derive(Debug, Default)]
pub(super) struct Faults {
    /// Statuses for the next calls, one each.
    pub(super) next: VecDeque<StatusCode>,
    /// Every call is delayed by this.
    pub(super) latency: Duration,
    /// Nothing works, for runners neither.
    pub(super) down: bool,
}

/// Writes the log and lets the faults happen.
pub(super) async fn record(
    State(shared): State<Arc<Shared>>,
    request: Request,
    next: Next,
) -> Response {
    let at = clock::now();
    let method = request.method().to_string();
    let path = request
        .uri()
        .path_and_query()
        .map_or_else(String::new, ToString::to_string);
    let (latency, fault) = shared.quietly(|state| {
        let faults = &mut state.faults;
        (faults.latency, faults.next.pop_front())
    });
    tokio::time::sleep(latency).await;
    let response = match fault {
        Some(status) => Problem::fault(status).into_response(),
        None => next.run(request).await,
    };
    let status = response.status().as_u16();
    shared.quietly(|state| {
        state.calls.push(Call {
            at,
            method,
            path,
            status,
        });
    });
    response
}

/// Answers 503 while GitHub is down.
pub(super) async fn outage(
    State(shared): State<Arc<Shared>>,
    request: Request,
    next: Next,
) -> Response {
    if shared.quietly(|state| state.faults.down) {
        return Problem::fault(StatusCode::SERVICE_UNAVAILABLE).into_response();
    }
    next.run(request).await
}
