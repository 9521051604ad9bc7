//! GitHub as Paddock and the runners see it.
//!
//! One server on the loopback interface plays three hosts: the REST API (at the
//! root as `api.github.com`, under `/api/v3` as a server), the download site, and the service that runners
//! talk to (under `/_runner`). Behind them stands one state: tokens, runners,
//! sessions, runs and a queue of jobs. A job goes to an online idle runner that
//! has all its labels, oldest job first.
//!
//! ```text
//! controller ── rest ────────┐
//! agent ─────── download     ├─ state ── hands ── tests
//! runner ────── runner_api ──┘
//! ```

mod apps;
mod calls;
mod download;
mod hands;
mod jobs;
mod rest;
mod runner_api;
mod runners;
mod shapes;
mod shared;
mod state;
pub mod wire;

use std::future::IntoFuture;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub use apps::App;
pub use calls::{Call, Fault};
pub use jobs::{Job, JobView, Status};
pub use runners::RunnerView;
pub use shared::Overdue;
pub use state::RunView;
pub use wire::{Conclusion, JobId};

use shared::Shared;

use super::recorder::Recorder;
use super::wire::{Cut, CuttableListener};

/// How often time alone may change something: an expired pickup, a silent runner.
const SWEEP: Duration = Duration::from_millis(100);

/// What GitHub knows from the start and how patient it is.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The repositories (`owner/repo`) that the token may administer; their
    /// owners are the organisations it may administer.
    pub repositories: Vec<String>,
    /// The accepted personal access token.
    pub token: String,
    /// The app that GitHub knows, installed on all that the token may administer.
    pub app: Option<App>,
    /// How long registration, remove and installation tokens are good for.
    pub token_life: Duration,
    /// Without a poll for this long a runner counts as offline.
    pub offline_after: Duration,
    /// A job that was sent and not confirmed for this long is queued again.
    pub pickup: Duration,
    /// A running job without a report for this long has failed.
    pub silence: Duration,
    /// The program that the download site packs into the runner's archive.
    pub runner_binary: Option<PathBuf>,
    /// Releases of the runner besides the one that can be downloaded here: version, and when it
    /// was published (RFC 3339).
    pub other_releases: Vec<(String, String)>,
    /// Writes down what is said.
    pub recorder: Recorder,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            repositories: vec!["acme/widgets".to_owned()],
            token: "ghp_yard".to_owned(),
            app: None,
            token_life: Duration::from_hours(1),
            offline_after: Duration::from_secs(10),
            pickup: Duration::from_mins(1),
            silence: Duration::from_secs(30),
            runner_binary: None,
            other_releases: Vec::new(),
            recorder: Recorder::default(),
        }
    }
}

/// The server, and the test's hands inside it.
#[derive(Clone)]
pub struct GitHub {
    address: SocketAddr,
    shared: Arc<Shared>,
    stopped: CancellationToken,
}

impl GitHub {
    /// Listens on a free port of the loopback interface.
    pub async fn start(settings: Settings) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared::new(settings));
        let stopped = CancellationToken::new();
        let app = Router::new()
            .merge(rest::router(&shared))
            // Where a server of one's own has it.
            .nest("/api/v3", rest::router(&shared))
            .merge(download::router())
            .nest("/_runner", runner_api::router(&shared))
            .with_state(Arc::clone(&shared))
            .into_make_service_with_connect_info::<Cut>();
        tokio::spawn(stopped.clone().run_until_cancelled_owned({
            let shared = Arc::clone(&shared);
            async move {
                // Cancelled by being dropped: both halves hold nothing of their own.
                tokio::select! {
                    result = axum::serve(CuttableListener(listener), app).into_future() => {
                        tracing::error!(?result, "the yard's GitHub ended");
                    }
                    () = sweep(&shared) => {}
                }
            }
        }));
        Ok(Self {
            address,
            shared,
            stopped,
        })
    }

    /// `http://127.0.0.1:PORT`, for the API and for `--url` alike.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Takes no more connections.
    pub fn stop(&self) {
        self.stopped.cancel();
    }
}

async fn sweep(shared: &Shared) {
    let mut turns = tokio::time::interval(SWEEP);
    loop {
        turns.tick().await;
        if shared.quietly(|state| state.sweep(Instant::now())) {
            shared.ring();
        }
    }
}

/// Twenty-nine capitals and digits, as GitHub's runner tokens are.
fn random_token() -> String {
    let (a, b): (u64, u64) = (rand::random(), rand::random());
    format!("A{a:016X}{:012X}", b >> 16)
}
