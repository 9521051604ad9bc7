//! The instance metadata service, version 2: one listener per machine.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, put};
use axum::{Json, Router};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::aws::Launch;
use super::clock;

/// Longest life of a session token, as at AWS.
const MAX_TTL: u64 = 21_600;

/// How long before the end AWS gives notice.
const NOTICE: Duration = Duration::from_mins(2);

/// The access key that a machine's role has. It tells which machine calls.
pub fn access_key_of(instance: &str) -> String {
    let hex = instance.strip_prefix("i-").unwrap_or(instance);
    format!("ASIA{}", hex.to_uppercase())
}

/// The machine behind an access key of [`access_key_of`].
pub fn instance_of(access_key: &str) -> Option<String> {
    let hex = access_key.strip_prefix("ASIA")?;
    Some(format!("i-{}", hex.to_lowercase()))
}

/// The metadata service of one machine.
#[derive(Clone)]
pub struct Imds {
    address: SocketAddr,
    shared: Arc<Shared>,
    stopped: CancellationToken,
}

struct Shared {
    launch: Launch,
    state: Mutex<Moving>,
}

/// What changes while the machine lives.
#[derive(Default)]
struct Moving {
    tokens: HashMap<String, Instant>,
    spot_end: Option<Timestamp>,
    rebalance: Option<Timestamp>,
}

impl Shared {
    fn with<R>(&self, visit: impl FnOnce(&mut Moving) -> R) -> R {
        visit(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn role(&self) -> String {
        self.launch
            .instance_profile
            .as_deref()
            .and_then(|profile| profile.rsplit('/').next())
            .unwrap_or("paddock-machine")
            .to_owned()
    }
}

impl Imds {
    /// Serves a machine's metadata on a free port of the loopback interface.
    pub async fn start(launch: Launch) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            launch,
            state: Mutex::default(),
        });
        let app = router(&shared);
        let stopped = CancellationToken::new();
        tokio::spawn(
            stopped
                .clone()
                .run_until_cancelled_owned(async { axum::serve(listener, app).await }),
        );
        Ok(Self {
            address,
            shared,
            stopped,
        })
    }

    /// For `AWS_EC2_METADATA_SERVICE_ENDPOINT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The port alone.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// From now on there is a notice that the machine ends in two minutes. Only a spot machine has
    /// such: `false` for another.
    pub fn interrupt_spot(&self) -> bool {
        self.announce(|state| state.spot_end = Some(clock::now() + NOTICE))
    }

    /// From now on there is a recommendation to rebalance. Only a spot machine has such: `false`
    /// for another.
    pub fn rebalance(&self) -> bool {
        self.announce(|state| state.rebalance = Some(clock::now()))
    }

    fn announce(&self, change: impl FnOnce(&mut Moving)) -> bool {
        let spot = self.shared.launch.spot;
        if spot {
            self.shared.with(change);
        }
        spot
    }

    /// Takes no more connections.
    pub fn stop(&self) {
        self.stopped.cancel();
    }
}

fn router(shared: &Arc<Shared>) -> Router {
    let tags = get(tag_names);
    let roles = get(|State(shared): State<Arc<Shared>>| async move { shared.role() });
    let data = Router::new()
        .route("/meta-data/instance-id", fact(|launch| &launch.id))
        .route(
            "/meta-data/instance-type",
            fact(|launch| &launch.instance_type),
        )
        .route("/meta-data/ami-id", fact(|launch| &launch.image_id))
        .route("/meta-data/placement/region", fact(|launch| &launch.region))
        .route(
            "/meta-data/placement/availability-zone",
            fact(|launch| &launch.zone),
        )
        .route("/meta-data/instance-life-cycle", get(life_cycle))
        .route("/meta-data/tags/instance", tags.clone())
        .route("/meta-data/tags/instance/", tags)
        .route("/meta-data/tags/instance/{*key}", get(tag))
        .route("/meta-data/iam/security-credentials", roles.clone())
        .route("/meta-data/iam/security-credentials/", roles)
        .route(
            "/meta-data/iam/security-credentials/{role}",
            get(credentials),
        )
        .route("/meta-data/spot/instance-action", get(instance_action))
        .route(
            "/meta-data/events/recommendations/rebalance",
            get(recommendation),
        )
        .route("/dynamic/instance-identity/document", get(identity))
        .route("/user-data", get(user_data))
        .layer(middleware::from_fn_with_state(
            Arc::clone(shared),
            authenticate,
        ))
        .route("/api/token", put(token));
    Router::new()
        .nest("/latest", data)
        .with_state(Arc::clone(shared))
}

fn fact(pick: fn(&Launch) -> &String) -> axum::routing::MethodRouter<Arc<Shared>> {
    get(move |State(shared): State<Arc<Shared>>| async move { pick(&shared.launch).clone() })
}

async fn token(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Response {
    let ttl = headers
        .get("x-aws-ec2-metadata-token-ttl-seconds")
        .and_then(|value| value.to_str().ok()?.parse::<u64>().ok())
        .filter(|ttl| (1..=MAX_TTL).contains(ttl));
    let Some(ttl) = ttl else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    let token = format!("AQAEA{:032X}==", rand::random::<u128>());
    let until = Instant::now() + Duration::from_secs(ttl);
    shared.with(|state| state.tokens.insert(token.clone(), until));
    (
        [("x-aws-ec2-metadata-token-ttl-seconds", ttl.to_string())],
        token,
    )
        .into_response()
}

async fn authenticate(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let known = request
        .headers()
        .get("x-aws-ec2-metadata-token")
        .and_then(|value| value.to_str().ok())
        .is_some_and(|token| {
            shared.with(|state| {
                state
                    .tokens
                    .get(token)
                    .is_some_and(|until| *until > Instant::now())
            })
        });
    if known {
        next.run(request).await
    } else {
        StatusCode::UNAUTHORIZED.into_response()
    }
}

async fn life_cycle(State(shared): State<Arc<Shared>>) -> &'static str {
    if shared.launch.spot {
        "spot"
    } else {
        "on-demand"
    }
}

async fn tag_names(State(shared): State<Arc<Shared>>) -> String {
    let names: Vec<&str> = shared.launch.tags.keys().map(String::as_str).collect();
    names.join("\n")
}

async fn tag(
    State(shared): State<Arc<Shared>>,
    Path(key): Path<String>,
) -> Result<String, StatusCode> {
    shared
        .launch
        .tags
        .get(&key)
        .cloned()
        .ok_or(StatusCode::NOT_FOUND)
}

async fn credentials(
    State(shared): State<Arc<Shared>>,
    Path(role): Path<String>,
) -> Result<Json<Value>, StatusCode> {
    if role != shared.role() {
        return Err(StatusCode::NOT_FOUND);
    }
    let now = clock::now();
    Ok(Json(json!({
        "Code": "Success",
        "LastUpdated": format!("{now:.0}"),
        "Type": "AWS-HMAC",
        "AccessKeyId": access_key_of(&shared.launch.id),
        "SecretAccessKey": "the-yard-does-not-check-signatures",
        "Token": format!("session-of-{}", shared.launch.id),
        "Expiration": format!("{:.0}", now + Duration::from_hours(6)),
    })))
}

async fn instance_action(State(shared): State<Arc<Shared>>) -> Result<Json<Value>, StatusCode> {
    let end = shared
        .with(|state| state.spot_end)
        .ok_or(StatusCode::NOT_FOUND)?;
    Ok(Json(
        json!({ "action": "terminate", "time": format!("{end:.0}") }),
    ))
}

async fn recommendation(State(shared): State<Arc<Shared>>) -> Result<Json<Value>, StatusCode> {
    let notice = shared
        .with(|state| state.rebalance)
        .ok_or(StatusCode::NOT_FOUND)?;
    Ok(Json(json!({ "noticeTime": format!("{notice:.0}") })))
}

async fn identity(State(shared): State<Arc<Shared>>) -> Json<Value> {
    let launch = &shared.launch;
    Json(json!({
        "version": "2017-09-30",
        "instanceId": launch.id,
        "region": launch.region,
        "accountId": launch.account,
        "availabilityZone": launch.zone,
        "instanceType": launch.instance_type,
        "imageId": launch.image_id,
        "architecture": "x86_64",
    }))
}

async fn user_data(State(shared): State<Arc<Shared>>) -> Result<Vec<u8>, StatusCode> {
    if shared.launch.user_data.is_empty() {
        return Err(StatusCode::NOT_FOUND);
    }
    Ok(shared.launch.user_data.clone())
}
