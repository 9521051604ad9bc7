//! Steps as people read them, in the style of infrastructure tools: `+` creates, `~` changes,
//! `-` removes.

use std::{collections::BTreeSet, fmt};

use proto::config::{LaunchTemplate, Parameters, ResourceClass, Schema};
use serde_json::Value;

use super::{QueueTrouble, Step};
use crate::{
    ports::{RootVolume, TemplateContent, TemplateState},
    refresh::{ClassSpec, content_hash},
};

/// What a step does, as the first character of its line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mark {
    Create,
    Change,
    Remove,
}

impl Step {
    fn mark(&self) -> Mark {
        match self {
            Self::Table(_)
            | Self::PutSchema { old: None, .. }
            | Self::PutTemplate { old: None, .. }
            | Self::RecordTemplate { old: None, .. }
            | Self::PutClass { old: None, .. }
            | Self::PutParameters { old: None, .. }
            | Self::RenewTokens { ends_at: None }
            | Self::Raise { .. }
            | Self::Resend { .. } => Mark::Create,
            Self::PutSchema { old: Some(_), .. }
            | Self::PutTemplate { old: Some(_), .. }
            | Self::RecordTemplate { old: Some(_), .. }
            | Self::PutClass { old: Some(_), .. }
            | Self::PutParameters { old: Some(_), .. }
            | Self::Pool(_)
            | Self::Keep { .. }
            | Self::HandToken { .. }
            | Self::RenewTokens { ends_at: Some(_) } => Mark::Change,
            Self::PruneTemplate { .. }
            | Self::RetireClass(_)
            | Self::Undo { .. }
            | Self::Terminate { .. }
            | Self::TerminateStray { .. }
            | Self::Close { .. }
            | Self::Release { .. }
            | Self::DeleteRunner(_)
            | Self::Sweep { .. } => Mark::Remove,
        }
    }
}

/// How many steps create, change and remove.
pub(in crate::refresh) fn count_line(steps: &[Step]) -> String {
    let count = |mark| steps.iter().filter(|step| step.mark() == mark).count();
    if steps.is_empty() {
        return "nothing to do".to_owned();
    }
    format!(
        "plan: {} to create, {} to change, {} to remove",
        count(Mark::Create),
        count(Mark::Change),
        count(Mark::Remove)
    )
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.mark() {
            Mark::Create => "+ ",
            Mark::Change => "~ ",
            Mark::Remove => "- ",
        })?;
        match self {
            Self::Table(step) => step.fmt(f),
            Self::PutSchema { old, new } => schema(f, old.as_ref(), new),
            Self::PutTemplate { name, old, content } => {
                put_template(f, name, old.as_ref(), content)
            }
            Self::RecordTemplate { old, new } => record_template(f, old.as_deref(), new),
            Self::PruneTemplate { id, versions } => {
                let versions: Vec<String> = versions.iter().map(ToString::to_string).collect();
                let versions = versions.join(", ");
                write!(f, "old versions of launch template {id}: {versions}")
            }
            Self::PutClass { old, new, queue } => put_class(f, old.as_ref(), new, queue),
            Self::RetireClass(class) => write!(f, "class {} and its queue", class.name),
            Self::PutParameters { old: None, .. } => f.write_str("parameters"),
            Self::PutParameters {
                old: Some(old),
                new,
            } => {
                write!(f, "parameters: {}", differences(old, new))
            }
            Self::RenewTokens { ends_at: None } => f.write_str("GitHub tokens"),
            Self::RenewTokens {
                ends_at: Some((ends_at, over)),
            } => {
                let ending = if *over { "they ended at" } else { "ending" };
                write!(f, "GitHub tokens: {ending} {ends_at} → new ones")
            }
            Self::HandToken { machines } => write!(
                f,
                "the new registration token for {} running machines, whose runners take one job each",
                machines.len()
            ),
            Self::Undo { record, machines } => write!(
                f,
                "provision {} ({}, silent since {}) with {} machines",
                record.label,
                record.phase,
                record.beat,
                machines.len()
            ),
            Self::Terminate { arn, because } => write!(f, "machine {} ({because})", arn.id()),
            Self::TerminateStray { id, because } => write!(f, "machine {id} ({because})"),
            Self::Close { arn, state, .. } => {
                let id = arn.id();
                write!(f, "record of {id} ({state}, but EC2 has it no more)")
            }
            Self::Release { run, machines } => {
                let count = machines.len();
                write!(
                    f,
                    "{count} machines of run {run} (it is over and did not release them)"
                )
            }
            Self::DeleteRunner(runner) => {
                let name = &runner.name;
                write!(f, "runner {name} at GitHub (offline, its machine is gone)")
            }
            Self::Pool(record) => write!(
                f,
                "machine {}: {} → idle, for the floor of class {}",
                record.id(),
                record.state,
                record.resource_class
            ),
            Self::Keep {
                kind: (class, usage),
                records,
                until,
            } => write!(
                f,
                "{} idle machines of class {class}, {usage}: kept for the floor until {until}",
                records.len()
            ),
            Self::Raise {
                kind: (class, usage),
                count,
                least,
            } => write!(
                f,
                "{count} idle machines of class {class}, {usage} (min-idle is {least})"
            ),
            Self::Resend { class, records } => {
                let count = records.len();
                write!(f, "{count} messages for idle machines of class {class}")
            }
            Self::Sweep { class, surplus } => {
                write!(f, "about {surplus} stale messages of class {class}")
            }
        }
    }
}

fn schema(f: &mut fmt::Formatter<'_>, old: Option<&Schema>, new: &Schema) -> fmt::Result {
    match old {
        None => write!(f, "schema {}", new.version),
        Some(old) if old.version == new.version => {
            write!(f, "schema: table {} → {}", old.table_arn, new.table_arn)
        }
        Some(old) => write!(f, "schema {} → {}", old.version, new.version),
    }
}

fn put_template(
    f: &mut fmt::Formatter<'_>,
    name: &str,
    old: Option<&TemplateState>,
    content: &TemplateContent,
) -> fmt::Result {
    let hash = content_hash(content);
    let Some(old) = old else {
        return write!(f, "launch template {name} ({})", short(&hash));
    };
    let new = match old.version_with(&hash) {
        Some(version) => format!("version {version}"),
        None => "new version".to_owned(),
    };
    write!(
        f,
        "launch template {name}: version {} → {new} ({}): {}",
        old.version,
        short(&hash),
        changes(&old.content, &content.with_image(content.image.id.clone()))
    )
}

/// The fields that differ, by the names of their inputs. User data may hold what nobody should
/// read in a log: it is only said that it changes.
fn changes(old: &TemplateContent<String>, new: &TemplateContent<String>) -> String {
    let fields = |content: &TemplateContent<String>| {
        let TemplateContent {
            image,
            root_volume: RootVolume { size_gib, kind },
            key_name,
            iam_instance_profile,
            security_group_ids,
            user_data: _,
            tags,
        } = content;
        let mut tags: Vec<String> = tags.iter().map(|(k, v)| format!("{k}={v}")).collect();
        let mut groups = security_group_ids.clone();
        tags.sort();
        groups.sort();
        let unset = || "unset".to_owned();
        [
            ("ami", image.clone()),
            (
                "root-volume-size-gib",
                size_gib.map_or_else(unset, |size| size.to_string()),
            ),
            ("root-volume-type", kind.clone()),
            ("key-name", key_name.clone().unwrap_or_else(unset)),
            ("iam-instance-profile", iam_instance_profile.clone()),
            ("security-group-ids", groups.join(" ")),
            ("tags", tags.join(" ")),
        ]
    };
    let both = fields(old).into_iter().zip(fields(new));
    let mut changes: Vec<String> = both
        .filter(|(before, after)| before != after)
        .map(|((name, before), (_, after))| format!("{name} {before} → {after}"))
        .collect();
    if old.user_data != new.user_data {
        changes.push("user data changes".to_owned());
    }
    if changes.is_empty() {
        // By another version of Paddock, or by hand.
        changes.push("what Paddock sets by itself".to_owned());
    }
    changes.join(", ")
}

fn record_template(
    f: &mut fmt::Formatter<'_>,
    old: Option<&LaunchTemplate>,
    new: &LaunchTemplate,
) -> fmt::Result {
    f.write_str("launch template in use: ")?;
    if let Some(old) = old {
        write!(f, "{} version {} → ", old.id, old.version)?;
    }
    write!(f, "{} version {}", new.id, new.version)
}

/// As much of a hash as people compare.
fn short(hash: &str) -> &str {
    hash.get(..12).unwrap_or(hash)
}

fn put_class(
    f: &mut fmt::Formatter<'_>,
    old: Option<&ResourceClass>,
    new: &ClassSpec,
    queue: &QueueTrouble,
) -> fmt::Result {
    let size = |cpu, mmem| format!("{cpu} vCPU, {mmem} MiB");
    let wanted = size(new.cpu, new.mmem);
    let Some(old) = old else {
        return write!(f, "class {} ({wanted}) and its queue", new.name);
    };
    let present = size(old.cpu, old.mmem);
    let resized = (present != wanted).then(|| format!("{present} → {wanted}"));
    let queue = match queue {
        QueueTrouble::None => None,
        QueueTrouble::Gone => Some("its queue is gone → new queue".to_owned()),
        QueueTrouble::Odd(odd) => {
            let each = |(name, value, right): &(String, String, String)| {
                format!("its queue's {name} {value} → {right}")
            };
            Some(odd.iter().map(each).collect::<Vec<_>>().join(", "))
        }
    };
    let changes: Vec<String> = resized.into_iter().chain(queue).collect();
    write!(f, "class {}: {}", new.name, changes.join(", "))
}

/// The fields that differ: `idleTimeSec 420 → 600`. What is not set, the item does not have.
fn differences(old: &Parameters, new: &Parameters) -> String {
    let fields = |parameters| match serde_json::to_value(parameters) {
        Ok(Value::Object(fields)) => fields,
        Ok(_) | Err(_) => serde_json::Map::new(),
    };
    let (old, new) = (fields(old), fields(new));
    let shown = |value: Option<&Value>| value.map_or("unset".to_owned(), Value::to_string);
    let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    names
        .into_iter()
        .map(|name| (name, old.get(name), new.get(name)))
        .filter(|(_, before, after)| before != after)
        .map(|(name, before, after)| format!("{name} {} → {}", shown(before), shown(after)))
        .collect::<Vec<_>>()
        .join(", ")
}
