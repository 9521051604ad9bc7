//! The log of REST calls, and faults on demand.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::{ConnectInfo, OriginalUri, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{AppendHeaders, IntoResponse, Response};
use jiff::Timestamp;

use super::rest::Problem;
use super::shared::Shared;
use crate::yard::recorder::{Exchange, Heard, MAX_BODY};
use crate::yard::wire::Cut;
use crate::yard::{FaultKind, clock, faults};

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

/// An answer that a test asked for.
#[derive(Clone, Debug)]
pub struct Fault {
    /// Its status.
    pub status: StatusCode,
    /// Its headers, besides the usual ones.
    pub headers: Vec<(&'static str, String)>,
    /// Its message; without one, what the status is called.
    pub message: Option<&'static str>,
}

impl From<StatusCode> for Fault {
    fn from(status: StatusCode) -> Self {
        Self {
            status,
            headers: Vec::new(),
            message: None,
        }
    }
}

impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        let problem = match self.message {
            Some(message) => Problem::new(self.status, message),
            None => Problem::fault(self.status),
        };
        (AppendHeaders(self.headers), problem).into_response()
    }
}

/// What goes wrong on purpose.
#[derive(Debug, Default)]
pub(super) struct Faults {
    /// Answers for the next calls, one each.
    pub(super) next: VecDeque<Fault>,
    /// Calls that go wrong in other ways.
    pub(super) chosen: faults::Faults,
    /// Every call is delayed by this.
    pub(super) latency: Duration,
    /// Nothing works, for runners neither.
    pub(super) down: bool,
    /// Seconds by which GitHub's clock is ahead of this one.
    pub(super) ahead: i64,
}

/// Writes the log and lets the faults happen.
pub(super) async fn record(
    State(shared): State<Arc<Shared>>,
    request: Request,
    next: Next,
) -> Response {
    let at = clock::now();
    let method = request.method().to_string();
    // Below a prefix the router has cut it off.
    let original = request.extensions().get::<OriginalUri>();
    let path = original
        .map_or(request.uri(), |OriginalUri(whole)| whole)
        .path_and_query()
        .map_or_else(String::new, ToString::to_string);
    let recorder = shared.quietly(|state| state.settings.recorder.clone());
    let (request, exchange) = if recorder.is_on() {
        let (request, exchange) = hear(request, &method, &path).await;
        (request, Some(exchange))
    } else {
        (request, None)
    };
    let (latency, fault, chosen) = shared.quietly(|state| {
        let faults = &mut state.faults;
        let action = format!("{method} {path}");
        let chosen = faults.chosen.take("github", &action, "");
        (faults.latency, faults.next.pop_front(), chosen)
    });
    tokio::time::sleep(latency).await;
    let mut response = match (chosen, fault) {
        (Some(kind), _) => go_wrong(kind, &shared, request, next).await,
        (None, Some(fault)) => fault.into_response(),
        (None, None) => next.run(request).await,
    };
    let date = shared.now().strftime("%a, %d %b %Y %H:%M:%S GMT");
    if let Ok(date) = HeaderValue::try_from(date.to_string()) {
        response.headers_mut().insert(header::DATE, date);
    }
    let status = response.status().as_u16();
    shared.quietly(|state| {
        state.calls.push(Call {
            at,
            method,
            path,
            status,
        });
    });
    match exchange {
        Some(exchange) => recorder.answered(exchange, response).await,
        None => response,
    }
}

/// Reads the request to its end, for the record.
async fn hear(request: Request, method: &str, path: &str) -> (Request, Exchange) {
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, MAX_BODY).await.unwrap_or_default();
    let exchange = Exchange::github(&Heard {
        method,
        path,
        headers: &parts.headers,
        body: &body,
    });
    (Request::from_parts(parts, Body::from(body)), exchange)
}

/// Lets a call go wrong in the way that was asked for.
async fn go_wrong(kind: FaultKind, shared: &Shared, request: Request, next: Next) -> Response {
    let cut = request.extensions().get::<ConnectInfo<Cut>>().cloned();
    let note = || shared.quietly(|state| state.faults.chosen.note());
    let severed = || {
        note();
        if let Some(ConnectInfo(cut)) = cut {
            cut.cut();
        }
        StatusCode::SERVICE_UNAVAILABLE.into_response()
    };
    match kind {
        FaultKind::Error { status, code: _ } => {
            note();
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            let mut fault = Fault::from(status);
            if status == StatusCode::TOO_MANY_REQUESTS {
                fault.headers.push(("retry-after", "1".to_owned()));
            }
            fault.into_response()
        }
        FaultKind::CutBeforeApplying => severed(),
        FaultKind::CutAfterApplying => {
            next.run(request).await;
            severed()
        }
        FaultKind::Hang => {
            note();
            std::future::pending().await
        }
        FaultKind::HangAfterApplying => {
            next.run(request).await;
            note();
            std::future::pending().await
        }
    }
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
