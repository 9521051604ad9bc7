//! What the agent remembers of the runner across its own restart, and a runner that lives although
//! nobody remembers it.

use std::path::PathBuf;

use proto::ids::InstanceId;
use serde::{Deserialize, Serialize};

use crate::{
    files::{self, FileError, read_json, write_json},
    host::Machinery,
    machine::{ListenerId, Saved},
    ports::chain,
    process::{self, Belongings},
    runner,
};

/// What is remembered, and of which machine: an image made from a used machine carries the file.
#[derive(Debug, Serialize, Deserialize)]
struct Content {
    instance: InstanceId,
    #[serde(flatten)]
    saved: Saved,
}

fn file(host: &Machinery) -> PathBuf {
    host.state_dir.join("runner.json")
}

/// Remembers this; or that there is nothing to remember.
pub(crate) fn keep(host: &Machinery, saved: Option<&Saved>) -> Result<(), FileError> {
    let Some(saved) = saved else {
        return files::remove(&file(host));
    };
    let content = Content {
        instance: host.instance.clone(),
        saved: saved.clone(),
    };
    write_json(&file(host), &content, 0o600)
}

fn read(host: &Machinery) -> Result<Option<Saved>, FileError> {
    let content: Option<Content> = read_json(&file(host))?;
    Ok(content
        .filter(|content| content.instance == host.instance)
        .map(|content| content.saved))
}

/// What an earlier agent on this machine left: with a listener only if that still lives.
pub(crate) fn earlier(host: &Machinery) -> Option<Saved> {
    let saved = read(host).unwrap_or_else(|error| {
        tracing::warn!(
            "what an earlier agent remembered is lost: {}",
            chain(&error)
        );
        None
    });
    let Some(mut saved) = saved else {
        let name = runner::configured_name(host).unwrap_or_default();
        let listener = living_listener(host)?;
        return Saved::unremembered(&host.instance, name, listener);
    };
    if !saved.listener.is_some_and(process::is_alive) {
        // One may have been started in the last moment of the earlier agent.
        saved.listener = living_listener(host);
        saved.offset = 0;
        saved.listening = false;
        saved.job = None;
    }
    Some(saved)
}

/// Whether the runner program may be in use.
pub(crate) fn is_occupied(host: &Machinery) -> bool {
    matches!(read(host), Ok(Some(_))) || living_listener(host).is_some()
}

/// A listener of an earlier agent that lives, whoever remembers it. It is no descendant of this
/// one.
fn living_listener(host: &Machinery) -> Option<ListenerId> {
    let belongings = Belongings {
        agent: None,
        ..host.belongings(&host.account().ok()?)
    };
    belongings.listener()
}
