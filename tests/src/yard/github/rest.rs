//! The REST API: what Paddock's controller calls.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::{FromRequestParts, Path, Query, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router, middleware};
use serde::Deserialize;
use serde_json::{Value, json};

use super::runners::{Refused, RunnerView};
use super::shared::Shared;
use super::state::TokenUse;
use super::{apps, calls, download, shapes};

/// Labels that the runner gives itself; the API calls them read-only.
const OWN_LABELS: [&str; 3] = ["self-hosted", "Linux", "X64"];

pub(super) fn router(shared: &Arc<Shared>) -> Router<Arc<Shared>> {
    let mut router = Router::new()
        .route(
            "/app/installations/{id}/access_tokens",
            post(apps::access_token),
        )
        .route("/repos/{owner}/{repo}/actions/runs/{id}", get(run))
        .route("/repos/actions/runner/releases", get(download::releases))
        .route(
            "/repos/actions/runner/releases/latest",
            get(download::latest_release),
        );
    for scope in ["/repos/{owner}/{repo}", "/orgs/{org}"] {
        let runners = format!("{scope}/actions/runners");
        router = router
            .route(&format!("{scope}/installation"), get(apps::installation))
            .route(&runners, get(list))
            .route(&format!("{runners}/registration-token"), post(registration))
            .route(&format!("{runners}/remove-token"), post(removal))
            .route(&format!("{runners}/downloads"), get(downloads))
            .route(&format!("{runners}/{{id}}"), get(one).delete(delete));
    }
    router
        .layer(middleware::from_fn_with_state(
            Arc::clone(shared),
            calls::outage,
        ))
        .layer(middleware::from_fn_with_state(
            Arc::clone(shared),
            calls::record,
        ))
}

/// An answer that is none, in GitHub's form.
pub(super) struct Problem(StatusCode, String);

impl Problem {
    pub(super) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self(status, message.into())
    }

    pub(super) fn fault(status: StatusCode) -> Self {
        Self::new(status, status.canonical_reason().unwrap_or("Error"))
    }

    pub(super) fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "Not Found")
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut body = json!({
            "message": self.1,
            "documentation_url": "https://docs.github.com/rest",
        });
        // GitHub's description has it in each error but this one.
        if self.0 != StatusCode::UNPROCESSABLE_ENTITY {
            body["status"] = json!(self.0.as_u16().to_string());
        }
        (self.0, Json(body)).into_response()
    }
}

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Unknown => Self::not_found(),
            Refused::Busy(name) => Self::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                format!("Bad request - Runner \"{name}\" is still running a job\""),
            ),
            Refused::Taken => Self::new(StatusCode::CONFLICT, "Already exists"),
        }
    }
}

/// `owner/repo` or the organisation of the path, once the caller's token was
/// found good for it. What a token cannot reach does not exist.
struct Scope(String);

impl FromRequestParts<Arc<Shared>> for Scope {
    type Rejection = Problem;

    async fn from_request_parts(
        parts: &mut Parts,
        shared: &Arc<Shared>,
    ) -> Result<Self, Self::Rejection> {
        authenticate(&parts.headers, shared)?;
        let Path(path): Path<HashMap<String, String>> = Path::from_request_parts(parts, shared)
            .await
            .map_err(|_| Problem::not_found())?;
        let scope = scope_of(&path).ok_or_else(Problem::not_found)?;
        if shared.quietly(|state| state.knows(&scope)) {
            Ok(Self(scope))
        } else {
            Err(Problem::not_found())
        }
    }
}

/// `owner/repo`, or the organisation.
pub(super) fn scope_of(path: &HashMap<String, String>) -> Option<String> {
    match (path.get("org"), path.get("owner"), path.get("repo")) {
        (Some(org), _, _) => Some(org.clone()),
        (None, Some(owner), Some(repo)) => Some(format!("{owner}/{repo}")),
        (None, _, _) => None,
    }
}

fn authenticate(headers: &HeaderMap, shared: &Shared) -> Result<(), Problem> {
    let unauthorized = |message| Err(Problem::new(StatusCode::UNAUTHORIZED, message));
    let Some(given) = headers.get(header::AUTHORIZATION) else {
        return unauthorized("Requires authentication");
    };
    let token = given.to_str().ok().and_then(|value| {
        value
            .strip_prefix("Bearer ")
            .or_else(|| value.strip_prefix("token "))
    });
    if shared.quietly(|state| token.is_some_and(|token| state.admits(token, Instant::now()))) {
        Ok(())
    } else {
        unauthorized("Bad credentials")
    }
}

/// The `{id}` of the path.
#[derive(Deserialize)]
struct Id {
    id: u64,
}

#[derive(Deserialize)]
struct Selection {
    per_page: Option<usize>,
    page: Option<usize>,
    name: Option<String>,
}

fn token_answer(shared: &Shared, scope: &str, usage: TokenUse) -> (StatusCode, Json<Value>) {
    let (token, expires_at) = shared.update(|state| state.issue_token(scope, usage));
    let body = json!({ "token": token, "expires_at": format!("{expires_at:.3}") });
    (StatusCode::CREATED, Json(body))
}

async fn registration(
    Scope(scope): Scope,
    State(shared): State<Arc<Shared>>,
) -> (StatusCode, Json<Value>) {
    token_answer(&shared, &scope, TokenUse::Registration)
}

async fn removal(
    Scope(scope): Scope,
    State(shared): State<Arc<Shared>>,
) -> (StatusCode, Json<Value>) {
    token_answer(&shared, &scope, TokenUse::Remove)
}

async fn list(
    Scope(scope): Scope,
    State(shared): State<Arc<Shared>>,
    Query(wanted): Query<Selection>,
) -> Json<Value> {
    let runners: Vec<RunnerView> = shared
        .quietly(|state| state.runner_views(Instant::now()))
        .into_iter()
        .filter(|runner| runner.scope.eq_ignore_ascii_case(&scope))
        .filter(|runner| wanted.name.as_ref().is_none_or(|name| *name == runner.name))
        .collect();
    let size = wanted.per_page.unwrap_or(30).clamp(1, 100);
    let skipped = wanted.page.unwrap_or(1).max(1).saturating_sub(1) * size;
    let shown: Vec<Value> = runners
        .iter()
        .skip(skipped)
        .take(size)
        .map(runner_json)
        .collect();
    Json(json!({ "total_count": runners.len(), "runners": shown }))
}

async fn one(
    Scope(scope): Scope,
    State(shared): State<Arc<Shared>>,
    Path(Id { id }): Path<Id>,
) -> Result<Json<Value>, Problem> {
    find(&shared, &scope, id).map(|runner| Json(runner_json(&runner)))
}

async fn delete(
    Scope(scope): Scope,
    State(shared): State<Arc<Shared>>,
    Path(Id { id }): Path<Id>,
) -> Result<StatusCode, Problem> {
    find(&shared, &scope, id)?;
    shared.update(|state| state.runners.delete(id))?;
    Ok(StatusCode::NO_CONTENT)
}

fn find(shared: &Shared, scope: &str, id: u64) -> Result<RunnerView, Problem> {
    shared
        .quietly(|state| state.runner_views(Instant::now()))
        .into_iter()
        .find(|runner| runner.id == id && runner.scope.eq_ignore_ascii_case(scope))
        .ok_or_else(Problem::not_found)
}

fn runner_json(runner: &RunnerView) -> Value {
    let labels: Vec<Value> = (1_u64..)
        .zip(&runner.labels)
        .map(|(id, name)| {
            let own = OWN_LABELS.contains(&name.as_str());
            json!({ "id": id, "name": name, "type": if own { "read-only" } else { "custom" } })
        })
        .collect();
    json!({
        "id": runner.id,
        "name": runner.name,
        "os": "Linux",
        "status": if runner.online { "online" } else { "offline" },
        "busy": runner.busy,
        "ephemeral": runner.ephemeral,
        "labels": labels,
    })
}

async fn downloads(
    Scope(_): Scope,
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
) -> Result<Json<Value>, Problem> {
    download::list(&shared, &headers).await
}

async fn run(
    Scope(scope): Scope,
    State(shared): State<Arc<Shared>>,
    Path(Id { id }): Path<Id>,
    headers: HeaderMap,
) -> Result<Json<Value>, Problem> {
    let run = shared
        .quietly(|state| state.runs.get(&id).cloned())
        .filter(|run| run.repository.eq_ignore_ascii_case(&scope))
        .ok_or_else(Problem::not_found)?;
    Ok(Json(shapes::run(&shapes::origin(&headers), &run)))
}
