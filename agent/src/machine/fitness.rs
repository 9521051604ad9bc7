//! What a machine needs for a tenant: room, memory, a clock that is right, Docker if it is asked for,
//! a runner program that GitHub still gives jobs.

use std::time::Duration;

use proto::time::{Time, human};

use super::{Vitals, text};

/// Bytes that a checkout and its build need at the very least.
const LEAST_DISK: u64 = 1 << 30;
/// Files that they need.
const LEAST_FILES: u64 = 10_000;
/// Bytes of memory without which not even the runner starts.
const LEAST_MEMORY: u64 = 256 << 20;
/// Beyond this, tokens and certificates begin to seem expired or not yet valid.
const CLOCK_OFF: Duration = Duration::from_secs(30);
/// GitHub lets no older runner register.
const OLDEST_RUNNER: [u32; 3] = [2, 329, 0];
/// GitHub gives jobs to releases of about the last 30 days before the newest one. No release was
/// ever the newest for long: one of this age gets none any more.
const LONGEST_LIFE: Duration = Duration::from_hours(90 * 24);
/// Image builders set the times of files to long ago; there is no such runner before 2019.
const FIRST_RUNNER: i64 = 1_546_300_800_000;

/// What is wrong with the machine.
pub(super) fn trouble(vitals: &Vitals, now: Time) -> Option<String> {
    let mib = |bytes: u64| bytes >> 20;
    for disk in &vitals.disks {
        let path = &disk.path;
        if disk.free < LEAST_DISK {
            let (free, least) = (mib(disk.free), mib(LEAST_DISK));
            return Some(format!("{path} has {free} MiB free, it needs {least}"));
        }
        if let Some(files) = disk.files.filter(|files| *files < LEAST_FILES) {
            return Some(format!(
                "{path} has room for {files} files, it needs {LEAST_FILES}"
            ));
        }
    }
    if let Some(memory) = vitals.memory.filter(|memory| *memory < LEAST_MEMORY) {
        let (free, least) = (mib(memory), mib(LEAST_MEMORY));
        return Some(format!("{free} MiB of memory are free, {least} are needed"));
    }
    if vitals.clock_off > CLOCK_OFF {
        let off = human(vitals.clock_off);
        return Some(format!("the machine's clock is {off} off AWS's"));
    }
    if let Some(cause) = &vitals.docker {
        return Some(format!(
            "Docker does not answer: {}",
            text::first_line(cause)
        ));
    }
    let built = built(vitals)?;
    let days = now.since(built).as_secs() / 86_400;
    (now.since(built) > LONGEST_LIFE)
        .then(|| format!("the runner program is {days} days old, GitHub gives it no jobs any more"))
}

/// When the runner program was built, if its file's time can be true.
pub(super) fn built(vitals: &Vitals) -> Option<Time> {
    vitals
        .runner_built
        .filter(|built| built.as_millis() >= FIRST_RUNNER)
}

/// What is wrong with the version of the runner program.
pub(super) fn old_version(version: &str) -> Option<String> {
    let numbers: Vec<u32> = version
        .split('.')
        .map_while(|number| number.parse().ok())
        .collect();
    let [a, b, c] = OLDEST_RUNNER;
    (numbers.len() == 3 && numbers[..] < OLDEST_RUNNER[..]).then(|| {
        format!("the runner program has version {version}, GitHub wants {a}.{b}.{c} at least")
    })
}

#[cfg(test)]
mod tests {
    use super::{super::Disk, *};

    type Spoil = fn(&mut Vitals);

    fn well() -> Vitals {
        Vitals {
            disks: vec![Disk {
                path: "/".into(),
                free: 50 << 30,
                files: Some(1_000_000),
            }],
            memory: Some(8 << 30),
            ..Vitals::default()
        }
    }

    #[test]
    fn each_trouble_is_named_with_what_is_needed() {
        let now = Time::from_millis(1_800_000_000_000);
        assert_eq!(trouble(&well(), now), None);
        let spoil = |change: Spoil| {
            let mut vitals = well();
            change(&mut vitals);
            trouble(&vitals, now).unwrap()
        };
        let cases: [(Spoil, &str); 6] = [
            (
                |v| v.disks[0].free = 5 << 20,
                "/ has 5 MiB free, it needs 1024",
            ),
            (|v| v.disks[0].files = Some(7), "room for 7 files"),
            (|v| v.memory = Some(100 << 20), "100 MiB of memory"),
            (|v| v.clock_off = Duration::from_hours(1), "1h 0m off"),
            (|v| v.docker = Some("no\nsuch".into()), "answer: no"),
            (
                |v| v.runner_built = Some(Time::from_millis(1_790_000_000_000)),
                "115 days old",
            ),
        ];
        for (change, text) in cases {
            let trouble = spoil(change);
            assert!(trouble.contains(text), "{trouble}");
        }
        let mut unlimited = well();
        unlimited.disks[0].files = None;
        unlimited.runner_built = Some(Time::EPOCH);
        assert_eq!(trouble(&unlimited, now), None);
    }

    #[test]
    fn only_versions_before_githubs_minimum_are_old() {
        for version in ["2.328.0", "1.999.9"] {
            assert!(old_version(version).is_some(), "{version}");
        }
        for version in ["2.329.0", "2.1000.1", "3.0.0", "", "nightly"] {
            assert_eq!(old_version(version), None, "{version}");
        }
    }
}
