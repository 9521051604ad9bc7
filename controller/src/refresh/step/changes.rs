//! The old and the new, as people read them.

use std::{collections::BTreeSet, fmt};

use proto::config::{LaunchTemplate, Parameters, ResourceClass, Schema};
use serde_json::Value;

use super::{QueueTrouble, TokenTo};
use crate::{
    ports::{RootVolume, TemplateContent, TemplateState},
    refresh::{ClassSpec, content_hash},
};

pub(super) fn schema(
    f: &mut fmt::Formatter<'_>,
    old: Option<&Schema>,
    new: &Schema,
) -> fmt::Result {
    match old {
        None => write!(f, "schema {}", new.version),
        Some(old) if old.version == new.version => {
            write!(f, "schema: table {} → {}", old.table_arn, new.table_arn)
        }
        Some(old) => write!(f, "schema {} → {}", old.version, new.version),
    }
}

pub(super) fn put_template(
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

pub(super) fn record_template(
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

pub(super) fn hand_token(f: &mut fmt::Formatter<'_>, to: TokenTo, count: usize) -> fmt::Result {
    match to {
        TokenTo::Register => write!(
            f,
            "the new registration token for {count} running machines, whose runners take one job each"
        ),
        TokenTo::Deregister => write!(
            f,
            "the removal token for {count} idle machines, whose release ended before their jobs"
        ),
    }
}

/// As much of a hash as people compare.
fn short(hash: &str) -> &str {
    hash.get(..12).unwrap_or(hash)
}

pub(super) fn put_class(
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
pub(super) fn differences(old: &Parameters, new: &Parameters) -> String {
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
