//! Doctor: looks at all that a pool needs, and says what is wrong and what to do.
//!
//! Each look stands alone: one that fails is a finding, and the others go on.

mod findings;
pub mod machine;
pub mod permissions;
mod surroundings;

use std::{sync::Arc, time::Duration};

use proto::{
    config::{Config, LaunchTemplate, SCHEMA_VERSION},
    ids::PoolName,
    table::{Table, TableErrorKind},
    time::{Clock, Time, apart},
};

pub use self::{
    findings::{Finding, Findings, Health},
    surroundings::{Caller, Parts, Surroundings},
};
use crate::{
    output::{Masks, chain},
    ports::{Fleet, Forge, Pool},
    refresh::table::{Setting, TableAdmin},
};

/// Clocks may differ by so much: AWS refuses signatures after five minutes.
const SKEW: Duration = Duration::from_mins(1);
/// Refresh runs at least so often, or a pool ages.
const REFRESHED: Duration = Duration::from_hours(1);

/// What doctor looks at.
pub struct DoctorPorts<'a> {
    /// The table itself.
    pub admin: Arc<dyn TableAdmin>,
    /// What stands in it.
    pub table: Arc<dyn Table>,
    /// The pool's queues.
    pub pool: Arc<dyn Pool>,
    /// EC2.
    pub fleet: Arc<dyn Fleet>,
    /// GitHub, if there is a login for it.
    pub forge: Option<&'a dyn Forge>,
    /// The rest.
    pub surroundings: Arc<dyn Surroundings>,
    /// The present.
    pub clock: Arc<dyn Clock>,
    /// Where to tell of secrets.
    pub masks: Masks,
}

/// Looks at everything but permissions; the configuration, and the ARN of the caller and of the
/// machines' role as far as they are known.
pub async fn examine(pool: &PoolName, ports: &DoctorPorts<'_>) -> (Findings, Seen) {
    let mut findings = Findings::default();
    let now = ports.clock.now();
    let mut seen = Seen::default();
    let caller = ports.surroundings.caller().await;
    if let Some(caller) = findings.look("credentials", caller) {
        findings.add("credentials", Health::Well, &caller.arn);
        if let Some(there) = caller.time {
            clock(&mut findings, now, there);
        }
        seen.caller = Some(caller.arn);
    }
    let Some(config) = table(pool, ports, &mut findings).await else {
        return (findings, seen);
    };
    configuration(&config, now, &mut findings);
    for class in &config.resource_classes {
        let about = format!("queue of class {}", class.name);
        match findings.look(&about, ports.pool.queue(&class.queue_url).await) {
            Some(Some(state)) if state.odd.is_empty() => {
                findings.add(about, Health::Well, format!("{} messages", state.messages));
            }
            Some(Some(_)) => {
                findings.add(
                    about,
                    Health::Doubtful,
                    "it has other attributes: run refresh",
                );
            }
            Some(None) => findings.add(about, Health::Ill, "it is gone: run refresh"),
            None => {}
        }
    }
    if let Some(template) = &config.launch_template {
        seen.machine_role = machines(pool, template, ports, &mut findings).await;
    }
    if let Some(parameters) = &config.parameters {
        let subnets = &parameters.subnet_ids;
        if findings
            .look("subnets", ports.surroundings.subnets(subnets).await)
            .is_some()
        {
            findings.add("subnets", Health::Well, subnets.join(", "));
        }
    }
    github(ports, &mut findings).await;
    seen.runner = config.launch_template.and_then(|template| template.runner);
    (findings, seen)
}

/// What other looks need to know.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// The caller's ARN.
    pub caller: Option<String>,
    /// The ARN of the role of the machines.
    pub machine_role: Option<String>,
    /// The runner program that machines are told to have.
    pub runner: Option<proto::agent_config::RunnerRelease>,
}

fn clock(findings: &mut Findings, here: Time, there: Time) {
    if here.since(there).max(there.since(here)) > SKEW {
        let words = format!("it is {}: set it", apart(here, there, "AWS"));
        findings.add("clock", Health::Ill, words);
    } else {
        findings.add("clock", Health::Well, "as AWS's");
    }
}

async fn table(
    pool: &PoolName,
    ports: &DoctorPorts<'_>,
    findings: &mut Findings,
) -> Option<Config> {
    let state = findings.look("table", ports.admin.observe().await)?;
    let Some(state) = state else {
        let words = format!("there is none of pool {pool}: run refresh, and check pool and region");
        findings.add("table", Health::Ill, words);
        return None;
    };
    if state.index == Setting::Off {
        findings.add("table", Health::Ill, "its index is gone: run refresh");
    }
    for (setting, what) in [(state.expiry, "expiry"), (state.recovery, "recovery")] {
        if setting == Setting::Off {
            let words = format!(
                "its {what} is off: refresh turns it on when it renews the runner tokens, within an hour"
            );
            findings.add("table", Health::Doubtful, words);
        }
    }
    match ports.table.config().await {
        Ok(config) => {
            ports.masks.hide_tokens_of(&config);
            findings.add("table", Health::Well, state.arn);
            Some(config)
        }
        Err(error) => {
            let denied = error.kind == TableErrorKind::Denied;
            let lack = if denied {
                "dynamodb:Query is not allowed: "
            } else {
                ""
            };
            findings.add("table", Health::Ill, format!("{lack}{}", chain(&error)));
            None
        }
    }
}

fn configuration(config: &Config, now: Time, findings: &mut Findings) {
    match &config.schema {
        Some(schema) if schema.version > SCHEMA_VERSION => {
            let words = format!("a newer Paddock wrote it (schema {})", schema.version);
            findings.add("configuration", Health::Ill, words);
        }
        Some(schema) => {
            let words = format!("schema {}, for {}", schema.version, schema.github_url);
            findings.add("configuration", Health::Well, words);
        }
        None => findings.add("configuration", Health::Ill, "there is none: run refresh"),
    }
    for (lacks, what) in [
        (config.parameters.is_none(), "no parameters"),
        (config.resource_classes.is_empty(), "no resource class"),
        (config.launch_template.is_none(), "no launch template"),
    ] {
        if lacks {
            let words = format!("it has {what}: run refresh");
            findings.add("configuration", Health::Ill, words);
        }
    }
    match &config.github_tokens {
        None => findings.add("runner tokens", Health::Ill, "there are none: run refresh"),
        Some(tokens) if tokens.expires_at <= now => {
            let words = format!("they ended at {}: run refresh", tokens.expires_at);
            findings.add("runner tokens", Health::Ill, words);
        }
        Some(tokens) => {
            let words = format!("good until {}", tokens.expires_at);
            findings.add("runner tokens", Health::Well, words);
            if now.since(tokens.obtained_at) > REFRESHED {
                let words = "nobody has refreshed the pool for an hour: look at its schedule";
                findings.add("refresh", Health::Doubtful, words);
            }
        }
    }
}

/// What machines are made from; the ARN of their role.
async fn machines(
    pool: &PoolName,
    template: &LaunchTemplate,
    ports: &DoctorPorts<'_>,
    findings: &mut Findings,
) -> Option<String> {
    let about = "launch template";
    match findings.look(about, ports.fleet.template(&pool.resource_name()).await)? {
        Some(state) if state.id == template.id && state.version == template.version => {
            let words = format!("{} version {}", state.id, state.version);
            findings.add(about, Health::Well, words);
        }
        Some(state) => {
            let words = format!(
                "{} version {} is the default, the pool uses {} version {}: run refresh",
                state.id, state.version, template.id, template.version
            );
            findings.add(about, Health::Doubtful, words);
        }
        None => {
            findings.add(about, Health::Ill, "it is gone: run refresh");
            return None;
        }
    }
    if let Some(image) = &template.image
        && let Some(found) = findings.look("image", ports.fleet.image(&image.id).await)
    {
        if found.is_some() {
            findings.add("image", Health::Well, &image.id);
        } else {
            let words = format!("{} is gone: give refresh another `ami`", image.id);
            findings.add("image", Health::Ill, words);
        }
    }
    let surroundings = &ports.surroundings;
    let content = findings.look(about, surroundings.parts(template).await)?;
    let groups = &content.security_groups;
    let found = surroundings.security_groups(groups).await;
    if findings.look("security groups", found).is_some() {
        findings.add("security groups", Health::Well, groups.join(", "));
    }
    let about = "instance profile";
    let profile = content.instance_profile?;
    let role = findings.look(about, surroundings.role_of_profile(&profile).await)?;
    if let Some(role) = &role {
        findings.add(about, Health::Well, format!("{profile}, role {role}"));
    } else {
        let words = format!("{profile} has no role: machines could not reach their records");
        findings.add(about, Health::Ill, words);
    }
    role
}

async fn github(ports: &DoctorPorts<'_>, findings: &mut Findings) {
    let Some(forge) = ports.forge else {
        let words = "not looked at: give `github-token`, or the app";
        findings.add("GitHub", Health::Doubtful, words);
        return;
    };
    // Whoever may ask for such a token may do all that refresh does with runners.
    if findings
        .look("GitHub", forge.registration_token().await)
        .is_some()
        && let Some(runners) = findings.look("GitHub", forge.runners().await)
    {
        let words = format!(
            "the login may register runners; there are {}",
            runners.len()
        );
        findings.add("GitHub", Health::Well, words);
    }
}
