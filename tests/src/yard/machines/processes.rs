//! Finds and kills processes by a mark in their environment.
//!
//! Whoever starts a machine's first process sets the mark; children inherit it
//! through every fork, `setsid` and double fork. Processes that dropped their
//! environment are found through a marked process: by descent, process group
//! or session. (One that dropped it and outlived all marked relatives is out
//! of reach.)

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How long killing may take before it counts as failed. The kernel needs
/// milliseconds; the rest is for a machine under load.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long an exec may take; past that, a process really shows nothing.
const EXEC: Duration = Duration::from_millis(500);

/// In the kernel's `flags` of a process: it is a thread of the kernel.
const KERNEL_THREAD: u32 = 0x0020_0000;

/// `NAME=value` in the environment of every process that belongs together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    entry: String,
}

/// What `/proc/<pid>/stat` says about a process.
#[derive(Clone, Copy, Debug)]
struct Relations {
    parent: i32,
    group: i32,
    session: i32,
}

impl Mark {
    /// All processes that belong to this world.
    pub fn world(id: &str) -> Self {
        Self::variable("PADDOCK_YARD_WORLD", id)
    }

    /// All processes that belong to this machine.
    pub fn machine(id: &str) -> Self {
        Self::variable("PADDOCK_YARD_MACHINE", id)
    }

    /// All processes with this variable in their environment.
    pub fn variable(name: &str, value: &str) -> Self {
        Self {
            entry: format!("{name}={value}"),
        }
    }

    fn is_on(&self, pid: i32) -> bool {
        environment(pid)
            .split(|byte| *byte == 0)
            .any(|entry| entry == self.entry.as_bytes())
    }

    /// The living processes that carry the mark or belong to one that does.
    /// Never the caller.
    pub fn processes(&self) -> Vec<Pid> {
        let all = relations();
        let own = Pid::this().as_raw();
        let mut found: BTreeSet<i32> = all
            .keys()
            .copied()
            .filter(|pid| *pid != own && self.is_on(*pid))
            .collect();
        // Groups and sessions that a marked process leads, not those it was born into.
        loop {
            let relatives: Vec<i32> = all
                .iter()
                .filter(|(pid, relations)| {
                    **pid != own
                        && !found.contains(pid)
                        && (found.contains(&relations.parent)
                            || found.contains(&relations.group)
                            || found.contains(&relations.session))
                })
                .map(|(pid, _)| *pid)
                .collect();
            if relatives.is_empty() {
                return found.into_iter().map(Pid::from_raw).collect();
            }
            found.extend(relatives);
        }
    }

    /// Kills every process of [`Mark::processes`] until none is left, and
    /// answers how many signals that took.
    pub fn kill_all(&self) -> usize {
        let deadline = Instant::now() + PATIENCE;
        let mut signals = 0;
        // A process may fork behind the back of one scan, not of two.
        let mut quiet = 0;
        loop {
            let found = self.processes();
            if found.is_empty() {
                quiet += 1;
                if quiet == 2 {
                    return signals;
                }
                continue;
            }
            quiet = 0;
            if Instant::now() > deadline {
                tracing::error!(?found, mark = self.entry, "processes that do not die");
                return signals;
            }
            for pid in found {
                // Fails when the process just ended, which is what is wanted.
                if kill(pid, Signal::SIGKILL).is_ok() {
                    signals += 1;
                }
            }
            // The kernel tears processes down on its own time.
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

/// The environment that a process was started with; empty when it has none,
/// is gone, a zombie, or somebody else's.
fn environment(pid: i32) -> Vec<u8> {
    let read = |name| fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default();
    let deadline = Instant::now() + EXEC;
    loop {
        let environment = read("environ");
        // In the middle of an exec, or of its end, a process shows neither
        // environment nor arguments: look again.
        if !environment.is_empty()
            || !read("cmdline").is_empty()
            || relations_of(pid).is_none()
            || Instant::now() > deadline
        {
            return environment;
        }
        std::thread::yield_now();
    }
}

/// All processes that are neither zombies nor the kernel's own threads.
fn relations() -> BTreeMap<i32, Relations> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return BTreeMap::new();
    };
    entries
        .filter_map(|entry| {
            let pid = entry.ok()?.file_name().to_str()?.parse().ok()?;
            Some((pid, relations_of(pid)?))
        })
        .collect()
}

fn relations_of(pid: i32) -> Option<Relations> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything, parentheses too.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    let state = fields.next()?;
    let mut number = || fields.next()?.parse().ok();
    let relations = Relations {
        parent: number()?,
        group: number()?,
        session: number()?,
    };
    // Terminal and its foreground group come in between.
    let flags: u32 = fields.nth(2)?.parse().ok()?;
    let ordinary = !matches!(state, "Z" | "X") && flags & KERNEL_THREAD == 0;
    ordinary.then_some(relations)
}
