//! Another stand-in for AWS behind the front door.
//!
//! Every call is sent on as it came, but for `CreateFleet`: the stand-ins that
//! exist know neither attribute-based requirements nor client tokens nor a
//! shortage, so [`fleet`] rewrites the request and its answer. A [`watch`]er
//! polls the instances there and announces them as machines here.

mod client;
mod fleet;
mod watch;

use std::collections::BTreeMap;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::MachineEvent;
use super::capacity::Capacities;
use super::ec2::InstanceView;
use super::form::Form;
use super::forward::{Forward, Signer};
use super::service::{Request, ec2_error};
use super::settings::Settings;
use client::{Client, Template};

/// The other stand-in.
pub(super) struct Upstream {
    forward: Forward,
    client: Client,
    region: String,
    account: String,
    pool: Option<String>,
    events: UnboundedSender<MachineEvent>,
    stopped: UnboundedSender<String>,
    stopping: Mutex<Option<UnboundedReceiver<String>>>,
    state: Mutex<State>,
    /// Answers by client token. Held while a fleet is created, so that two
    /// calls with one token make one fleet.
    fleets: tokio::sync::Mutex<BTreeMap<String, Answer>>,
}

#[derive(Default)]
struct State {
    capacity: Capacities,
    instances: Vec<InstanceView>,
    /// By id and version.
    templates: BTreeMap<(String, String), Template>,
}

#[derive(Clone)]
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        (self.status, self.headers, Body::from(self.body)).into_response()
    }
}

impl Upstream {
    pub(super) fn new(
        settings: &Settings,
        base: &str,
        events: UnboundedSender<MachineEvent>,
    ) -> io::Result<Self> {
        let credentials = settings.upstream_credentials.clone();
        let signer = credentials.map(|credentials| Signer::new(credentials, &settings.region));
        let forward = Forward::to(base, signer)?;
        let (stopped, stopping) = unbounded_channel();
        Ok(Self {
            client: Client::new(forward.clone(), &settings.region),
            forward,
            region: settings.region.clone(),
            account: settings.account.clone(),
            pool: settings.upstream_pool.clone(),
            events,
            stopped,
            stopping: Mutex::new(Some(stopping)),
            state: Mutex::new(State {
                capacity: Capacities::new(settings.capacity.clone()),
                ..State::default()
            }),
            fleets: tokio::sync::Mutex::default(),
        })
    }

    pub(super) async fn answer(&self, request: Request) -> Response {
        if request.service == "ec2" && request.action == "CreateFleet" {
            match self.create_fleet(request).await {
                Ok(answer) => answer.into_response(),
                Err(refusal) => refusal,
            }
        } else {
            self.forward.send(request).await
        }
    }

    pub(super) fn instances(&self) -> Vec<InstanceView> {
        self.state().instances.clone()
    }

    /// A limit for one zone has no effect here: which zone a subnet lies in is
    /// the other stand-in's business.
    pub(super) fn set_capacity(&self, pattern: &str, zone: Option<&str>, left: Option<u32>) {
        self.state().capacity.set(pattern, zone, left);
    }

    /// The watcher terminates the instance at the other stand-in.
    pub(super) fn machine_stopped(&self, id: &str) {
        if self.stopped.send(id.to_owned()).is_err() {
            tracing::debug!(id, "stopped after the watcher");
        }
    }

    async fn create_fleet(&self, mut request: Request) -> Result<Answer, Response> {
        let bad = |code: &str, message: &str| ec2_error(StatusCode::BAD_REQUEST, code, message);
        let form = Form::parse(&request.body)
            .map_err(|malformed| bad("InvalidParameterValue", &malformed.name))?;
        let mut fleets = self.fleets.lock().await;
        let token = form.text("ClientToken").map(str::to_owned);
        if let Some(answer) = token.as_ref().and_then(|token| fleets.get(token)) {
            return Ok(answer.clone());
        }
        let template = match form.get("LaunchTemplateConfigs.1.LaunchTemplateSpecification") {
            Some(named) => self.client.template(named).await,
            None => None,
        };
        let plan = {
            let mut state = self.state();
            if let Some(template) = &template {
                let key = (template.id.clone(), template.version.clone());
                state.templates.insert(key, template.clone());
            }
            fleet::plan(form, template.as_ref(), &mut state.capacity)
        }
        .map_err(|refusal| bad(refusal.code, &refusal.message))?;
        let answer = if plan.count == 0 {
            let mut headers = HeaderMap::new();
            headers.insert(
                header::CONTENT_TYPE,
                header::HeaderValue::from_static("text/xml"),
            );
            Answer {
                status: StatusCode::OK,
                headers,
                body: Bytes::from(plan.nothing()),
            }
        } else {
            request.body = Bytes::from(plan.form.encode());
            let (status, headers, body) =
                self.forward.try_send(&request).await.map_err(|error| {
                    let message = error.to_string();
                    ec2_error(StatusCode::BAD_GATEWAY, "Unavailable", &message)
                })?;
            Answer {
                status,
                headers,
                body: plan.with_errors(body),
            }
        };
        if let Some(token) = token.filter(|_| answer.status.is_success()) {
            fleets.insert(token, answer.clone());
        }
        Ok(answer)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
