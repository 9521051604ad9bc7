//! Refresh: brings AWS and the table to the desired state, and ends what nobody else will end.
//!
//! ```text
//!   table there? ──▶ observe ──▶ plan ──▶ lease ──▶ execute
//!                   (all I/O)   (pure)             (each step fails alone)
//! ```
//!
//! A second run with the same input plans nothing, and then it writes nothing either. Of two that
//! run at the same time one acts; the other says so and leaves ([`lease`]). A source that cannot be looked at fails alone
//! too: the steps that depend on it are left out of the plan, the others are not.

pub mod bounds;
mod content_hash;
mod ending;
mod execute;
#[cfg(test)]
mod fakes;
mod floor;
mod lease;
mod observe;
mod over;
pub mod plan;
pub mod step;
mod sweep;
pub mod table;
#[cfg(test)]
mod tests;

use std::{error::Error, fmt, sync::Arc};

use proto::{
    agent_config::RunnerRelease,
    config::{Config, FloorTrouble, GithubTokens, Parameters, SCHEMA_VERSION},
    ids::{ClassName, Home, PoolName},
    table::{Table, TableErrorKind},
    time::{Clock, Time},
};

pub use self::content_hash::{TEMPLATE_FORM, content_hash};
use self::{
    bounds::IdleRules,
    execute::Execution,
    lease::{Lease, LeaseError},
    observe::observe,
    step::{Step, count_line},
    table::{TableAdmin, TableState, TableStep},
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
    /// What new machines are made from, with the id of their image.
    pub template: TemplateContent<String>,
    /// The runner program that its user data names.
    pub runner: Option<RunnerRelease>,
    /// Whether runners register anew after each job, and so need tokens while they are running.
    pub ephemeral: bool,
    /// The sizes that can be asked for.
    pub classes: Vec<ClassSpec>,
    /// Subnets and times.
    pub parameters: Parameters,
    /// How many idle machines there should be.
    pub idle: IdleRules,
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
    /// A random number in 0..1, for pauses that are not to be alike.
    pub chance: Arc<dyn Fn() -> f64 + Send + Sync>,
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
    /// Since when another refresh is at work, to which this one left everything.
    pub left_to: Option<Time>,
}

/// What failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failed {
    /// A source could not be looked at.
    Look(&'static str),
    /// A step could not be done.
    Step(Box<Step>),
    /// The right to act could not be had, or was lost.
    Lease,
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Look(source) => write!(f, "look at {source}"),
            Self::Step(step) => step.fmt(f),
            Self::Lease => f.write_str("keep other refreshes away"),
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
/// `out`; failures are in the report alone. `holder` tells this refresh from all others.
pub async fn refresh(
    settings: &RefreshSettings,
    holder: &str,
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
    let read = found.config.refresh.clone();
    if let Some(other) = read.as_ref().filter(|j| j.is_held(ports.clock.now())) {
        leave_to(other.since, out, &mut report);
        if !settings.dry_run {
            return report;
        }
    }
    let observed = observe(
        settings,
        ports,
        found.arn,
        home.as_ref(),
        found.config,
        &mut report,
    )
    .await;
    let steps = plan::plan(settings, &observed, ports.clock.now());
    say(&steps, out);
    report.planned.extend(steps.iter().cloned());
    out(&count_line(&report.planned));
    for trouble in read.iter().flat_map(|journal| &journal.floor) {
        if trouble.not_before > ports.clock.now() {
            out(&waits(trouble));
        }
    }
    let Some(home) = home.filter(|_| !settings.dry_run && !steps.is_empty()) else {
        return report;
    };
    let before = read.as_ref().map_or(&[][..], |journal| &journal.floor);
    let after = |failed: &dyn Fn(&Step) -> Option<String>| {
        plan::floor::troubles_after(before, settings, &steps, failed, ports.clock.now())
    };
    // Should this refresh die over it, its launches count as failed.
    let dead = "refresh ended before it was known";
    let feared = after(&|_| Some(dead.to_owned()));
    let mut lease = match Lease::take(ports, holder, read.as_ref(), feared).await {
        Ok(lease) => lease,
        Err(LeaseError::Others(since)) => {
            leave_to(since, out, &mut report);
            return report;
        }
        Err(error) => {
            report.failed.push((Failed::Lease, error.into()));
            return report;
        }
    };
    let execution = Execution::new(settings, ports, home, observed.config, holder);
    let kept = match lease.during(execution.run(&steps, out)).await {
        Ok(failed) => {
            report.failed.extend(failed);
            let of =
                |failed: &Failed, step: &Step| matches!(failed, Failed::Step(it) if **it == *step);
            let why = |step: &Step| {
                let found = report.failed.iter().find(|(failed, _)| of(failed, step));
                found.map(|(_, error)| error.to_string())
            };
            lease.give_back(after(&why)).await
        }
        Err(lost) => Err(lost),
    };
    report
        .failed
        .extend(kept.err().map(|error| (Failed::Lease, error.into())));
    report
}

/// A floor that is not raised for a while.
fn waits(trouble: &FloorTrouble) -> String {
    format!(
        "  the floor of class {}, {} has failed {} times: the next try is due at {} ({})",
        trouble.resource_class,
        trouble.usage_class,
        trouble.failures,
        trouble.not_before,
        trouble.why
    )
}

fn leave_to(since: Time, out: &mut (dyn FnMut(&str) + Send), report: &mut Report) {
    out(&format!(
        "another refresh of this pool has been at work since {since}: this one changes nothing"
    ));
    report.left_to = Some(since);
}

/// The table that the rest of a refresh stands on.
struct Found {
    arn: String,
    /// Whether it is there, or a dry run only pretends so.
    there: bool,
    config: Config,
}

/// Sees to the table and reads the configuration; none when nothing else can be done.
async fn prepare_table(
    settings: &RefreshSettings,
    ports: &RefreshPorts,
    out: &mut (dyn FnMut(&str) + Send),
    report: &mut Report,
) -> Option<Found> {
    let read = ports.table.config().await;
    if let Ok(config) = &read {
        if let Err(error) = check(settings, config) {
            report
                .failed
                .push((Failed::Look("the configuration"), error));
            return None;
        }
        if let Some(schema) = config.schema.as_ref().filter(|_| is_settled(config, ports)) {
            return Some(Found {
                arn: schema.table_arn.clone(),
                there: true,
                config: config.clone(),
            });
        }
    }
    let state = see_to_table(settings, ports, out, report).await?;
    let config = match (read, &state) {
        (Ok(config), _) => config,
        (Err(_), None) => Config::default(),
        // Made by this refresh or by another one, which may have come further.
        (Err(error), Some(_)) if error.kind == TableErrorKind::NoTable => {
            match ports.table.config().await {
                Ok(config) => config,
                Err(error) => {
                    let failed = Failed::Look("the configuration");
                    report.failed.push((failed, error.into()));
                    return None;
                }
            }
        }
        (Err(error), Some(_)) => {
            let failed = Failed::Look("the configuration");
            report.failed.push((failed, error.into()));
            return None;
        }
    };
    Some(Found {
        there: state.is_some(),
        arn: state.map_or_else(|| ARN_TO_COME.to_owned(), |state| state.arn),
        config,
    })
}

/// Whether the table needs no closer look. Its features are safety nets that only an operator's
/// hand can take away, and a look costs three calls: it is taken as often as tokens are renewed.
fn is_settled(config: &Config, ports: &RefreshPorts) -> bool {
    let version = config.schema.as_ref().map(|schema| schema.version);
    let now = ports.clock.now();
    let fresh = |tokens: &GithubTokens| !tokens.is_half_over(now);
    version == Some(SCHEMA_VERSION) && config.github_tokens.as_ref().is_some_and(fresh)
}

/// Looks at the table itself and does what it lacks. The outer none: nothing else can be done; the
/// inner one: a dry run of a pool that is not there.
async fn see_to_table(
    settings: &RefreshSettings,
    ports: &RefreshPorts,
    out: &mut (dyn FnMut(&str) + Send),
    report: &mut Report,
) -> Option<Option<TableState>> {
    let state = match ports.admin.observe().await {
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
    if settings.dry_run {
        return Some(state);
    }
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
    if state.is_some() {
        return Some(state);
    }
    match ports.admin.observe().await {
        Ok(state) => Some(state),
        Err(error) => {
            report
                .failed
                .push((Failed::Look("the new table"), error.into()));
            None
        }
    }
}

/// Whether the table is this pool's, and this version's.
fn check(settings: &RefreshSettings, config: &Config) -> Result<(), StepError> {
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
        Some(_) | None => Ok(()),
    }
}

fn say(steps: &[Step], out: &mut (dyn FnMut(&str) + Send)) {
    for step in steps {
        out(&step.to_string());
    }
}
