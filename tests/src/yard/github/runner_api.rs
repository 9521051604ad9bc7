//! What runners talk to. Only the stand-in runner knows these paths.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Json, Router, middleware};

use super::runners::Refused;
use super::state::Polled;
use super::wire::{
    Acquire, Finish, JobId, OpenSession, Progress, ProgressAnswer, Refusal, Register, Remove,
    SessionOpened,
};
use super::{calls, shared::Shared};

/// How long a poll without a job is held. The real one holds 50 s; a shorter
/// one changes nothing but the number of requests.
const POLL: Duration = Duration::from_secs(5);

pub(super) fn router(shared: &Arc<Shared>) -> Router<Arc<Shared>> {
    Router::new()
        .route("/register", post(register))
        .route("/remove", post(remove))
        .route("/sessions", post(open_session))
        .route("/sessions/{session}", delete(close_session))
        .route("/sessions/{session}/message", get(message))
        .route("/jobs/{job}/acquire", post(acquire))
        .route("/jobs/{job}/progress", post(progress))
        .route("/jobs/{job}/finish", post(finish))
        .layer(middleware::from_fn_with_state(
            Arc::clone(shared),
            calls::outage,
        ))
}

fn refusal(status: StatusCode, message: impl Into<String>) -> Response {
    let message = message.into();
    (status, Json(Refusal { message })).into_response()
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        match self {
            Self::Unknown => refusal(
                StatusCode::NOT_FOUND,
                "The runner registration has been deleted",
            ),
            Self::Busy(name) => refusal(
                StatusCode::UNPROCESSABLE_ENTITY,
                format!("Runner \"{name}\" is still running a job"),
            ),
            Self::Taken => refusal(StatusCode::CONFLICT, "Already exists"),
        }
    }
}

async fn register(State(shared): State<Arc<Shared>>, Json(request): Json<Register>) -> Response {
    shared.update(|state| {
        if !state.knows(&request.scope) {
            return refusal(StatusCode::NOT_FOUND, "Not Found");
        }
        if !state.may_register(&request.token, &request.scope) {
            return refusal(
                StatusCode::UNAUTHORIZED,
                "Invalid or expired registration token",
            );
        }
        match state.runners.register(request) {
            Ok(registered) => (StatusCode::CREATED, Json(registered)).into_response(),
            Err(refused) => refused.into_response(),
        }
    })
}

async fn remove(State(shared): State<Arc<Shared>>, Json(request): Json<Remove>) -> Response {
    shared.update(|state| {
        if !state.may_remove(&request.token, &request.scope) {
            return refusal(StatusCode::UNAUTHORIZED, "Invalid or expired remove token");
        }
        match state.runners.delete(request.runner_id) {
            Ok(()) => StatusCode::NO_CONTENT.into_response(),
            Err(refused) => refused.into_response(),
        }
    })
}

async fn open_session(
    State(shared): State<Arc<Shared>>,
    Json(request): Json<OpenSession>,
) -> Response {
    let opened = shared.update(|state| {
        state.runners.open_session(
            request.runner_id,
            &request.credential,
            Instant::now(),
            state.settings.offline_after,
        )
    });
    match opened {
        Ok(session_id) => (StatusCode::CREATED, Json(SessionOpened { session_id })).into_response(),
        Err(refused) => refused.into_response(),
    }
}

async fn close_session(
    State(shared): State<Arc<Shared>>,
    Path(session): Path<String>,
) -> StatusCode {
    shared.update(|state| state.runners.close_session(&session));
    StatusCode::NO_CONTENT
}

/// Keeps a runner online while its poll is open, even when the handler is
/// dropped because the client went away.
struct OpenPoll {
    shared: Arc<Shared>,
    session: String,
}

impl OpenPoll {
    fn begin(shared: &Arc<Shared>, session: &str) -> Self {
        shared.update(|state| state.runners.polling(session, true, Instant::now()));
        Self {
            shared: Arc::clone(shared),
            session: session.to_owned(),
        }
    }
}

impl Drop for OpenPoll {
    fn drop(&mut self) {
        self.shared
            .update(|state| state.runners.polling(&self.session, false, Instant::now()));
    }
}

async fn message(State(shared): State<Arc<Shared>>, Path(session): Path<String>) -> Response {
    let poll = OpenPoll::begin(&shared, &session);
    let found = shared
        .wait(Instant::now() + POLL, |state| {
            match state.poll(&session, Instant::now()) {
                Polled::Nothing => None,
                found @ (Polled::Job(_) | Polled::Gone) => Some(found),
            }
        })
        .await;
    drop(poll);
    match found {
        Some(Polled::Job(job)) => Json(job).into_response(),
        Some(Polled::Gone) => Refused::Unknown.into_response(),
        Some(Polled::Nothing) | None => StatusCode::NO_CONTENT.into_response(),
    }
}

fn not_yours() -> Response {
    refusal(StatusCode::CONFLICT, "The job is not this runner's")
}

async fn acquire(
    State(shared): State<Arc<Shared>>,
    Path(job): Path<u64>,
    Json(request): Json<Acquire>,
) -> Response {
    let now = Instant::now();
    if shared.update(|state| state.acquire(&request.session_id, JobId(job), now)) {
        StatusCode::NO_CONTENT.into_response()
    } else {
        not_yours()
    }
}

async fn progress(
    State(shared): State<Arc<Shared>>,
    Path(job): Path<u64>,
    Json(request): Json<Progress>,
) -> Response {
    let now = Instant::now();
    let known =
        shared.update(|state| state.progress(&request.session_id, JobId(job), &request.log, now));
    match known {
        Some(cancel) => Json(ProgressAnswer { cancel }).into_response(),
        None => not_yours(),
    }
}

async fn finish(
    State(shared): State<Arc<Shared>>,
    Path(job): Path<u64>,
    Json(request): Json<Finish>,
) -> Response {
    let now = Instant::now();
    let done = shared.update(|state| {
        state.finish(
            &request.session_id,
            JobId(job),
            request.conclusion,
            &request.log,
            now,
        )
    });
    if done {
        StatusCode::NO_CONTENT.into_response()
    } else {
        not_yours()
    }
}
