//! Processes, as `/proc` shows them.

mod belongings;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    sync::{Mutex, OnceLock, PoisonError},
    time::Duration,
};

use nix::{
    sys::{
        signal::{Signal, killpg},
        wait::{Id, WaitPidFlag, waitid, waitpid},
    },
    unistd::Pid,
};

pub(crate) use self::belongings::Belongings;
use crate::machine::ListenerId;

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
    let look = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    // No child at all is an error, and what is wanted.
    while let Some(pid) = waitid(Id::All, look).ok().and_then(|ended| ended.pid()) {
        if !reap_one(pid.as_raw()) {
            // Whoever waits for it takes it soon, and then the next one is seen.
            return;
        }
    }
}

/// Whether it was reaped: not if somebody waits for it.
fn reap_one(pid: i32) -> bool {
    let stray = !children(|children| children.contains(&pid));
    if stray {
        // Fails when it is reaped already, which is what is wanted.
        let _ = waitpid(Pid::from_raw(pid), Some(WaitPidFlag::WNOHANG));
    }
    stray
}

/// What `/proc/<pid>/stat` says.
#[derive(Clone, Copy, Debug)]
struct Stat {
    parent: i32,
    started: u64,
    over: bool,
    /// By SIGSTOP.
    stopped: bool,
}

fn stat(pid: i32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything, parentheses too.
    let (_, rest) = text.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let state = *fields.first()?;
    Some(Stat {
        over: matches!(state, "Z" | "X"),
        stopped: state == "T",
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

/// The identity of this process, which is read once.
pub(crate) fn own() -> Option<ListenerId> {
    static OWN: OnceLock<Option<ListenerId>> = OnceLock::new();
    *OWN.get_or_init(|| identity(this()))
}

/// Whether that very process lives.
pub(crate) fn is_alive(process: ListenerId) -> bool {
    identity(process.pid) == Some(process)
}

/// Whether that very process lives and has been stopped, and not been continued.
pub(crate) fn is_stopped(process: ListenerId) -> bool {
    stat(process.pid).is_some_and(|stat| stat.stopped && stat.started == process.started)
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

/// Whether a process has such a user in any of its roles. Not the owner of its folder in `/proc`: a
/// process that asked not to be dumped, such as `ssh-agent`, has root's.
fn has_user(pid: i32, theirs: impl Fn(u32) -> bool) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status
        .lines()
        .find_map(|line| line.strip_prefix("Uid:"))
        .is_some_and(|users| {
            let mut users = users.split_whitespace().filter_map(|one| one.parse().ok());
            users.any(theirs)
        })
}

/// All processes.
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
    fn a_later_process_with_the_same_number_is_another() {
        let own = identity(this()).unwrap();
        assert!(is_alive(own));
        let earlier = ListenerId {
            started: own.started - 1,
            ..own
        };
        assert!(!is_alive(earlier));
    }

    #[test]
    fn what_came_back_is_reaped_and_what_somebody_waits_for_is_not() {
        let start = || Command::new("true").spawn().unwrap();
        let (mut awaited, stray) = (start(), start());
        let own = Own::child(Some(awaited.id()));
        let stray = i32::try_from(stray.id()).unwrap();
        let over = |pid| stat(pid).is_none_or(|stat| stat.over);
        while !(over(stray) && over(own.pid().unwrap())) {
            std::thread::sleep(LOOK);
        }
        // Other tests' children are theirs: only these two are looked at.
        assert!(reap_one(stray));
        assert!(!reap_one(own.pid().unwrap()));
        assert!(stat(stray).is_none());
        assert!(awaited.wait().unwrap().success());
    }

    #[test]
    fn a_process_tells_its_user() {
        let user = nix::unistd::Uid::effective().as_raw();
        assert!(has_user(this(), |one| one == user));
        assert!(!has_user(this(), |one| one == user + 1));
    }
}
