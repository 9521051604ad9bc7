//! The listener and all that it starts live in a control group of their own, apart from the agent's.
//!
//! Under systemd that is a scope in a slice of this machine's: stopping, upgrading or losing the
//! agent's unit is nothing to it, and memory shortage there is not the agent's. Without systemd it
//! is a plain group at the same place. What is in the group is a job's, whatever user, parent or
//! environment it has given itself.

use std::{
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
};

use proto::ids::InstanceId;

/// Its folder is there when systemd runs this machine.
const SYSTEMD: &str = "/run/systemd/system";
const SYSTEMD_RUN: &str = "/usr/bin/systemd-run";
/// The shell enters the group and then becomes the program.
const ENTER: &str = r#"echo $$ >"$0/cgroup.procs"; exec "$@""#;

/// Where the runner lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cage {
    slice: String,
    /// The control group, if this machine has such.
    group: Option<PathBuf>,
    systemd: bool,
}

impl Cage {
    /// That of a machine.
    pub(crate) fn of(instance: &InstanceId) -> Self {
        // A hyphen would be a level of the hierarchy.
        let slice = format!("paddock_{}.slice", instance.as_str().replace('-', ""));
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        Self {
            group: hierarchy(&mounts).map(|root| root.join(&slice)),
            systemd: Path::new(SYSTEMD).exists() && Path::new(SYSTEMD_RUN).exists(),
            slice,
        }
    }

    /// The group's folder.
    pub(crate) fn group(&self) -> Option<&Path> {
        self.group.as_deref()
    }

    /// What a program's command line begins with so that it runs in the cage; nothing where none
    /// can be made. The process id stays the same.
    pub(crate) fn enter(&self) -> Vec<OsString> {
        if self.systemd {
            let slice = format!("--slice={}", self.slice);
            let options = ["--scope", "--quiet", "--collect", &slice];
            // Delegated, a scope lives on when the kernel takes one of its processes for want of
            // memory: newer versions of systemd would stop all of it.
            let limits = [
                "--property=TasksMax=infinity",
                "--property=Delegate=yes",
                "--",
            ];
            return [SYSTEMD_RUN]
                .into_iter()
                .chain(options)
                .chain(limits)
                .map(OsString::from)
                .collect();
        }
        let Some(group) = &self.group else {
            return Vec::new();
        };
        match fs::create_dir_all(group) {
            Ok(()) => vec![
                "/bin/sh".into(),
                "-c".into(),
                ENTER.into(),
                group.clone().into(),
            ],
            Err(error) => {
                tracing::debug!("no control group for jobs: {error}");
                Vec::new()
            }
        }
    }

    /// Forgets the group once it is empty. systemd does so by itself.
    pub(crate) fn forget(&self) {
        if let Some(group) = self.group.as_ref().filter(|_| !self.systemd) {
            // Not there, or not empty: the next cleaning sees to it.
            let _ = remove_groups(group);
        }
    }
}

/// Where the control groups of version 2 are mounted.
fn hierarchy(mounts: &str) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let mut fields = line.split_whitespace();
        let place = fields.nth(1)?;
        (fields.next()? == "cgroup2").then(|| place.into())
    })
}

/// All processes of a group and of the groups in it.
pub(crate) fn members(group: &Path) -> Vec<i32> {
    let processes = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    let mut members: Vec<i32> = processes
        .lines()
        .filter_map(|line| line.parse().ok())
        .collect();
    for group in groups(group) {
        members.extend(self::members(&group));
    }
    members
}

/// Kills all members at once, so that none can outrun it; older kernels cannot.
pub(crate) fn kill(group: &Path) {
    if let Err(error) = fs::write(group.join("cgroup.kill"), "1")
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::debug!("the control group is not killed at once: {error}");
    }
}

fn groups(group: &Path) -> Vec<PathBuf> {
    fs::read_dir(group)
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            let entry = entry.ok()?;
            entry.file_type().ok()?.is_dir().then(|| entry.path())
        })
        .collect()
}

fn remove_groups(group: &Path) -> io::Result<()> {
    for inner in groups(group) {
        remove_groups(&inner)?;
    }
    fs::remove_dir(group)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cage(systemd: bool) -> Cage {
        Cage {
            systemd,
            ..Cage::of(&"i-0123456789abcdef0".parse().unwrap())
        }
    }

    #[test]
    fn the_second_version_of_control_groups_is_found_wherever_it_is() {
        let hybrid = "tmpfs /sys/fs/cgroup tmpfs rw 0 0\n\
                      cgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\n\
                      cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n";
        assert_eq!(
            hierarchy(hybrid).unwrap(),
            Path::new("/sys/fs/cgroup/unified")
        );
        assert_eq!(hierarchy("proc /proc proc rw 0 0\n"), None);
    }

    #[test]
    fn under_systemd_it_is_a_scope_in_the_machines_own_slice() {
        let begin = cage(true).enter();
        assert_eq!(begin.first().unwrap(), SYSTEMD_RUN);
        assert!(begin.contains(&"--scope".into()), "{begin:?}");
        assert!(begin.contains(&"--slice=paddock_i0123456789abcdef0.slice".into()));
        assert_eq!(begin.last().unwrap(), "--");
    }

    #[test]
    fn what_detaches_itself_from_everything_is_still_in_the_group() {
        let cage = cage(false);
        let begin = cage.enter();
        let Some(group) = cage.group().filter(|_| !begin.is_empty()) else {
            eprintln!("SKIPPED: no control groups of version 2 that this user may make");
            return;
        };
        let mut arguments = begin.into_iter();
        let daemon = "env -i setsid sh -c 'sleep 600 & sleep 600' & exit 0";
        let status = std::process::Command::new(arguments.next().unwrap())
            .args(arguments)
            .args(["/bin/sh", "-c", daemon])
            .status()
            .unwrap();
        assert!(status.success());
        while members(group).len() < 3 {
            std::thread::yield_now();
        }
        kill(group);
        while !members(group).is_empty() {
            std::thread::yield_now();
        }
        cage.forget();
        assert!(!group.exists());
    }
}
