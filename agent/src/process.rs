//! Processes, as `/proc` shows them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::MetadataExt,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use nix::{
    sys::{
        signal::{Signal, kill, killpg},
        wait::{WaitPidFlag, waitpid},
    },
    unistd::Pid,
};

use crate::machine::ListenerId;

/// How long killed processes may take to go.
const PATIENCE: Duration = Duration::from_secs(10);
/// The kernel tears processes down on its own time.
const LOOK: Duration = Duration::from_millis(5);

/// The agent's own children, whose exit status somebody waits for.
static CHILDREN: Mutex<BTreeSet<i32>> = Mutex::new(BTreeSet::new());

/// Keeps the exit status of a child for whoever started it.
pub(crate) struct Own(Option<i32>);

impl Own {
    pub(crate) fn child(pid: Option<u32>) -> Self {
        let pid = pid.and_then(|pid| i32::try_from(pid).ok());
        children(|children| children.extend(pid));
        Self(pid)
    }

    pub(crate) fn pid(&self) -> Option<i32> {
        self.0
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        if let Some(pid) = self.0 {
            children(|children| children.remove(&pid));
        }
    }
}

fn children<T>(work: impl FnOnce(&mut BTreeSet<i32>) -> T) -> T {
    // A set of numbers is never half-changed.
    work(&mut CHILDREN.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Takes the exit status of what came back to this process and has ended: nobody else will.
pub(crate) fn reap() {
    for (pid, stat) in all() {
        if stat.over && stat.parent == this() {
            reap_one(pid);
        }
    }
}

fn reap_one(pid: i32) {
    if !children(|children| children.contains(&pid)) {
        // Fails when it is reaped already, which is what is wanted.
        let _ = waitpid(Pid::from_raw(pid), Some(WaitPidFlag::WNOHANG));
    }
}

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

/// Kills the process group that this process leads or led, and waits for its end.
pub(crate) async fn end_group(leader: ListenerId, within: Duration) {
    let reused = identity(leader.pid).is_some_and(|found| found != leader);
    let group = Pid::from_raw(leader.pid);
    // Without a leader the number is nobody else's as long as the group has members.
    if reused || killpg(group, Signal::SIGKILL).is_err() {
        return;
    }
    let gone = async {
        while is_alive(leader) {
            tokio::time::sleep(LOOK).await;
        }
    };
    if tokio::time::timeout(within, gone).await.is_err() {
        tracing::warn!(pid = leader.pid, "an earlier script does not end");
    }
}

/// Takes from a child the protection from the kernel's memory shortage that the agent has by its
/// unit: jobs are what should go then.
pub(crate) fn mortal(pid: i32) {
    let own = fs::read_to_string("/proc/self/oom_score_adj").unwrap_or_default();
    if own.starts_with('-')
        && let Err(error) = fs::write(format!("/proc/{pid}/oom_score_adj"), "0")
    {
        tracing::warn!(
            pid,
            "the runner is protected from memory shortage as the agent is: {error}"
        );
    }
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

    /// The listener among them: the eldest, for only that one was started by an agent.
    pub(crate) fn listener(&self) -> Option<ListenerId> {
        let listens = |pid: &i32| {
            arguments(*pid)
                .windows(2)
                .any(|pair| pair[0].ends_with("/Runner.Listener") && pair[1] == "run")
        };
        self.find()
            .into_iter()
            .filter(|(pid, stat)| !stat.over && listens(pid))
            .map(|(pid, Stat { started, .. })| ListenerId { pid, started })
            .min_by_key(|listener| (listener.started, listener.pid))
    }

    /// Whether a listener has a worker, that is, a job.
    pub(crate) fn works(&self, listener: ListenerId) -> bool {
        let found = self.find();
        family(&found, listener.pid).into_iter().any(|pid| {
            let program = arguments(pid).into_iter().next().unwrap_or_default();
            program.ends_with("/Runner.Worker") && !found.get(&pid).is_none_or(|stat| stat.over)
        })
    }

    /// Kills all of them, until none is left; `spared` and its descendants stay. Blocks.
    ///
    /// # Errors
    ///
    /// The processes that would not die.
    pub(crate) fn kill_all(&self, spared: Option<ListenerId>) -> Result<(), Vec<i32>> {
        let mut waited = Duration::ZERO;
        loop {
            let mut found = self.find();
            if let Some(spared) = spared.filter(|spared| is_alive(*spared)) {
                let family = family(&found, spared.pid);
                found.retain(|pid, _| !family.contains(pid));
            }
            let (over, alive): (Vec<_>, Vec<_>) =
                found.into_iter().partition(|(_, stat)| stat.over);
            for (pid, stat) in over {
                if self.agent == Some(stat.parent) {
                    reap_one(pid);
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

/// A process and its descendants.
fn family(all: &BTreeMap<i32, Stat>, head: i32) -> BTreeSet<i32> {
    let mut family = BTreeSet::from([head]);
    loop {
        let size = family.len();
        for (pid, stat) in all {
            if family.contains(&stat.parent) {
                family.insert(*pid);
            }
        }
        if family.len() == size {
            return family;
        }
    }
}

/// The arguments that a process was started with.
fn arguments(pid: i32) -> Vec<String> {
    // Unreadable: gone.
    fs::read(format!("/proc/{pid}/cmdline"))
        .unwrap_or_default()
        .split(|byte| *byte == 0)
        .map(|argument| String::from_utf8_lossy(argument).into_owned())
        .collect()
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
        // What is spared stays with its descendants, what detached itself before does not.
        belongings.kill_all(Some(shell_id)).unwrap();
        assert!(is_alive(shell_id));
        belongings.kill_all(None).unwrap();
        assert!(!is_alive(shell_id));
        // Its exit status is taken already, or is to be had.
        let _ = shell.wait();
    }
}
