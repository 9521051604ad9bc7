//! Whether the machine is fit for a tenant, and whether its runner still works.
//!
//! The machine is judged while it has no tenant, and always anew before it says that it may have
//! one. What a tenant does to disk and memory is its own affair until it goes.

use std::time::Duration;

use proto::{
    instance::Health,
    time::{Time, human},
};

use super::{Boot, Effect, Machine, Now, Vitals, tenancy::Phase, text};

/// Between two examinations.
const EVERY: Duration = Duration::from_secs(10);
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
/// How long a job may be without a worker, or a worker without a job.
const WORKER_LATE: Duration = Duration::from_mins(2);
/// A listener polls every minute and says so at least every half hour.
const SILENCE: Duration = Duration::from_mins(35);

const DRAINED: &str = "an operator drains this machine";

/// The examination under way.
#[derive(Debug, Default, PartialEq, Eq)]
enum Look {
    #[default]
    None,
    UnderWay,
    /// It began before the machine became empty.
    Outdated,
}

/// What the last examination showed.
#[derive(Debug, Default)]
pub(super) struct Condition {
    trouble: Option<String>,
    /// The machine was seen since it became empty.
    fresh: bool,
    look: Look,
    /// No examination before this.
    next: Duration,
    /// When the runner program was built, if that is known.
    runner_built: Option<Time>,
    drained: bool,
    /// Since when a job has no worker.
    workerless: Option<Duration>,
    /// Since when a worker has no job.
    jobless: Option<Duration>,
    /// What is wrong with the runner.
    wedged: Option<String>,
}

impl Machine {
    /// The examination that is due, if any.
    pub(super) fn examine(&mut self, now: Now) -> Option<Effect> {
        let at = self.examine_wake()?;
        (now.mono >= at).then(|| {
            self.condition.look = Look::UnderWay;
            Effect::Examine(self.tenancy.listener)
        })
    }

    /// When the next examination is due; none while one is under way.
    pub(super) fn examine_wake(&self) -> Option<Duration> {
        let idle = self.condition.look == Look::None && matches!(self.boot, Boot::Done { .. });
        idle.then_some(self.condition.next)
    }

    /// The machine has become empty: what was seen before does not count any more.
    pub(super) fn examine_anew(&mut self) {
        self.condition.fresh = false;
        if self.condition.look == Look::UnderWay {
            self.condition.look = Look::Outdated;
        }
        self.condition.next = Duration::ZERO;
    }

    /// Whether the machine was looked at since it became empty.
    pub(super) fn is_examined(&self) -> bool {
        self.condition.fresh
    }

    pub(super) fn examined(&mut self, vitals: Result<Vitals, String>, now: Now) {
        if std::mem::take(&mut self.condition.look) == Look::Outdated {
            return;
        }
        self.condition.next = now.mono + EVERY;
        if let Ok(vitals) = &vitals {
            self.watch_runner(vitals, now);
            self.condition.runner_built = built(vitals);
            if vitals.drained != self.condition.drained {
                tracing::info!(drained = vitals.drained, "an operator's word");
            }
            self.condition.drained = vitals.drained;
        }
        let trouble = match vitals {
            Ok(vitals) => {
                trouble(&vitals, now.wall).or_else(|| self.version().and_then(old_version))
            }
            Err(cause) => Some(format!("the machine cannot be examined: {cause}")),
        };
        let before = self.unfit().map(str::to_owned);
        self.condition.trouble = trouble;
        self.condition.fresh = true;
        match (before, self.unfit().map(str::to_owned)) {
            (None, Some(after)) => self.note(now, &format!("not fit for a tenant: {after}")),
            (Some(_), None) => tracing::info!("fit for a tenant again"),
            // Numbers change; that it is unfit was said.
            (Some(_), Some(_)) | (None, None) => {}
        }
    }

    /// Why a machine without tenant should not get one.
    fn unfit(&self) -> Option<&str> {
        let judged = self.tenancy.phase == Phase::Empty && self.condition.fresh;
        self.condition.trouble.as_deref().filter(|_| judged)
    }

    /// Whether the machine may be handed out, once that is known.
    pub fn health(&self) -> Option<Health> {
        let announced = self.noticed.ailment();
        let reason = match &self.boot {
            Boot::Running if announced.is_none() => return None,
            Boot::Failed { .. } => Some("boot failed".to_owned()),
            Boot::Running | Boot::Done { .. } => announced.or_else(|| {
                self.tenancy
                    .ailment()
                    .or(self.condition.drained.then_some(DRAINED))
                    .or(self.condition.wedged.as_deref())
                    .or_else(|| self.unfit())
                    .map(text::first_line)
            }),
        };
        Some(Health {
            healthy: reason.is_none(),
            reason,
        })
    }

    /// When the runner program was built, if that is known.
    pub fn runner_built(&self) -> Option<Time> {
        self.condition.runner_built
    }

    /// Notices a runner that does not do what it says.
    fn watch_runner(&mut self, vitals: &Vitals, now: Now) {
        let late = |since: &mut Option<Duration>, is: bool| {
            *since = is.then(|| since.unwrap_or(now.mono));
            since.filter(|since| now.mono.saturating_sub(*since) >= WORKER_LATE)
        };
        let busy = self.job.is_some();
        let workerless = late(
            &mut self.condition.workerless,
            busy && vitals.worker == Some(false),
        );
        let jobless = late(
            &mut self.condition.jobless,
            !busy && vitals.worker == Some(true),
        );
        let silent = vitals
            .silent
            .filter(|silent| *silent >= SILENCE && !busy && self.tenancy.phase == Phase::Listening);
        let wedged = if workerless.is_some() {
            let job = self.job.as_ref().map_or("", |job| job.name.as_str());
            Some(format!(
                "the runner took the job `{job}` and has no worker for it"
            ))
        } else if jobless.is_some() {
            Some("the runner's worker outlives its job".to_owned())
        } else {
            silent.map(|_| format!("the listener is silent for more than {}", human(SILENCE)))
        };
        if let Some(wedged) = wedged.as_ref().filter(|_| wedged != self.condition.wedged) {
            self.note(now, wedged);
        }
        self.condition.wedged = wedged;
    }
}

/// What is wrong with the machine.
fn trouble(vitals: &Vitals, now: Time) -> Option<String> {
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
fn built(vitals: &Vitals) -> Option<Time> {
    vitals
        .runner_built
        .filter(|built| built.as_millis() >= FIRST_RUNNER)
}

fn old_version(version: &str) -> Option<String> {
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
