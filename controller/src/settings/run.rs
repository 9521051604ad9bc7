//! The settings of provision and release: what a workflow run wants.

use std::{collections::BTreeMap, time::Duration};

use proto::{
    config::Parameters,
    ids::{ClassName, InstanceId, Label, ProvisionName, RunId},
    instance::UsageClass,
    provision::{ProvisionRecord, Request},
};

use super::{BadInput, given, list, positive, required};
use crate::{
    inputs::{CommonInputs, ProvisionInputs, ReleaseInputs},
    ports::Allocation,
};

/// A provision, all checks passed that need no table.
#[derive(Clone, Debug)]
pub struct ProvisionSettings {
    /// The workflow run.
    pub run: RunId,
    /// The label of its machines.
    pub label: Label,
    /// How many machines.
    pub count: u32,
    /// Of which class.
    pub resource_class: ClassName,
    /// On demand or spot.
    pub usage_class: UsageClass,
    /// Instance types that will do.
    pub allowed_instance_types: Vec<String>,
    /// How long the run may keep them, if it says so.
    pub max_runtime: Option<Duration>,
    /// The repository whose run it is, if GitHub tells it.
    pub repository: Option<String>,
    /// Which attempt of the run this is; GitHub counts re-runs from 1.
    pub attempt: u32,
    /// Whether on-demand machines will do when there are no spot machines.
    pub fallback: bool,
    /// How EC2 chooses among types and subnets, if the run says so.
    pub allocation: Option<Allocation>,
    /// USD an hour for one spot machine, at most.
    pub max_price: Option<String>,
}

impl ProvisionSettings {
    /// The request, with the pool's own limit where the run gave none.
    pub fn request(&self, parameters: &Parameters) -> Request {
        Request {
            count: self.count,
            resource_class: self.resource_class.clone(),
            usage_class: self.usage_class,
            allowed_instance_types: self.allowed_instance_types.clone(),
            max_runtime_sec: self
                .max_runtime
                .map_or(parameters.max_runtime_sec, |given| given.as_secs()),
        }
    }
}

impl ProvisionSettings {
    /// Checks a provision's inputs.
    pub fn new(inputs: &ProvisionInputs) -> Result<Self, BadInput> {
        let run = run_id(&inputs.common)?;
        let class = given(inputs.resource_class.as_ref()).unwrap_or("large");
        let usage = given(inputs.usage_class.as_ref()).unwrap_or("on-demand");
        let count = positive("instance-count", inputs.instance_count.as_ref(), 1, 1000)?;
        let max_runtime = given(inputs.max_runtime_min.as_ref())
            .map(|_| {
                positive(
                    "max-runtime-min",
                    inputs.max_runtime_min.as_ref(),
                    30,
                    43_200,
                )
            })
            .transpose()?;
        let usage_class = usage.parse().map_err(|allowed: String| {
            BadInput::new("usage-class", format!("`{usage}` is unknown"), allowed)
        })?;
        Ok(Self {
            repository: given(inputs.common.github_repository.as_ref()).map(str::to_owned),
            attempt: attempt(&inputs.common)?,
            fallback: fallback(inputs.fallback.as_ref(), usage_class)?,
            allocation: allocation(inputs.allocation_strategy.as_ref(), usage_class)?,
            max_price: max_price(inputs.max_price.as_ref(), usage_class)?,
            label: Label::of(&run, name(inputs.name.as_ref())?.as_ref()),
            run,
            count: u32::try_from(count).unwrap_or(u32::MAX),
            resource_class: class.parse().map_err(|_| {
                BadInput::new(
                    "resource-class",
                    format!("`{class}` is no class name"),
                    "give one of those that refresh was given, such as large",
                )
            })?,
            usage_class,
            allowed_instance_types: list(
                "allowed-instance-types",
                inputs.allowed_instance_types.as_ref(),
                "c* m* r*",
                |item| {
                    item.chars()
                        .all(|c| c.is_ascii_alphanumeric() || ".*-".contains(c))
                },
                "give types or patterns such as `c* m6i.* r5.large`",
            )?,
            max_runtime: max_runtime.map(|minutes| Duration::from_secs(minutes * 60)),
        })
    }
}

/// A release.
#[derive(Clone, Debug)]
pub struct ReleaseSettings {
    /// The workflow run.
    pub run: RunId,
    /// Only the machines of this label, if given.
    pub label: Option<Label>,
    /// Only these machines, each in this generation, if given: what the run has taken since they
    /// were looked at is another attempt's.
    pub seen: Option<BTreeMap<InstanceId, u64>>,
    /// How long to wait for the machines, if the run says so.
    pub timeout: Option<Duration>,
}

impl ReleaseSettings {
    /// Checks a release's inputs.
    pub fn new(inputs: &ReleaseInputs) -> Result<Self, BadInput> {
        let run = run_id(&inputs.common)?;
        let label = name(inputs.name.as_ref())?.map(|name| Label::of(&run, Some(&name)));
        let timeout = given(inputs.release_timeout_sec.as_ref())
            .map(|_| {
                positive(
                    "release-timeout-sec",
                    inputs.release_timeout_sec.as_ref(),
                    120,
                    86_400,
                )
            })
            .transpose()?;
        Ok(Self {
            run,
            label,
            seen: None,
            timeout: timeout.map(Duration::from_secs),
        })
    }

    /// Those of a provision's machines that are meant, each with the generation in which the run
    /// has it, where that is known.
    pub(crate) fn machines_of(&self, record: &ProvisionRecord) -> Vec<(InstanceId, Option<u64>)> {
        let mut machines = record.lent();
        if let Some(seen) = &self.seen {
            machines.retain_mut(|(id, generation)| {
                let seen = seen.get(id).copied();
                let meant = seen.is_some() && generation.is_none_or(|it| Some(it) == seen);
                *generation = seen;
                meant
            });
        }
        machines
    }
}

fn run_id(common: &CommonInputs) -> Result<RunId, BadInput> {
    required(
        "GITHUB_RUN_ID",
        common.github_run_id.as_ref(),
        "run this inside a workflow",
    )?
    .parse()
    .map_err(|error| {
        BadInput::new(
            "GITHUB_RUN_ID",
            format!("{error}"),
            "run this inside a workflow",
        )
    })
}

fn attempt(common: &CommonInputs) -> Result<u32, BadInput> {
    let Some(text) = given(common.github_run_attempt.as_ref()) else {
        return Ok(1);
    };
    text.parse()
        .ok()
        .filter(|attempt| *attempt > 0)
        .ok_or_else(|| {
            BadInput::new(
                "GITHUB_RUN_ATTEMPT",
                format!("`{text}` is no attempt"),
                "run this inside a workflow",
            )
        })
}

fn only_spot(input: &'static str, usage: UsageClass) -> Result<(), BadInput> {
    match usage {
        UsageClass::Spot => Ok(()),
        UsageClass::OnDemand => Err(BadInput::new(
            input,
            "it is for spot machines alone",
            "leave it out, or set `usage-class: spot`",
        )),
    }
}

fn fallback(text: Option<&String>, usage: UsageClass) -> Result<bool, BadInput> {
    match given(text) {
        None | Some("none") => Ok(false),
        Some("on-demand") => only_spot("fallback", usage).map(|()| true),
        Some(odd) => Err(BadInput::new(
            "fallback",
            format!("`{odd}` is unknown"),
            "allowed: none, on-demand",
        )),
    }
}

fn allocation(text: Option<&String>, usage: UsageClass) -> Result<Option<Allocation>, BadInput> {
    let Some(text) = given(text) else {
        return Ok(None);
    };
    let allowed = Allocation::allowed(usage);
    let chosen = allowed.iter().find(|allowed| allowed.as_str() == text);
    chosen.copied().map(Some).ok_or_else(|| {
        let names: Vec<&str> = allowed.iter().map(|allowed| allowed.as_str()).collect();
        BadInput::new(
            "allocation-strategy",
            format!("`{text}` is not possible with {usage}"),
            format!("allowed: {}", names.join(", ")),
        )
    })
}

fn max_price(text: Option<&String>, usage: UsageClass) -> Result<Option<String>, BadInput> {
    let Some(text) = given(text) else {
        return Ok(None);
    };
    only_spot("max-price", usage)?;
    // EC2 takes a decimal number: neither signs nor exponents.
    let plain = text.chars().all(|c| c.is_ascii_digit() || c == '.');
    match text.parse::<f64>() {
        Ok(price) if plain && price > 0.0 => Ok(Some(text.to_owned())),
        Ok(_) | Err(_) => Err(BadInput::new(
            "max-price",
            format!("`{text}` is no price"),
            "give USD an hour for one machine, such as 0.05",
        )),
    }
}

fn name(text: Option<&String>) -> Result<Option<ProvisionName>, BadInput> {
    given(text)
        .map(|text| {
            text.parse().map_err(|_| {
                BadInput::new(
                    "name",
                    format!("`{text}` cannot stand in a label"),
                    "give letters, digits, `.`, `_` and `-`, at most 64 of them",
                )
            })
        })
        .transpose()
}
