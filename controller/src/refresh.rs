//! Refresh: brings AWS and the table to the desired state, and ends what nobody else will end.
//!
//! ```text
//!   table there? ──▶ observe ──▶ plan ──▶ execute
//!                   (all I/O)   (pure)   (each step fails alone)
//! ```
//!
//! A second run with the same input plans nothing. A source that cannot be looked at fails alone
//! too: the steps that depend on it are left out of the plan, the others are not.

mod content_hash;
mod ending;
mod execute;
#[cfg(test)]
mod fakes;
mod observe;
pub mod plan;
pub mod step;
mod sweep;
pub mod table;
#[cfg(test)]
mod tests;

use std::{error::Error, fmt, sync::Arc};

use proto::{
    agent_config::RunnerRelease,
    config::{Config, Parameters, SCHEMA_VERSION},
    ids::{ClassName, Home, PoolName},
    table::Table,
    time::Clock,
};

pub use self::content_hash::{TEMPLATE_FORM, content_hash};
use self::{
    execute::Execution,
    observe::observe,
    step::{Step, count_line},
    table::{TableAdmin, TableStep},
};
use crate::ports::{Fleet, Forge, Pool, TemplateContent};

/// Stands for the ARN of a table that a dry run only plans to make.
const ARN_TO_COME: &str = "(known once the table is there)";

/// The desired state.
#[derive(Clone, Debug)]
pub struct RefreshSettings {
    /// The pool.
    pub pool: PoolName,
    /// Where its runners register.
    pub github_url: String,
    /// What new machines are made from.
    pub template: TemplateContent,
    /// The runner program that its user data names.
    pub runner: Option<RunnerRelease>,
    /// The sizes that can be asked for.
    pub classes: Vec<ClassSpec>,
    /// Subnets and times.
    pub parameters: Parameters,
    /// Print the plan and do nothing.
    pub dry_run: bool,
}

/// A named size of machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassSpec {
    /// Such as `large`.
    pub name: ClassName,
    /// vCPU, exactly.
    pub cpu: u32,
    /// MiB of memory, at least.
    pub mmem: u32,
}

/// What refresh works on.
#[derive(Clone)]
pub struct RefreshPorts {
    /// The table itself.
    pub admin: Arc<dyn TableAdmin>,
    /// What stands in it.
    pub table: Arc<dyn Table>,
    /// The pool's queues.
    pub pool: Arc<dyn Pool>,
    /// EC2.
    pub fleet: Arc<dyn Fleet>,
    /// GitHub.
    pub forge: Arc<dyn Forge>,
    /// The present.
    pub clock: Arc<dyn Clock>,
}

/// Any error of a step.
pub type StepError = Box<dyn Error + Send + Sync>;

/// What was planned, and what of it failed.
#[derive(Debug, Default)]
pub struct Report {
    /// The whole plan, in the order of its execution.
    pub planned: Vec<Step>,
    /// What failed, with its cause.
    pub failed: Vec<(Failed, StepError)>,
}

/// What failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failed {
    /// A source could not be looked at.
    Look(&'static str),
    /// A step could not be done.
    Step(Box<Step>),
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Look(source) => write!(f, "look at {source}"),
            Self::Step(step) => step.fmt(f),
        }
    }
}

/// The table was written by a later version, which this one would spoil.
#[derive(Debug, thiserror::Error)]
#[error(
    "the table was written by a newer paddock (schema {found}, this one writes {SCHEMA_VERSION}): \
     use that version"
)]
struct NewerSchema {
    found: u32,
}

/// The pool's name is taken: with the other one's table its machines would be shared.
#[derive(Debug, thiserror::Error)]
#[error("pool {pool} serves {owner}: give this one another `pool-name`")]
struct OthersPool {
    pool: PoolName,
    owner: String,
}

/// Brings the pool to the desired state. Every line of the plan, and what was left alone, goes to
/// `out`; failures are in the report alone.
pub async fn refresh(
    settings: &RefreshSettings,
    ports: &RefreshPorts,
    out: &mut (dyn FnMut(&str) + Send),
) -> Report {
    let mut report = Report::default();
    let Some(found) = prepare_table(settings, ports, out, &mut report).await else {
        return report;
    };
    let home = match Home::of_arn(&found.arn) {
        Ok(home) => Some(home),
        // A dry run may plan for a table that is not there.
        Err(_) if !found.there => None,
        Err(error) => {
            report
                .failed
                .push((Failed::Look("the table's ARN"), error.into()));
            return report;
        }
    };
    let config = match read_config(settings, ports, found.there).await {
        Ok(config) => config,
        Err(error) => {
            report
                .failed
                .push((Failed::Look("the configuration"), error));
            return report;
        }
    };
    let observed = observe(
        settings,
        ports,
        found.arn,
        home.as_ref(),
        config,
        &mut report,
    )
    .await;
    let steps = plan::plan(settings, &observed, ports.clock.now());
    say(&steps, out);
    report.planned.extend(steps.iter().cloned());
    out(&count_line(&report.planned));
    if let (false, Some(home)) = (settings.dry_run, home) {
        let execution = Execution::new(settings, ports, home, observed.config);
        report.failed.extend(execution.run(&steps, out).await);
    }
    report
}

/// The table that the rest of a refresh stands on.
struct Found {
    arn: String,
    /// Whether it is there, or a dry run only pretends so.
    there: bool,
}

/// Sees to the table; none when nothing else can be done.
async fn prepare_table(
    settings: &RefreshSettings,
    ports: &RefreshPorts,
    out: &mut (dyn FnMut(&str) + Send),
    report: &mut Report,
) -> Option<Found> {
    let mut state = match ports.admin.observe().await {
        Ok(state) => state,
        Err(error) => {
            report
                .failed
                .push((Failed::Look("the table"), error.into()));
            return None;
        }
    };
    let steps = table::plan(&settings.pool.resource_name(), state.as_ref());
    let planned: Vec<Step> = steps.iter().cloned().map(Step::Table).collect();
    say(&planned, out);
    report.planned.extend(planned);
    if !settings.dry_run {
        for step in steps {
            let done = table::apply(ports.admin.as_ref(), &settings.pool, &step).await;
            if let Err(error) = done {
                let fatal = matches!(step, TableStep::Create { .. });
                report
                    .failed
                    .push((Failed::Step(Box::new(Step::Table(step))), error.into()));
                if fatal {
                    return None;
                }
            }
        }
        if state.is_none() {
            state = match ports.admin.observe().await {
                Ok(state) => state,
                Err(error) => {
                    report
                        .failed
                        .push((Failed::Look("the new table"), error.into()));
                    return None;
                }
            };
        }
    }
    Some(match state {
        Some(state) => Found {
            arn: state.arn,
            there: true,
        },
        None => Found {
            arn: ARN_TO_COME.to_owned(),
            there: false,
        },
    })
}

async fn read_config(
    settings: &RefreshSettings,
    ports: &RefreshPorts,
    table_there: bool,
) -> Result<Config, StepError> {
    if !table_there {
        return Ok(Config::default());
    }
    let config = ports.table.config().await?;
    match &config.schema {
        Some(schema) if schema.version > SCHEMA_VERSION => Err(NewerSchema {
            found: schema.version,
        }
        .into()),
        Some(schema) if schema.github_url != settings.github_url => Err(OthersPool {
            pool: settings.pool.clone(),
            owner: schema.github_url.clone(),
        }
        .into()),
        Some(_) | None => Ok(config),
    }
}

fn say(steps: &[Step], out: &mut (dyn FnMut(&str) + Send)) {
    for step in steps {
        out(&step.to_string());
    }
}
