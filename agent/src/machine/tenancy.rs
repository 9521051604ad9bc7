//! The runner: where it stands and for whom it is. What becomes of it is decided in `drive`.

use std::time::Duration;

use proto::{
    ids::Label,
    instance::{InstanceRecord, Job, Secret},
    state::State,
};

use super::{Effect, ListenerId, Saved, Tenant};

/// Where the runner stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// No runner is registered, and nothing is left of the last one.
    Empty,
    Configuring,
    /// Waiting to try again.
    Paused {
        until: Duration,
        next: Next,
    },
    /// The listener runs and has not yet said that it listens.
    Starting,
    Listening,
    /// Could not be registered.
    Failed {
        cause: String,
    },
    Removing,
    RemovePaused {
        until: Duration,
    },
    Retiring,
    /// Could not be deregistered, or not be cleaned: of no use to anybody any more.
    Stuck {
        cause: String,
    },
}

/// What is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    Configure,
    Listen,
}

/// The runner and for whom it is.
#[derive(Debug)]
pub(super) struct Tenancy {
    pub(super) phase: Phase,
    pub(super) tenant: Option<Tenant>,
    /// GitHub's registration token, until the runner listens: jobs run beside this process. One
    /// that registers anew after each job keeps it.
    pub(super) token: Option<Secret>,
    /// The listener has done a job.
    pub(super) worked: bool,
    /// The runner may listen.
    pub(super) configured: bool,
    /// GitHub may know the runner.
    pub(super) registered: bool,
    pub(super) listener: Option<ListenerId>,
    /// When a listener last said something.
    pub(super) spoke: Duration,
    /// Numbers the listeners, so that a late word of an earlier one is not taken for this one's.
    pub(super) run: u64,
    pub(super) offset: u64,
    pub(super) tries: u32,
    pub(super) comebacks: u32,
    /// When registration must be over.
    pub(super) deadline: Duration,
}

/// For whom the record says that this machine is: the label, and the generation in which it was
/// given to it. A commit counts the generation up and leaves the tenant as it is.
pub fn tenant_of(record: &InstanceRecord) -> Option<(&Label, u64)> {
    let label = record.label.as_ref()?;
    match record.state {
        State::Created | State::Claimed => Some((label, record.generation)),
        State::Running => Some((label, record.generation.saturating_sub(1))),
        State::Idle | State::Terminated => None,
    }
}

impl Tenancy {
    /// Goes on where an earlier agent stopped.
    pub(super) fn restored(saved: Option<&Saved>) -> Self {
        let alive = saved.is_some_and(|saved| saved.listener.is_some());
        let at_once = Duration::ZERO;
        let phase = match saved {
            None => Phase::Empty,
            Some(saved) if alive && saved.listening => Phase::Listening,
            Some(_) if alive => Phase::Starting,
            Some(saved) => Phase::Paused {
                until: at_once,
                next: if saved.configured {
                    Next::Listen
                } else {
                    Next::Configure
                },
            },
        };
        Self {
            phase,
            tenant: saved.map(|saved| saved.tenant.clone()),
            token: saved.and_then(|saved| saved.token.clone()),
            worked: false,
            configured: saved.is_some_and(|saved| saved.configured),
            registered: saved.is_some_and(|saved| saved.registered),
            listener: saved.and_then(|saved| saved.listener),
            spoke: Duration::ZERO,
            run: 0,
            offset: saved.filter(|_| alive).map_or(0, |saved| saved.offset),
            tries: 0,
            comebacks: 0,
            deadline: Duration::ZERO,
        }
    }

    pub(super) fn adopt(&self) -> Option<Effect> {
        let listener = self.listener?;
        Some(Effect::Adopt(self.run, listener, self.offset))
    }

    pub(super) fn save(
        &self,
        version: Option<&str>,
        job: Option<&Job>,
        ephemeral: bool,
    ) -> Option<Saved> {
        Some(Saved {
            token: self.token.clone().filter(|_| ephemeral),
            tenant: self.tenant.clone()?,
            version: version.map(str::to_owned),
            configured: self.configured,
            registered: self.registered,
            listening: self.phase == Phase::Listening,
            listener: self.listener,
            offset: self.offset,
            job: job.cloned(),
        })
    }

    pub(super) fn registered_name(&self) -> Option<&str> {
        self.tenant
            .as_ref()
            .filter(|_| self.configured)
            .map(|tenant| tenant.name.as_str())
    }

    /// Why the machine should not be handed out.
    pub(super) fn ailment(&self) -> Option<&str> {
        match &self.phase {
            Phase::Failed { cause } | Phase::Stuck { cause } => Some(cause),
            Phase::Empty
            | Phase::Configuring
            | Phase::Paused { .. }
            | Phase::Starting
            | Phase::Listening
            | Phase::Removing
            | Phase::RemovePaused { .. }
            | Phase::Retiring => None,
        }
    }

    pub(super) fn phase_name(&self, busy: bool) -> &'static str {
        match self.phase {
            Phase::Empty => "waiting",
            Phase::Configuring | Phase::Paused { .. } | Phase::Starting => "registering",
            Phase::Listening if busy => "running a job",
            Phase::Listening => "listening",
            Phase::Failed { .. } => "registration failed",
            Phase::Removing | Phase::RemovePaused { .. } => "deregistering",
            Phase::Retiring => "cleaning",
            Phase::Stuck { .. } => "stuck",
        }
    }

    pub(super) fn wake(&self) -> Option<Duration> {
        match self.phase {
            Phase::Paused { until, .. } | Phase::RemovePaused { until } => Some(until),
            Phase::Starting => Some(self.deadline),
            Phase::Empty
            | Phase::Configuring
            | Phase::Listening
            | Phase::Failed { .. }
            | Phase::Removing
            | Phase::Retiring
            | Phase::Stuck { .. } => None,
        }
    }

    pub(super) fn listener_started(&mut self, run: u64, id: ListenerId) {
        if run == self.run {
            self.listener = Some(id);
        }
    }

    pub(super) fn listen(&mut self) -> Effect {
        self.run += 1;
        self.offset = 0;
        self.worked = false;
        self.phase = Phase::Starting;
        Effect::Listen(self.run)
    }

    pub(super) fn retire(&mut self) -> Effect {
        self.phase = Phase::Retiring;
        Effect::Retire(self.listener)
    }
}
