//! Which processes are a job's.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{LOOK, Stat, all, has_user, is_alive, reap_one, this};
use crate::{account::Person, cage, machine::ListenerId};

/// How long killed processes may take to go.
const PATIENCE: Duration = Duration::from_secs(10);

/// Which processes belong to the jobs of this machine.
#[derive(Clone, Debug)]
pub(crate) struct Belongings {
    /// `NAME=value` in the environment of the runner and of whatever it starts.
    pub(crate) mark: String,
    /// The user that only the runner has, if there is such.
    pub(crate) person: Option<Person>,
    /// The control group that the runner lives in, if there is such.
    pub(crate) group: Option<PathBuf>,
    /// The agent, all of whose descendants are a job's: what detached itself comes back to it, for
    /// it is a subreaper.
    pub(crate) agent: Option<i32>,
}

impl Belongings {
    /// Those that are in the group, carry the mark or have the user, and all descendants of those
    /// and of the agent.
    fn find(&self) -> BTreeMap<i32, Stat> {
        let all = all();
        let own = this();
        let mut found: BTreeSet<i32> = all
            .keys()
            .copied()
            .filter(|pid| *pid != own && self.bears(*pid))
            .collect();
        if let Some(group) = &self.group {
            found.extend(cage::members(group).into_iter().filter(|pid| *pid != own));
        }
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
        self.person
            .as_ref()
            .is_some_and(|person| has_user(pid, |user| person.is(user)))
            || marked()
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

    /// Kills all of them, until none is left; `spared` and its descendants stay. Answers whether
    /// there was any. Blocks.
    ///
    /// # Errors
    ///
    /// The processes that would not die.
    pub(crate) fn kill_all(&self, spared: Option<ListenerId>) -> Result<bool, Vec<i32>> {
        let mut found_any = false;
        if let Some(group) = self.group.as_ref().filter(|_| spared.is_none()) {
            cage::kill(group);
        }
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
                return Ok(found_any);
            }
            found_any = true;
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

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::process::identity;

    fn marked(mark: &str) -> Belongings {
        Belongings {
            mark: format!("PADDOCK_TEST_{mark}={}", this()),
            person: None,
            group: None,
            agent: None,
        }
    }

    fn start(belongings: &Belongings, program: &str, arguments: &[&str]) -> std::process::Child {
        let (name, value) = belongings.mark.split_once('=').unwrap();
        Command::new(program)
            .args(arguments)
            .env(name, value)
            .stdin(std::process::Stdio::null())
            .spawn()
            .unwrap()
    }

    fn id(child: &std::process::Child) -> ListenerId {
        identity(i32::try_from(child.id()).unwrap()).unwrap()
    }

    #[test]
    fn a_living_listener_is_found_and_so_is_its_worker() {
        let folder = tempfile::tempdir().unwrap();
        // A program of these names that lives as long as its input is open.
        let programs = ["Runner.Listener", "Runner.Worker"].map(|name| {
            let path = folder.path().join(name);
            fs::copy("/bin/sh", &path).unwrap();
            path.display().to_string()
        });
        let [listener, worker] = &programs;
        let belongings = marked("LISTENER");
        assert_eq!(belongings.listener(), None);
        // `sh run`: the official listener's first argument is this script's name.
        let go = folder.path().join("go");
        let text = format!(
            "until [ -e '{0}' ]; do sleep 0.01; done; '{worker}' -c 'sleep 600; true' & wait",
            go.display()
        );
        fs::write(folder.path().join("run"), text).unwrap();
        let mut shell = Command::new(listener)
            .arg("run")
            .current_dir(folder.path())
            .envs([belongings.mark.split_once('=').unwrap()])
            .spawn()
            .unwrap();
        // A worker of nobody's is not this listener's job.
        let mut impostor = start(&belongings, worker, &["-c", "sleep 600; true"]);
        let found = id(&shell);
        while belongings.listener().is_none() {
            std::thread::sleep(LOOK);
        }
        assert_eq!(belongings.listener(), Some(found));
        assert!(!belongings.works(found));
        fs::write(go, "").unwrap();
        while !belongings.works(found) {
            std::thread::sleep(LOOK);
        }
        belongings.kill_all(None).unwrap();
        assert_eq!(belongings.listener(), None);
        // Their exit status is taken already, or is to be had.
        let _ = (shell.wait(), impostor.wait());
    }

    #[test]
    fn what_a_job_left_is_found_by_its_mark_and_killed() {
        let belongings = marked("MARK");
        let mut shell = start(&belongings, "sh", &["-c", "setsid sleep 600 & sleep 600"]);
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
