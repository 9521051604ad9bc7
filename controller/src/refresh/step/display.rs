//! Steps as people read them, in the style of infrastructure tools: `+` creates, `~` changes,
//! `-` removes.

use std::fmt;

use super::{
    Step,
    changes::{differences, hand_token, put_class, put_template, record_template, schema},
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
            Self::HandToken { to, machines } => hand_token(f, *to, machines.len()),
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
