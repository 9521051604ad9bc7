//! What the agent shows of its machine, to the record and to people.

use proto::{
    instance::{InstanceRecord, Job, Runner},
    time::Time,
};

use super::{Boot, Machine};

impl Machine {
    /// The own record, as last seen.
    pub fn record(&self) -> Option<&InstanceRecord> {
        self.record.as_deref()
    }

    /// How far boot came.
    pub fn boot(&self) -> &Boot {
        &self.boot
    }

    /// The job that runs.
    pub fn job(&self) -> Option<&Job> {
        self.job.as_ref()
    }

    /// What the runner is doing, in a word or two.
    pub fn phase(&self) -> &'static str {
        match (&self.leaving, &self.boot) {
            (Some(_), _) => "leaving",
            (None, Boot::Running) => "booting",
            (None, Boot::Failed { .. }) => "boot failed",
            (None, Boot::Done { .. }) => self.tenancy.phase_name(self.job.is_some()),
        }
    }

    /// Why the machine ends itself, if it does.
    pub fn leaving_because(&self) -> Option<&str> {
        self.leaving.as_ref().map(|leaving| leaving.reason.as_str())
    }

    /// The runner program, once it is known.
    pub fn runner(&self) -> Option<Runner> {
        Some(Runner {
            version: self.version()?.to_owned(),
            name: self.tenancy.registered_name().map(str::to_owned),
        })
    }

    /// The last few errors, oldest first.
    pub fn errors(&self) -> &[String] {
        &self.errors
    }

    /// When the table last answered a beat.
    pub fn last_beat(&self) -> Option<Time> {
        self.calls.last_beat
    }
}
