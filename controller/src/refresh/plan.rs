//! From the desired and the observed to a list of steps: a pure function.
//!
//! First what provision reads (schema, template, classes, parameters, tokens), then
//! [`machines`]: what has to end, and what the queues have lost.

mod machines;

use std::collections::BTreeMap;

use proto::{
    config::{Config, LaunchTemplate, SCHEMA_VERSION, Schema},
    ids::{ClassName, InstanceId},
    instance::InstanceRecord,
    provision::ProvisionRecord,
    time::Time,
};

use super::{ClassSpec, RefreshSettings, content_hash, step::Step};
use crate::ports::{Machine, TemplateState};

/// How many versions of the launch template are kept besides the default one: machines of an old
/// version may still run, and an operator may want to look back.
pub(super) const VERSIONS_KEPT: usize = 10;

/// The world as refresh found it. `None` stands for what could not be looked at.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// The table's ARN.
    pub table_arn: String,
    /// What the table says.
    pub config: Config,
    /// The launch template, if there is one.
    pub template: Option<Option<TemplateState>>,
    /// The depth of each configured class's queue, none if the queue is gone. A class is missing
    /// here if its queue could not be asked.
    pub queues: BTreeMap<ClassName, Option<u64>>,
    /// Every record in a live state.
    pub records: Option<Vec<InstanceRecord>>,
    /// Every provision that somebody must be at work on.
    pub provisions: Option<Vec<ProvisionRecord>>,
    /// Every machine that bears the pool's tag.
    pub machines: Option<Vec<Machine>>,
    /// The records of those machines that `records` does not name, if they have one.
    pub unlisted: BTreeMap<InstanceId, InstanceRecord>,
}

/// What to do, in this order.
pub fn plan(settings: &RefreshSettings, observed: &Observed, now: Time) -> Vec<Step> {
    let mut steps = Vec::new();
    steps.extend(schema(settings, observed));
    steps.extend(template(settings, observed));
    steps.extend(classes(settings, observed));
    steps.extend(parameters(settings, observed));
    steps.extend(tokens(observed, now));
    steps.extend(machines::plan(settings, observed, now));
    steps
}

fn schema(settings: &RefreshSettings, observed: &Observed) -> Option<Step> {
    let old = observed.config.schema.clone();
    let new = Schema {
        version: SCHEMA_VERSION,
        table_arn: observed.table_arn.clone(),
        github_url: settings.github_url.clone(),
    };
    (old.as_ref() != Some(&new)).then_some(Step::PutSchema { old, new })
}

fn template(settings: &RefreshSettings, observed: &Observed) -> Vec<Step> {
    let Some(present) = &observed.template else {
        return Vec::new();
    };
    let hash = content_hash(&settings.template);
    let mut steps = Vec::new();
    let mut versions = present.as_ref().map_or(0, |state| state.versions);
    match present {
        Some(state) if state.content_hash.as_ref() == Some(&hash) => {
            let old = observed.config.launch_template.clone();
            let new = LaunchTemplate {
                id: state.id.clone(),
                version: state.version,
                content_hash: hash,
                runner: settings.runner.clone(),
            };
            if old.as_ref() != Some(&new) {
                steps.push(Step::RecordTemplate { old, new });
            }
        }
        Some(_) | None => {
            versions += 1;
            steps.push(Step::PutTemplate {
                name: settings.pool.resource_name(),
                old: present.clone(),
                hash,
            });
        }
    }
    // One more than is kept: the default version may be an old one.
    if let Some(state) = present.as_ref().filter(|_| versions > VERSIONS_KEPT + 1) {
        steps.push(Step::PruneTemplate {
            id: state.id.clone(),
            versions,
        });
    }
    steps
}

/// Whether new machines will be made from another version than those that are there.
fn template_changes(settings: &RefreshSettings, state: &TemplateState) -> bool {
    state.content_hash != Some(content_hash(&settings.template))
}

fn classes(settings: &RefreshSettings, observed: &Observed) -> Vec<Step> {
    let wanted = settings.classes.iter().filter_map(|spec| {
        let old = observed.config.class(&spec.name);
        let right = old.is_some_and(|old| {
            let queue_gone = observed.queues.get(&old.name) == Some(&None);
            is_of(old, spec) && !queue_gone
        });
        (!right).then(|| Step::PutClass {
            old: old.cloned(),
            new: spec.clone(),
        })
    });
    let retired = observed
        .config
        .resource_classes
        .iter()
        .filter(|class| !is_wanted(settings, &class.name))
        .cloned()
        .map(Step::RetireClass);
    wanted.chain(retired).collect()
}

fn is_of(class: &proto::config::ResourceClass, spec: &ClassSpec) -> bool {
    class.cpu == spec.cpu && class.mmem == spec.mmem
}

fn is_wanted(settings: &RefreshSettings, class: &ClassName) -> bool {
    settings.classes.iter().any(|spec| spec.name == *class)
}

fn parameters(settings: &RefreshSettings, observed: &Observed) -> Option<Step> {
    let old = observed.config.parameters.clone();
    let new = settings.parameters.clone();
    (old.as_ref() != Some(&new)).then_some(Step::PutParameters { old, new })
}

fn tokens(observed: &Observed, now: Time) -> Option<Step> {
    let tokens = observed.config.github_tokens.as_ref();
    tokens
        .is_none_or(|tokens| tokens.is_half_over(now))
        .then(|| Step::RenewTokens {
            ends_at: tokens.map(|tokens| tokens.expires_at),
        })
}
