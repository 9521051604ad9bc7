//! The wiring: inputs → settings → adapters → command → exit code.

use std::{ffi::OsString, sync::Arc};

use clap::Parser;
use proto::{
    config::{Config, SCHEMA_VERSION},
    ids::Home,
    table::{Table, TableErrorKind, dynamo::DynamoTable},
    time::SystemClock,
};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::{
    aws::{Clients, fleet::Ec2Fleet, pool::SqsPool, schema::DynamoAdmin},
    exit::Exit,
    github::GithubForge,
    inputs::{Inputs, Mode, ProvisionInputs, RefreshInputs, ReleaseInputs, with_mode},
    output::{Console, chain},
    provision::{self, ProvisionError},
    refresh::{self, RefreshPorts},
    release,
    settings::{
        BadInput, Common,
        refresh::RefreshAndGithub,
        run::{ProvisionSettings, ReleaseSettings},
    },
    world::World,
};

/// Runs the command that the arguments name, or `mode` if they name none.
pub async fn run(args: Vec<OsString>, mode: Option<OsString>) -> Exit {
    // Fails when another one is installed already: that one will do.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let inputs = match Inputs::try_parse_from(with_mode(args, mode)) {
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
    };
    let console = Console::new(
        common.github_output.as_deref(),
        common.github_step_summary.as_deref(),
    );
    let result = match &inputs.mode {
        Mode::Refresh(inputs) => run_refresh(inputs, &console).await,
        Mode::Provision(inputs) => run_provision(inputs, &console).await,
        Mode::Release(inputs) => run_release(inputs, &console).await,
    };
    result.unwrap_or_else(|error| {
        console.fail(&error);
        error.exit()
    })
}

/// Why a command did not get to its work, or did not finish it.
#[derive(Debug, thiserror::Error)]
enum RunError {
    #[error(transparent)]
    Input(#[from] BadInput),
    #[error("pool {0} is not there: run `controller refresh` first, and check pool and region")]
    NoPool(String),
    #[error("the table was written by a newer Paddock (schema {0}): use that version")]
    NewerSchema(u32),
    #[error(transparent)]
    Table(#[from] proto::table::TableError),
    #[error(transparent)]
    Provision(#[from] ProvisionError),
    #[error("{error}; left for refresh: {}", left.join("; "))]
    Unfinished { error: String, left: Vec<String> },
    #[error(transparent)]
    Release(#[from] release::GiveBackError),
}

impl RunError {
    fn exit(&self) -> Exit {
        match self {
            Self::Input(_) | Self::Provision(ProvisionError::Input(_)) => Exit::BadInput,
            Self::Provision(ProvisionError::Cancelled) => Exit::Cancelled,
            Self::Unfinished { .. } | Self::Release(_) => Exit::Unfinished,
            Self::NoPool(_) | Self::NewerSchema(_) | Self::Table(_) | Self::Provision(_) => {
                Exit::Failed
            }
        }
    }
}

async fn run_refresh(inputs: &RefreshInputs, console: &Console) -> Result<Exit, RunError> {
    let RefreshAndGithub {
        refresh: settings,
        api_url,
        scope,
        pat,
    } = RefreshAndGithub::new(inputs)?;
    console.mask(pat.expose());
    let Common { region, pool } = Common::new(&inputs.common)?;
    let sdk = proto::aws::sdk_config(Some(region)).await;
    let clients = Clients::new(&sdk);
    let name = pool.resource_name();
    let ports = RefreshPorts {
        admin: Arc::new(DynamoAdmin::new(clients.dynamo.clone(), name.clone())),
        table: Arc::new(DynamoTable::new(clients.dynamo, name)),
        pool: Arc::new(SqsPool::new(clients.sqs)),
        fleet: Arc::new(Ec2Fleet::new(clients.ec2)),
        forge: Arc::new(GithubForge::new(api_url, scope, pat)),
        clock: Arc::new(SystemClock),
    };
    let report = refresh::refresh(&settings, &ports, &mut |line| console.say(line)).await;
    for (step, error) in &report.failed {
        console.say(format!("failed: {step}: {}", chain(error.as_ref())));
    }
    if report.failed.is_empty() {
        return Ok(Exit::Done);
    }
    let left = report
        .failed
        .iter()
        .map(|(step, _)| step.to_string())
        .collect();
    Err(RunError::Unfinished {
        error: "some steps failed".to_owned(),
        left,
    })
}

async fn run_provision(inputs: &ProvisionInputs, console: &Console) -> Result<Exit, RunError> {
    let common = Common::new(&inputs.common)?;
    let settings = ProvisionSettings::new(inputs)?;
    let cancelled = cancelled_by_signals();
    let (world, config) = open_pool(&common).await?;
    let token = uuid::Uuid::new_v4().simple().to_string();
    match provision::provision(&world, &settings, config, token, console, &cancelled).await {
        Ok(provisioned) => {
            console.provisioned(&provisioned);
            Ok(Exit::Done)
        }
        Err(failure) if failure.left.is_empty() => Err(failure.error.into()),
        Err(failure) => Err(RunError::Unfinished {
            error: chain(&failure.error),
            left: failure.left,
        }),
    }
}

async fn run_release(inputs: &ReleaseInputs, console: &Console) -> Result<Exit, RunError> {
    let common = Common::new(&inputs.common)?;
    let settings = ReleaseSettings::new(inputs)?;
    let (world, config) = match open_pool(&common).await {
        // A workflow's last step runs also when its first one never got anywhere.
        Err(RunError::NoPool(name)) => {
            console.say(format!("nothing to release: there is no pool {name}"));
            return Ok(Exit::Done);
        }
        opened => opened?,
    };
    let given = release::release(&world, &settings, &config, console).await?;
    console.say(format!(
        "{} back in the pool, {} terminated, {} gone already",
        given.pooled.len(),
        given.terminated.len(),
        given.gone.len()
    ));
    Ok(Exit::Done)
}

/// The pool's world and configuration: one query.
async fn open_pool(common: &Common) -> Result<(World, Config), RunError> {
    let clients = Clients::new(&proto::aws::sdk_config(Some(common.region.clone())).await);
    let table = DynamoTable::new(clients.dynamo, common.pool.resource_name());
    let no_pool = || RunError::NoPool(common.pool.to_string());
    let config = match table.config().await {
        Err(error) if error.kind == TableErrorKind::NoTable => return Err(no_pool()),
        config => config?,
    };
    let schema = config.schema.as_ref().ok_or_else(no_pool)?;
    if schema.version > SCHEMA_VERSION {
        return Err(RunError::NewerSchema(schema.version));
    }
    let world = World {
        pool_name: common.pool.clone(),
        home: Home::of_arn(&schema.table_arn).map_err(|_| no_pool())?,
        table: Arc::new(table),
        pool: Arc::new(SqsPool::new(clients.sqs)),
        fleet: Arc::new(Ec2Fleet::new(clients.ec2)),
        clock: Arc::new(SystemClock),
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
        .with_writer(std::io::stderr)
        .init();
}
