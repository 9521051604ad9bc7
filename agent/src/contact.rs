//! What makes the agent's deadlines outlive the agent.
//!
//! A machine that nobody wants, or that cannot reach its table, switches itself off after a time.
//! An agent that is restarted again and again (by its watchdog, by a defect) must not begin to
//! count anew each time: so it is kept on disk when that time began, by the clock of the kernel
//! that only counts up.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use crate::{
    files::{FileError, read_json, write_json},
    machine::Ages,
};

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Content {
    /// Which boot of the kernel the times belong to.
    boot: String,
    /// When the table last answered, in the kernel's time since it booted.
    contact: Duration,
    /// Since when there is no record, likewise.
    recordless: Option<Duration>,
}

fn file(state_dir: &Path) -> PathBuf {
    state_dir.join("contact.json")
}

/// What an earlier agent kept since the kernel booted; none when there was no such agent.
pub(crate) fn earlier(state_dir: &Path) -> Result<Option<Ages>, FileError> {
    let content: Option<Content> = read_json(&file(state_dir))?;
    let now = since_boot();
    Ok(content
        .filter(|content| content.boot == boot())
        .map(|content| Ages {
            contact: now.saturating_sub(content.contact),
            recordless: content.recordless.map(|since| now.saturating_sub(since)),
        }))
}

/// Keeps how long ago things were.
pub(crate) fn keep(state_dir: &Path, ages: Ages) -> Result<(), FileError> {
    let now = since_boot();
    let content = Content {
        boot: boot(),
        contact: now.saturating_sub(ages.contact),
        recordless: ages.recordless.map(|age| now.saturating_sub(age)),
    };
    write_json(&file(state_dir), &content, 0o600)
}

fn since_boot() -> Duration {
    // Every Linux has this clock.
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::ZERO, Duration::from)
}

/// The kernel's name for its present boot; empty where there is none, which is as good as one.
fn boot() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .unwrap_or_default()
        .trim()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_goes_on_counting_where_the_last_one_stopped() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(earlier(folder.path()).unwrap(), None);
        let ages = Ages {
            contact: Duration::from_secs(5),
            recordless: Some(Duration::from_secs(9)),
        };
        keep(folder.path(), ages).unwrap();
        let found = earlier(folder.path()).unwrap().unwrap();
        assert!(found.contact >= ages.contact && found.recordless >= ages.recordless);
        assert!(found.contact < Duration::from_mins(1));
        // Another machine made from this one's image has booted another time.
        let path = file(folder.path());
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.replace(&boot(), "another")).unwrap();
        assert_eq!(earlier(folder.path()).unwrap(), None);
    }
}
