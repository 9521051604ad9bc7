//! Processes, as `/proc` shows them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::MetadataExt,
    time::Duration,
};

use nix::{
    sys::{
        signal::{Signal, kill},
        wait::{WaitPidFlag, waitpid},
    },
    unistd::Pid,
};

use crate::machine::ListenerId;

/// How long killed processes may take to go.
const PATIENCE: Duration = Duration::from_secs(10);
/// The kernel tears processes down on its own time.
const LOOK: Duration = Duration::from_millis(5);

/// What `/proc/<pid>/stat` says.
#[derive(Clone, Copy, Debug)]
struct Stat {
    parent: i32,
    started: u64,
    over: bool,
}

fn stat(pid: i32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything, parentheses too.
    let (_, rest) = text.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    Some(Stat {
        over: matches!(*fields.first()?, "Z" | "X"),
        parent: fields.get(1)?.parse().ok()?,
        // Field 22 of the whole line.
        started: fields.get(19)?.parse().ok()?,
    })
}

/// The identity of a living process.
pub(crate) fn identity(pid: i32) -> Option<ListenerId> {
    let Stat { started, over, .. } = stat(pid)?;
    (!over).then_some(ListenerId { pid, started })
}

/// Whether that very process lives.
pub(crate) fn is_alive(process: ListenerId) -> bool {
    identity(process.pid) == Some(process)
}

/// This process.
pub(crate) fn this() -> i32 {
    Pid::this().as_raw()
}

/// Which processes belong to the jobs of this machine.
#[derive(Clone, Debug)]
pub(crate) struct Belongings {
    /// `NAME=value` in the environment of the runner and of whatever it starts.
    pub(crate) mark: String,
    /// The user that only the runner has, if there is such.
    pub(crate) user: Option<u32>,
    /// The agent, all of whose descendants are a job's: what detached itself comes back to it, for
    /// it is a subreaper.
    pub(crate) agent: Option<i32>,
}

impl Belongings {
    /// Those that carry the mark or have the user, and all descendants of those and of the agent.
    fn find(&self) -> BTreeMap<i32, Stat> {
        let all = all();
        let own = this();
        let mut found: BTreeSet<i32> = all
            .keys()
            .copied()
            .filter(|pid| *pid != own && self.bears(*pid))
            .collect();
        loop {
            let more: Vec<i32> = all
                .iter()
                .filter(|(pid, stat)| {
                    **pid != own
                        && !found.contains(pid)
                        && (self.agent == Some(stat.parent) || found.contains(&stat.parent))
                })
                .map(|(pid, _)| *pid)
                .collect();
            if more.is_empty() {
                break;
            }
            found.extend(more);
        }
        all.into_iter()
            .filter(|(pid, _)| found.contains(pid))
            .collect()
    }

    fn bears(&self, pid: i32) -> bool {
        let marked = || {
            // Unreadable: gone, or somebody else's.
            fs::read(format!("/proc/{pid}/environ")).is_ok_and(|environment| {
                environment
                    .split(|byte| *byte == 0)
                    .any(|entry| entry == self.mark.as_bytes())
            })
        };
        let owned = |user| {
            fs::metadata(format!("/proc/{pid}")).is_ok_and(|metadata| metadata.uid() == user)
        };
        self.user.is_some_and(owned) || marked()
    }

    /// Kills all of them, until none is left. Blocks.
    ///
    /// # Errors
    ///
    /// The processes that would not die.
    pub(crate) fn kill_all(&self) -> Result<(), Vec<i32>> {
        let mut waited = Duration::ZERO;
        loop {
            let found = self.find();
            let (over, alive): (Vec<_>, Vec<_>) =
                found.into_iter().partition(|(_, stat)| stat.over);
            for (pid, stat) in over {
                if self.agent == Some(stat.parent) {
                    // Came back to us; nobody else will take its exit status.
                    let _ = waitpid(Pid::from_raw(pid), Some(WaitPidFlag::WNOHANG));
                }
            }
            if alive.is_empty() {
                return Ok(());
            }
            if waited > PATIENCE {
                return Err(alive.into_iter().map(|(pid, _)| pid).collect());
            }
            for (pid, _) in alive {
                // Fails when it just ended, which is what is wanted.
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
            std::thread::sleep(LOOK);
            waited += LOOK;
        }
    }
}

fn all() -> BTreeMap<i32, Stat> {
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            let pid = entry.ok()?.file_name().to_str()?.parse().ok()?;
            Some((pid, stat(pid)?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn what_a_job_left_is_found_by_its_mark_and_killed() {
        let belongings = Belongings {
            mark: format!("PADDOCK_TEST_MARK={}", this()),
            user: None,
            agent: None,
        };
        let (name, value) = belongings.mark.split_once('=').unwrap();
        let mut shell = Command::new("sh")
            .args(["-c", "setsid sleep 600 & sleep 600"])
            .env(name, value)
            .spawn()
            .unwrap();
        let pid = i32::try_from(shell.id()).unwrap();
        let shell_id = identity(pid).unwrap();
        assert!(is_alive(shell_id));
        while belongings.find().len() < 3 {
            std::thread::yield_now();
        }
        belongings.kill_all().unwrap();
        assert!(!is_alive(shell_id));
        // Its exit status is taken already, or is to be had.
        let _ = shell.wait();
    }
}
