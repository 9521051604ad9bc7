//! Refresh: brings AWS and the table to the desired state, and ends what nobody else will end.
//!
//! ```text
//!   table there? ──▶ observe ──▶ plan ──▶ lease ──▶ execute
//!                   (all I/O)   (pure)             (each step fails alone)
//! ```
//!
//! A second run with the same input plans nothing, and then it writes nothing either. Of two that
//! run at the same time one acts; the other says so and leaves ([`lease`]). A source that cannot be
//! looked at fails alone too: the steps that depend on it are left out of the plan, the others are
//! not.

pub mod bounds;
mod content_hash;
mod desired;
mod ending;
mod execute;
#[cfg(test)]
mod fakes;
mod floor;
mod image;
mod lease;
mod observe;
mod over;
pub mod plan;
mod prepare;
mod report;
pub mod step;
mod sweep;
pub mod table;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use proto::{
    config::FloorTrouble,
    ids::Home,
    table::Table,
    time::{Clock, Time},
};

pub use self::{
    content_hash::{TEMPLATE_FORM, content_hash},
    desired::{ClassSpec, RefreshSettings},
    report::{Failed, Refused, Report, StepError},
};
use self::{
    execute::Execution,
    lease::{Lease, LeaseError},
    observe::observe,
    prepare::prepare_table,
    step::{Step, count_line},
    table::TableAdmin,
};
use crate::{
    metrics,
    output::{Masks, chain},
    ports::{Fleet, Forge, Pool},
};

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
    /// Where to tell of secrets.
    pub masks: Masks,
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
    ports.masks.hide_tokens_of(&found.config);
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
    let observed = observe(settings, ports, found, home.as_ref(), &mut report).await;
    let steps = plan::plan(settings, &observed, ports.clock.now());
    if settings.parameters.metrics && !settings.dry_run {
        let now = ports.clock.now();
        report.measures = metrics::of_pool(&observed, &steps, &settings.idle, now);
    }
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
        Ok(executed) => {
            report.failed.extend(executed.failed);
            report.raised = executed.raised;
            let of =
                |failed: &Failed, step: &Step| matches!(failed, Failed::Step(it) if **it == *step);
            let why = |step: &Step| {
                let found = report.failed.iter().find(|(failed, _)| of(failed, step));
                found.map(|(_, error)| chain(&**error))
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

fn say(steps: &[Step], out: &mut (dyn FnMut(&str) + Send)) {
    for step in steps {
        out(&step.to_string());
    }
}
