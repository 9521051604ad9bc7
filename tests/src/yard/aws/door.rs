//! The front door: one server for all services.
//!
//! Each request is told apart, slowed down, perhaps met by a fault, answered by
//! a [`Backend`] and written into the log.

use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Bytes, to_bytes};
use axum::extract::{ConnectInfo, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use jiff::{SignedDuration, Timestamp};
use tokio::net::TcpListener;
use tokio::sync::mpsc::UnboundedSender;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::super::{
    clock,
    faults::{Fault, FaultKind, Faults},
    recorder::{Exchange, Heard, Recorder},
    wire::{Cut, CuttableListener},
};
use super::MachineEvent;
use super::calls::Call;
use super::cloudwatch::{self, CloudWatch};
use super::dynamodb::Dynamodb;
use super::ec2::{Ec2, InstanceView};
use super::iam::{Granted, Iam, Policy};
use super::iam_service;
use super::secrets::{SecretKind, Secrets};
use super::service::Request;
use super::settings::Settings;
use super::sqs::Sqs;
use super::ssm::{Managed, Ssm};
use super::sts;
use super::upstream::Upstream;

/// No call of the services here is larger.
const MAX_BODY: usize = 16 << 20;

/// What answers the calls that come through.
pub(super) enum Backend {
    /// The services of this yard.
    Own(Box<Own>),
    /// Another stand-in for all of AWS.
    Upstream(Arc<Upstream>),
}

/// The services of this yard.
pub(super) struct Own {
    account: String,
    sqs: Sqs,
    ec2: Ec2,
    dynamodb: Dynamodb,
    secrets: Secrets,
    ssm: Ssm,
    cloudwatch: CloudWatch,
}

/// The door's own state.
pub(super) struct Door {
    backend: Backend,
    iam: Iam,
    recorder: Recorder,
    shutdown: CancellationToken,
    desk: Mutex<Desk>,
}

#[derive(Default)]
struct Desk {
    latency: Duration,
    /// Seconds by which the answers' `Date` is off.
    ahead: i64,
    faults: Faults,
    calls: Vec<Call>,
}

/// How a request ended.
enum Outcome {
    Answered(Response),
    Cut,
}

impl Door {
    pub(super) async fn open(
        settings: &Settings,
        url: &str,
        events: UnboundedSender<MachineEvent>,
        shutdown: &CancellationToken,
        tasks: &TaskTracker,
    ) -> io::Result<Arc<Self>> {
        let backend = match &settings.upstream {
            Some(base) => {
                let upstream = Arc::new(Upstream::new(settings, base, events)?);
                tasks.spawn(Arc::clone(&upstream).watch(shutdown.clone()));
                Backend::Upstream(upstream)
            }
            None => Backend::Own(Box::new(Own {
                account: settings.account.clone(),
                sqs: Sqs::new(settings, url),
                ec2: Ec2::new(settings, events),
                dynamodb: Dynamodb::open(settings, shutdown, tasks).await?,
                secrets: Secrets::new(settings),
                ssm: Ssm::default(),
                cloudwatch: CloudWatch::default(),
            })),
        };
        Ok(Arc::new(Self {
            backend,
            iam: Iam::new(settings)?,
            // Another stand-in's answers are not the yard's to be judged.
            recorder: match settings.upstream {
                Some(_) => Recorder::default(),
                None => settings.recorder.clone(),
            },
            shutdown: shutdown.clone(),
            desk: Mutex::default(),
        }))
    }

    pub(super) fn backend(&self) -> &Backend {
        &self.backend
    }

    pub(super) fn set_latency(&self, latency: Duration) {
        self.desk().latency = latency;
    }

    pub(super) fn set_ahead(&self, seconds: i64) {
        self.desk().ahead = seconds;
    }

    pub(super) fn forbid(&self, action: &str) {
        self.iam.forbid(action);
    }

    pub(super) fn permit(&self, action: &str) {
        self.iam.permit(action);
    }

    pub(super) fn attach(&self, policy: Policy) {
        self.iam.attach(policy);
    }

    pub(super) fn calls(&self) -> Vec<Call> {
        self.desk().calls.clone()
    }

    pub(super) fn inject(&self, fault: Fault) {
        self.desk().faults.add(fault);
    }

    pub(super) fn faults_met(&self) -> usize {
        self.desk().faults.met()
    }

    /// Serves until `shutdown`, then until the last answer is out.
    pub(super) async fn serve(self: Arc<Self>, listener: TcpListener, shutdown: CancellationToken) {
        let router = Router::new().fallback(receive).with_state(self);
        let service = router.into_make_service_with_connect_info::<Cut>();
        let served = axum::serve(CuttableListener(listener), service)
            .with_graceful_shutdown(shutdown.cancelled_owned())
            .await;
        if let Err(error) = served {
            tracing::warn!(%error, "the front door of AWS broke");
        }
    }

    fn now(&self) -> Timestamp {
        clock::now() + SignedDuration::from_secs(self.desk().ahead)
    }

    fn date(&self) -> HeaderValue {
        let date = self.now();
        let date = date.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
        HeaderValue::try_from(date).unwrap_or(HeaderValue::from_static(""))
    }

    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn pass(&self, request: Request) -> Outcome {
        let (latency, fault) = {
            let mut desk = self.desk();
            let fault = desk
                .faults
                .take(&request.service, &request.action, &request.caller);
            (desk.latency, fault)
        };
        if !latency.is_zero() {
            tokio::time::sleep(latency).await;
        }
        let Some(fault) = fault else {
            if request.service == "iam" {
                return Outcome::Answered(iam_service::answer(&request, &self.iam));
            }
            return Outcome::Answered(self.backend.answer(request).await);
        };
        match fault {
            FaultKind::Error { status, code } => {
                self.desk().faults.note();
                let status =
                    StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
                Outcome::Answered(request.refuse(status, &code, "a test asked for this error"))
            }
            FaultKind::CutBeforeApplying => {
                self.desk().faults.note();
                Outcome::Cut
            }
            FaultKind::CutAfterApplying => {
                self.backend.answer(request).await;
                self.desk().faults.note();
                Outcome::Cut
            }
            FaultKind::Hang => {
                self.desk().faults.note();
                std::future::pending().await
            }
            FaultKind::HangAfterApplying => {
                self.backend.answer(request).await;
                self.desk().faults.note();
                std::future::pending().await
            }
        }
    }
}

async fn receive(
    State(door): State<Arc<Door>>,
    ConnectInfo(cut): ConnectInfo<Cut>,
    request: axum::extract::Request,
) -> Response {
    let at = clock::now();
    let started = Instant::now();
    let (parts, body) = request.into_parts();
    let body: Bytes = match to_bytes(body, MAX_BODY).await {
        Ok(body) => body,
        Err(_) => return StatusCode::PAYLOAD_TOO_LARGE.into_response(),
    };
    let path = parts
        .uri
        .path_and_query()
        .map_or_else(|| "/".to_owned(), ToString::to_string);
    let request = Request::new(parts.method, path, parts.headers, body);
    let judged = door.iam.judge(&request);
    let untimely = request.untimely(door.now());
    let exchange = door.recorder.is_on().then(|| {
        let heard = Heard {
            method: request.method.as_str(),
            path: &request.path_and_query,
            headers: &request.headers,
            body: &request.body,
        };
        Exchange::aws(&request.service, &request.action, &heard)
    });
    let mut call = Call {
        at,
        service: request.service.clone(),
        action: request.action.clone(),
        caller: request.caller.clone(),
        role: None,
        permissions: BTreeSet::new(),
        status: 0,
        millis: 0,
    };
    let pass = async {
        if let Some(refusal) = untimely {
            return Outcome::Answered(refusal);
        }
        match judged {
            Ok(Granted { role, actions }) => {
                call.role = role;
                call.permissions = actions;
                door.pass(request).await
            }
            Err(words) => Outcome::Answered(request.deny(&words)),
        }
    };
    let outcome = tokio::select! {
        outcome = pass => outcome,
        // Dropping a call half-way is what a stopping AWS looks like.
        () = door.shutdown.cancelled() => Outcome::Cut,
    };
    let response = match outcome {
        Outcome::Answered(mut response) => {
            call.status = response.status().as_u16();
            response.headers_mut().insert(header::DATE, door.date());
            response
        }
        Outcome::Cut => {
            cut.cut();
            StatusCode::SERVICE_UNAVAILABLE.into_response()
        }
    };
    call.millis = Call::took(started.elapsed());
    let response = match exchange {
        Some(exchange) if call.status != 0 => door.recorder.answered(exchange, response).await,
        Some(exchange) => {
            door.recorder.write(&exchange);
            response
        }
        None => response,
    };
    tracing::trace!(?call, "AWS");
    door.desk().calls.push(call);
    response
}

impl Backend {
    async fn answer(&self, request: Request) -> Response {
        match self {
            Self::Own(own) => own.answer(request).await,
            Self::Upstream(upstream) => upstream.answer(request).await,
        }
    }

    pub(super) fn manage(&self, machines: Arc<dyn Managed>) {
        match self {
            Self::Own(own) => own.ssm.manage(machines),
            // The other stand-in's Systems Manager knows nothing of the yard's machines.
            Self::Upstream(_) => {}
        }
    }

    pub(super) fn machine_running(&self, id: &str) {
        match self {
            Self::Own(own) => own.ec2.machine_running(id),
            // The other stand-in has its own idea of when a machine runs.
            Self::Upstream(_) => {}
        }
    }

    pub(super) fn machine_stopped(&self, id: &str) {
        match self {
            Self::Own(own) => own.ec2.machine_stopped(id),
            Self::Upstream(upstream) => upstream.machine_stopped(id),
        }
    }

    pub(super) fn instances(&self) -> Vec<InstanceView> {
        match self {
            Self::Own(own) => own.ec2.instances(),
            Self::Upstream(upstream) => upstream.instances(),
        }
    }

    /// Keeps a secret text; its ARN. Another stand-in keeps its own.
    pub(super) fn keep_secret(&self, kind: SecretKind, name: &str, text: &str) -> Option<String> {
        match self {
            Self::Own(own) => Some(own.secrets.keep(kind, name, text)),
            Self::Upstream(_) => None,
        }
    }

    /// Values that were published. Another stand-in keeps its own.
    pub(super) fn metrics(&self) -> Vec<cloudwatch::Value> {
        match self {
            Self::Own(own) => own.cloudwatch.values(),
            Self::Upstream(_) => Vec::new(),
        }
    }

    pub(super) fn set_capacity(&self, pattern: &str, zone: Option<&str>, left: Option<u32>) {
        match self {
            Self::Own(own) => own.ec2.set_capacity(pattern, zone, left),
            Self::Upstream(upstream) => upstream.set_capacity(pattern, zone, left),
        }
    }
}

impl Own {
    async fn answer(&self, request: Request) -> Response {
        match request.service.as_str() {
            "sqs" => self.sqs.answer(&request).await,
            "dynamodb" => self.dynamodb.answer(request).await,
            "ec2" => self.ec2.answer(&request),
            "ssm" if Ssm::knows(&request.action) => self.ssm.answer(&request),
            "secretsmanager" | "ssm" => self.secrets.answer(&request),
            "monitoring" => self.cloudwatch.answer(&request),
            "sts" => sts::answer(&request, &self.account),
            other => {
                let message = format!("the yard has no service {other:?}");
                request.refuse(StatusCode::NOT_IMPLEMENTED, "NotImplemented", &message)
            }
        }
    }
}
