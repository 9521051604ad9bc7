//! What `agent status` shows: the running agent keeps it in a file, which holds no secret.

use std::{
    fmt::{self, Write as _},
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use proto::{
    agent_config::AgentConfig,
    ids::InstanceArn,
    instance::{Health, Job, Runner},
    state::State,
    time::{Time, human},
};
use serde::{Deserialize, Serialize};

use crate::{
    files::{FileError, read_json, write_json},
    machine::{ListenerId, Machine},
    process,
};

/// The agent at a moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Snapshot {
    /// The agent's version.
    pub agent: String,
    /// The agent's process.
    pub process: Option<ListenerId>,
    /// Since when this agent serves a machine.
    #[serde(default)]
    pub since: Option<Time>,
    /// Why the machine ends itself, if it does.
    #[serde(default)]
    pub leaving: Option<String>,
    /// The machine, once it is known.
    pub instance: Option<InstanceArn>,
    /// The pool, once it is known.
    pub pool: Option<String>,
    /// The record's state.
    pub state: Option<State>,
    /// The record's label.
    pub label: Option<String>,
    /// The record's generation.
    pub generation: Option<u64>,
    /// When the state's time is over.
    pub threshold: Option<Time>,
    /// What the agent is doing.
    pub phase: String,
    /// The runner program.
    pub runner: Option<Runner>,
    /// When the runner program was built, if its file tells.
    #[serde(default)]
    pub runner_built: Option<Time>,
    /// The job that runs.
    pub job: Option<Job>,
    /// Whether the machine may be handed out.
    pub health: Option<Health>,
    /// The last beat that the table took.
    pub last_beat: Option<Time>,
    /// Seconds between two beats.
    pub heartbeat: f64,
    /// The last few errors, oldest first.
    pub errors: Vec<String>,
}

impl Snapshot {
    /// An agent that has no configuration yet.
    pub fn starting(phase: &str, instance: Option<&InstanceArn>, error: Option<String>) -> Self {
        Self {
            agent: env!("CARGO_PKG_VERSION").to_owned(),
            process: process::own(),
            since: None,
            leaving: None,
            instance: instance.cloned(),
            pool: None,
            state: None,
            label: None,
            generation: None,
            threshold: None,
            phase: phase.to_owned(),
            runner: None,
            runner_built: None,
            job: None,
            health: None,
            last_beat: None,
            heartbeat: 0.0,
            errors: error.into_iter().collect(),
        }
    }

    /// The agent as its machine knows it.
    pub fn of(machine: &Machine, config: &AgentConfig, arn: &InstanceArn, since: Time) -> Self {
        let record = machine.record();
        let leaving = machine.leaving_because();
        Self {
            since: Some(since),
            leaving: leaving.map(str::to_owned),
            pool: Some(config.pool.to_string()),
            state: record.map(|record| record.state),
            label: record.and_then(|record| record.label.as_ref().map(ToString::to_string)),
            generation: record.map(|record| record.generation),
            threshold: record.and_then(|record| record.threshold),
            phase: leaving.map_or_else(
                || machine.phase().to_owned(),
                |reason| format!("{}: {reason}", machine.phase()),
            ),
            runner: machine.runner(),
            runner_built: machine.runner_built(),
            job: machine.job().cloned(),
            health: machine.health(),
            last_beat: machine.last_beat(),
            heartbeat: config.times.heartbeat,
            errors: machine.errors().to_vec(),
            ..Self::starting("", Some(arn), None)
        }
    }

    /// Whether that agent still runs.
    pub fn is_running(&self) -> bool {
        self.process.is_some_and(process::is_alive)
    }

    /// Why the agent or its machine is not well, if so.
    pub fn ailment(&self, now: Time) -> Option<String> {
        if let Some(health) = &self.health
            && !health.healthy
        {
            return Some(health.reason.clone().unwrap_or_default());
        }
        if let Some(reason) = &self.leaving {
            return Some(format!("this machine ends itself: {reason}"));
        }
        // Three beats, as the controller counts.
        let late =
            |since| Some(now.since(since)).filter(|age| age.as_secs_f64() > 3.0 * self.heartbeat);
        match (self.last_beat, self.since) {
            (Some(beat), _) => late(beat).map(|age| format!("the last beat is {} old", human(age))),
            (None, Some(since)) => {
                late(since).map(|age| format!("no beat in the {} since the start", human(age)))
            }
            (None, None) => self.pool.is_none().then(|| self.phase.clone()),
        }
    }

    /// The snapshot as people read it.
    pub fn text(&self, now: Time) -> String {
        let mut text = String::new();
        let mut line = |name: &str, value: Option<&dyn fmt::Display>| {
            if let Some(value) = value {
                let _ = writeln!(text, "{name:<11} {value}");
            }
        };
        let instance = self.instance.as_ref().map(|arn| arn.id().to_string());
        let threshold = self.threshold.map(|threshold| {
            if threshold > now {
                format!("{threshold}, in {}", human(threshold.since(now)))
            } else {
                format!("{threshold}, {} ago", human(now.since(threshold)))
            }
        });
        let age = self.runner_built.map_or(String::new(), |built| {
            format!(", {} days old", now.since(built).as_secs() / 86_400)
        });
        let runner = self.runner.as_ref().map(|runner| match &runner.name {
            Some(name) => format!("{}{age}, as {name}", runner.version),
            None => format!("{}{age}, not registered", runner.version),
        });
        let job = self
            .job
            .as_ref()
            .map(|job| format!("{}, for {}", job.name, human(now.since(job.since))));
        let beat = self
            .last_beat
            .map(|beat| format!("{} ago", human(now.since(beat))));
        let health = self.ailment(now).map_or_else(
            || "well".to_owned(),
            |ailment| format!("not well: {ailment}"),
        );
        let fields = [
            ("instance", instance),
            ("pool", self.pool.clone()),
            ("state", self.state.map(|state| state.to_string())),
            ("label", self.label.clone()),
            ("generation", self.generation.map(|g| g.to_string())),
            ("threshold", threshold),
            ("phase", Some(self.phase.clone())),
            ("runner", runner),
            ("job", job),
            ("last beat", beat),
            ("health", Some(health)),
            ("agent", Some(self.agent.clone())),
            ("pid", self.process.map(|process| process.pid.to_string())),
        ];
        for (name, value) in &fields {
            line(name, value.as_ref().map(|value| value as &dyn fmt::Display));
        }
        for error in &self.errors {
            line("error", Some(error));
        }
        text
    }
}

/// The file that the running agent keeps.
#[derive(Debug)]
pub struct StatusFile {
    path: PathBuf,
    /// Whether the last write failed.
    fails: AtomicBool,
}

impl StatusFile {
    /// The file in a folder.
    pub fn of(run_dir: &Path) -> Self {
        Self {
            path: run_dir.join("status.json"),
            fails: AtomicBool::new(false),
        }
    }

    /// Replaces what it says. That it cannot is logged, once until it can; the agent has more
    /// important things to do.
    pub fn write(&self, snapshot: &Snapshot) {
        let written = write_json(&self.path, snapshot, 0o644);
        let failed = self.fails.swap(written.is_err(), Ordering::Relaxed);
        if let Err(error) = written
            && !failed
        {
            tracing::warn!("{}", crate::ports::chain(&error));
        }
    }

    /// What the agent last said of itself; none when none ever ran here.
    pub(crate) fn read(&self) -> Result<Option<Snapshot>, FileError> {
        read_json(&self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_read_what_is_known_and_nothing_else() {
        let now = Time::from_millis(100_000);
        let mut snapshot = Snapshot::starting("listening", None, Some("an error".into()));
        snapshot.pool = Some("acme".into());
        snapshot.threshold = Some(Time::from_millis(130_000));
        snapshot.last_beat = Some(Time::from_millis(99_000));
        snapshot.heartbeat = 5.0;
        let text = snapshot.text(now);
        assert!(
            text.contains("threshold   1970-01-01T00:02:10.000Z, in 30s"),
            "{text}"
        );
        assert!(text.contains("health      well\n"), "{text}");
        assert!(!text.contains("job"), "{text}");
        assert!(snapshot.is_running());
        assert_eq!(snapshot.ailment(now), None);
        let late = Time::from_millis(200_000);
        assert_eq!(
            snapshot.ailment(late).unwrap(),
            "the last beat is 1m 41s old"
        );
        snapshot.last_beat = None;
        snapshot.since = Some(now);
        assert_eq!(snapshot.ailment(Time::from_millis(110_000)), None);
        assert!(snapshot.ailment(late).unwrap().contains("no beat"));
        snapshot.leaving = Some("enough".into());
        assert!(snapshot.ailment(now).unwrap().ends_with(": enough"));
    }
}
