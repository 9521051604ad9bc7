//! From the desired and the observed to a list of steps: a pure function.
//!
//! First what provision reads (schema, template, classes, parameters, tokens), then
//! [`machines`]: what has to end, and what the queues have lost. Last what GitHub keeps for
//! nothing ([`forge`]).

pub(super) mod floor;
pub(super) mod forge;
mod machines;
mod queues;

use std::collections::{BTreeMap, BTreeSet};

use proto::{
    config::{Config, LaunchTemplate, SCHEMA_VERSION, Schema},
    ids::{ClassName, InstanceId, RunId},
    instance::InstanceRecord,
    provision::ProvisionRecord,
    state::State,
    time::Time,
};

use super::{
    ClassSpec, RefreshSettings, content_hash,
    step::{QueueTrouble, Step, TokenTo},
    table::{Feature, TableStep},
};
use crate::ports::{ForgeRunner, Machine, QueueState, TemplateContent, TemplateState};

/// So many versions of the launch template are kept, the newest ones, and the default one whatever
/// its age: an operator may want to look back, or to go back.
const VERSIONS_KEPT: usize = 10;

/// The world as refresh found it. `None` stands for what could not be looked at.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// The table's ARN.
    pub table_arn: String,
    /// What the table says.
    pub config: Config,
    /// What the launch template should hold: the settings with the image as EC2 knows it.
    pub content: Option<TemplateContent>,
    /// The launch template, if there is one.
    pub template: Option<Option<TemplateState>>,
    /// Each configured class's queue, none if it is gone. A class is missing here if its queue
    /// could not be asked.
    pub queues: BTreeMap<ClassName, Option<QueueState>>,
    /// Every record in a live state.
    pub records: Option<Vec<InstanceRecord>>,
    /// Every provision that somebody must be at work on.
    pub provisions: Option<Vec<ProvisionRecord>>,
    /// Every machine that bears the pool's tag.
    pub machines: Option<Vec<Machine>>,
    /// The records of those machines, and of the machines of offline runners, that `records` does
    /// not name, if they have one.
    pub unlisted: BTreeMap<InstanceId, InstanceRecord>,
    /// Every runner that GitHub knows, those of other pools too.
    pub runners: Option<Vec<ForgeRunner>>,
    /// Runs that GitHub says are over and whose machines nobody gave back.
    pub over: BTreeSet<RunId>,
    /// Whether the table lacks its index: without it no live record is found.
    pub unindexed: bool,
}

/// What to do, in this order.
pub fn plan(settings: &RefreshSettings, observed: &Observed, now: Time) -> Vec<Step> {
    let mut steps = Vec::new();
    let index = Step::Table(TableStep::TurnOn(Feature::Index));
    steps.extend(observed.unindexed.then_some(index));
    steps.extend(schema(settings, observed));
    steps.extend(template(settings, observed));
    steps.extend(classes(settings, observed));
    steps.extend(parameters(settings, observed));
    let renewal = tokens(observed, now);
    let handing = renewal
        .as_ref()
        .and_then(|_| handing(settings, observed, now));
    steps.extend(renewal);
    steps.extend(handing);
    steps.extend(machines::plan(settings, observed, now));
    steps.extend(forge::gone_runners(observed));
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
    let (Some(present), Some(content)) = (&observed.template, &observed.content) else {
        return Vec::new();
    };
    let hash = content_hash(content);
    let mut steps = Vec::new();
    // How many there will be, and the one that will be the default.
    let (mut count, mut default) = (0, None);
    if let Some(state) = present {
        count = state.versions.len();
        default = state.version_with(&hash);
    }
    match present {
        Some(state) if state.content_hash() == Some(&hash) => {
            default = Some(state.version);
            let old = observed.config.launch_template.clone();
            let new = LaunchTemplate {
                id: state.id.clone(),
                version: state.version,
                content_hash: hash,
                runner: settings.runner.clone(),
                image: Some(content.image.clone()),
            };
            if old.as_ref() != Some(&new) {
                let (old, new) = (old.map(Box::new), Box::new(new));
                steps.push(Step::RecordTemplate { old, new });
            }
        }
        Some(_) | None => {
            count += usize::from(default.is_none());
            steps.push(Step::PutTemplate {
                name: settings.pool.resource_name(),
                old: present.clone(),
                content: Box::new(content.clone()),
            });
        }
    }
    if let Some(state) = present {
        let oldest_first = state.versions.keys().copied();
        let surplus: Vec<i64> = oldest_first
            .take(count.saturating_sub(VERSIONS_KEPT))
            .filter(|version| Some(*version) != default && *version != state.version)
            .collect();
        if !surplus.is_empty() {
            steps.push(Step::PruneTemplate {
                id: state.id.clone(),
                versions: surplus,
            });
        }
    }
    steps
}

/// The version that new machines will be made from, if it is there already.
fn version_to_come(content: &TemplateContent, state: &TemplateState) -> Option<i64> {
    let hash = content_hash(content);
    if state.content_hash() == Some(&hash) {
        return Some(state.version);
    }
    state.version_with(&hash)
}

fn classes(settings: &RefreshSettings, observed: &Observed) -> Vec<Step> {
    let wanted = settings.classes.iter().filter_map(|spec| {
        let old = observed.config.class(&spec.name);
        let queue = match old.and_then(|old| observed.queues.get(&old.name)) {
            Some(None) => QueueTrouble::Gone,
            Some(Some(state)) if !state.odd.is_empty() => QueueTrouble::Odd(state.odd.clone()),
            Some(Some(_)) | None => QueueTrouble::None,
        };
        let right = queue == QueueTrouble::None && old.is_some_and(|old| is_of(old, spec));
        (!right).then(|| Step::PutClass {
            old: old.cloned(),
            new: spec.clone(),
            queue,
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

/// Runners that take one job each register with a token that the machine keeps. With each new one
/// the machines get it too, before the one they have ends.
fn handing(settings: &RefreshSettings, observed: &Observed, now: Time) -> Option<Step> {
    let machines: Vec<_> = observed
        .records
        .iter()
        .flatten()
        .filter(|record| settings.ephemeral && record.state == State::Running)
        .filter(|record| record.threshold.is_some_and(|threshold| threshold > now))
        .map(|record| (record.arn.clone(), record.generation))
        .collect();
    let to = TokenTo::Register;
    (!machines.is_empty()).then_some(Step::HandToken { to, machines })
}

fn tokens(observed: &Observed, now: Time) -> Option<Step> {
    let tokens = observed.config.github_tokens.as_ref();
    tokens
        .is_none_or(|tokens| tokens.is_half_over(now))
        .then(|| Step::RenewTokens {
            ends_at: tokens.map(|tokens| (tokens.expires_at, tokens.expires_at <= now)),
        })
}
