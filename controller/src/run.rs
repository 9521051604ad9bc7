//! The wiring: inputs → settings → adapters → command → exit code.

mod agent_status;
mod destroy;
mod doctor;
mod error;
mod github;
mod image;
mod locked_out;
mod status;

use std::{ffi::OsString, sync::Arc};

use proto::{
    config::{Config, SCHEMA_VERSION},
    ids::Home,
    table::{Table, TableErrorKind, dynamo::DynamoTable},
    time::{Clock, SystemClock},
};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use self::{error::RunError, github::Github, locked_out::LockedOut};
use crate::{
    aws::{Clients, cloudwatch, fleet::Ec2Fleet, pool::SqsPool},
    exit::Exit,
    inputs::{Inputs, Mode, ProvisionInputs, RefreshInputs, ReleaseInputs, with_mode},
    metrics::{self, Measure},
    output::{Console, Trouble, chain, harmless::HarmlessStderr},
    ports::Forge,
    provision::{self, Failure},
    refresh::{self, Failed, RefreshPorts, Refused},
    release,
    settings::{
        Common,
        github::GithubSettings,
        refresh::{DesiredState, ImageName},
        run::{ProvisionSettings, ReleaseSettings},
    },
    world::World,
};

/// Runs the command that the arguments name, or `mode` if they name none.
pub async fn run(args: Vec<OsString>, mode: Option<OsString>) -> Exit {
    // Fails when another one is installed already: that one will do.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let inputs = match Inputs::read(with_mode(args, mode)) {
        Ok(inputs) => inputs,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() {
                Exit::BadInput
            } else {
                Exit::Done
            };
        }
    };
    let common = match &inputs.mode {
        Mode::Refresh(inputs) => &inputs.common,
        Mode::Provision(inputs) => &inputs.common,
        Mode::Release(inputs) => &inputs.common,
        Mode::AgentStatus(inputs) => &inputs.common,
        Mode::Status(inputs) => &inputs.common,
        Mode::Doctor(inputs) => &inputs.common,
        Mode::Destroy(inputs) => &inputs.common,
    };
    let json = match &inputs.mode {
        Mode::AgentStatus(_) | Mode::Doctor(_) | Mode::Destroy(_) => false,
        Mode::Status(inputs) => inputs.json,
        Mode::Refresh(inputs) => inputs.json,
        Mode::Provision(inputs) => inputs.json,
        Mode::Release(inputs) => inputs.json,
    };
    let console = Console::new(
        common.github_output.as_deref(),
        common.github_step_summary.as_deref(),
        json,
    );
    let result = match &inputs.mode {
        Mode::Refresh(inputs) => run_refresh(inputs, &console).await,
        Mode::Provision(inputs) => run_provision(inputs, &console).await,
        Mode::Release(inputs) => run_release(inputs, &console).await,
        Mode::AgentStatus(inputs) => agent_status::run(inputs, &console).await,
        Mode::Status(inputs) => status::run(inputs, &console).await,
        Mode::Doctor(inputs) => doctor::run(inputs, &console).await,
        Mode::Destroy(inputs) => destroy::run(inputs, &console).await,
    };
    result.unwrap_or_else(|error| {
        let exit = error.exit();
        console.fail(&Trouble {
            error: &error,
            remedy: error.remedy(),
            left: &error.left(),
            refresh: error.done(),
            exit,
        });
        exit
    })
}

async fn run_refresh(inputs: &RefreshInputs, console: &Console) -> Result<Exit, RunError> {
    let desired = DesiredState::new(inputs)?;
    let settings = GithubSettings::new(&inputs.common, &inputs.github)?;
    let Common { region, pool } = Common::new(&inputs.common)?;
    let sdk = proto::aws::sdk_config(Some(region)).await;
    let table = DynamoTable::new(&Clients::new(&sdk).dynamo, pool.resource_name());
    let (forge, runner): (Arc<dyn Forge>, _) = match Github::open(&settings, &sdk, console).await {
        Ok(github) => {
            let runner = match desired.runner {
                None => None,
                Some(wanted) => Some(github.runner(wanted, &table, console).await?),
            };
            (Arc::new(github.forge), runner)
        }
        // What needs no GitHub is done all the same.
        Err(RunError::Secret(error)) => {
            let runner = match desired.runner {
                None => None,
                Some(_) => match github::recorded(&table).await {
                    None => return Err(RunError::Secret(error)),
                    runner => runner,
                },
            };
            (Arc::new(LockedOut::because(&error)), runner)
        }
        Err(error) => return Err(error),
    };
    let image = match &desired.image {
        ImageName::Id(id) => id.clone(),
        ImageName::Parameter(name) => image::named(name, &sdk, &table, console).await?,
    };
    let ports = RefreshPorts::new(&sdk, &pool, forge, console.masks());
    let settings = desired.with(image, runner)?;
    let holder = uuid::Uuid::new_v4().simple().to_string();
    let mut report =
        refresh::refresh(&settings, &holder, &ports, &mut |line| console.say(line)).await;
    if let Some(refused) = report.refused {
        return Err(RunError::Refused(refused));
    }
    let now = ports.clock.now();
    let published = cloudwatch::publish(&sdk, &settings.pool, &report.measures, now).await;
    let unpublished = published.map_err(|error| (Failed::Metrics, error.into()));
    report.failed.extend(unpublished.err());
    console.refreshed(&report);
    if report.failed.is_empty() {
        return Ok(Exit::Done);
    }
    let mut left = Vec::new();
    for (step, _) in &report.failed {
        let step = step.to_string();
        // Each machine that a floor's step could not raise is a failure of its own.
        if !left.contains(&step) {
            left.push(step);
        }
    }
    Err(RunError::Steps { report, left })
}

async fn run_provision(inputs: &ProvisionInputs, console: &Console) -> Result<Exit, RunError> {
    let cancelled = cancelled_by_signals();
    let common = Common::new(&inputs.common)?;
    let settings = ProvisionSettings::new(inputs)?;
    let (world, config) = tokio::select! {
        opened = open_pool(&common, console) => opened?,
        () = cancelled.cancelled() => return Err(RunError::Cancelled),
    };
    let measured = config.parameters.as_ref().is_some_and(|it| it.metrics);
    let token = uuid::Uuid::new_v4().simple().to_string();
    console.group("Provision");
    let result = provision::provision(&world, &settings, config, token, console, &cancelled).await;
    console.end_group();
    match result {
        Ok(provisioned) => {
            console.provisioned(&provisioned);
            if measured {
                let class = &settings.resource_class;
                publish(&common, metrics::of_provision(class, &provisioned), console).await;
            }
            Ok(Exit::Done)
        }
        Err(Failure { error, left }) if left.is_empty() => Err(error.into()),
        Err(Failure { error, left }) => Err(RunError::Unfinished { error, left }),
    }
}

/// Metrics are not worth a provision that got its machines.
async fn publish(common: &Common, measures: Vec<Measure>, console: &Console) {
    let sdk = proto::aws::sdk_config(Some(common.region.clone())).await;
    let now = SystemClock.now();
    if let Err(error) = cloudwatch::publish(&sdk, &common.pool, &measures, now).await {
        console.warn(format_args!("the metrics are lost: {}", chain(&error)));
    }
}

async fn run_release(inputs: &ReleaseInputs, console: &Console) -> Result<Exit, RunError> {
    let common = Common::new(&inputs.common)?;
    let settings = ReleaseSettings::new(inputs)?;
    let (world, config) = match open_pool(&common, console).await {
        // A workflow's last step runs also when its first one never got anywhere.
        Err(RunError::NoPool(name)) => {
            console.say(format!("there is no pool {name}"));
            console.released(&release::GivenBack::default());
            return Ok(Exit::Done);
        }
        Err(RunError::Table(error)) => return Err(release::GiveBackError::from(error).into()),
        opened => opened?,
    };
    console.group("Release");
    let given = release::release(&world, &settings, &config, console).await;
    console.end_group();
    console.released(&given?);
    Ok(Exit::Done)
}

/// The pool's world and configuration: one query.
async fn open_pool(common: &Common, console: &Console) -> Result<(World, Config), RunError> {
    let clients = Clients::new(&proto::aws::sdk_config(Some(common.region.clone())).await);
    let table = DynamoTable::new(&clients.dynamo, common.pool.resource_name());
    let no_pool = || RunError::NoPool(common.pool.to_string());
    let config = match table.config().await {
        Err(error) if error.kind == TableErrorKind::NoTable => return Err(no_pool()),
        config => config?,
    };
    console.masks().hide_tokens_of(&config);
    let schema = config.schema.as_ref().ok_or_else(no_pool)?;
    if schema.version > SCHEMA_VERSION {
        return Err(Refused::Newer(schema.version).into());
    }
    let world = World {
        pool_name: common.pool.clone(),
        home: Home::of_arn(&schema.table_arn).map_err(|_| no_pool())?,
        table: Arc::new(table),
        pool: Arc::new(SqsPool::new(clients.sqs)),
        fleet: Arc::new(Ec2Fleet::new(clients.ec2)),
        clock: Arc::new(clients.clock),
        chance: Arc::new(rand::random),
    };
    Ok((world, config))
}

/// Cancelled by the first SIGINT or SIGTERM. Later ones change nothing: they must not cut the
/// roll-back short.
fn cancelled_by_signals() -> CancellationToken {
    let cancelled = CancellationToken::new();
    for kind in [SignalKind::interrupt(), SignalKind::terminate()] {
        let cancelled = cancelled.clone();
        match signal(kind) {
            Ok(mut signals) => {
                tokio::spawn(async move {
                    while signals.recv().await.is_some() {
                        cancelled.cancel();
                    }
                });
            }
            Err(error) => tracing::warn!("cannot listen for signals: {error}"),
        }
    }
    cancelled
}

/// Logs go to stderr; the default shows warnings, `RUST_LOG` more.
pub fn log_to_stderr() {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false)
        .with_writer(|| HarmlessStderr)
        .init();
}
