//! What should become of the runner.
//!
//! ```text
//!            label appears                     `Listening for Jobs`
//!   Empty ──▶ Configuring ──▶ Starting ──────────────▶ Listening
//!     ▲        ▲   │ fails      │ ends                    │ label gone, no job runs
//!     │        └─ Paused ◀──────┘                         ▼
//!     │              │ tried enough                    Removing ⇄ RemovePaused
//!     │           Failed ── label gone ──┐                │ deregistered
//!     └────────────────── Retiring ◀─────┴────────────────┘
//!                            │ cannot be cleaned
//!                          Stuck
//! ```

use std::time::Duration;

use proto::{instance::InstanceRecord, state::State};

use super::{
    Boot, Effect, Machine, Now, Tenant,
    health::Fitness,
    seconds,
    tenancy::{Next, Phase, tenant_of},
};

/// Tries to register for one tenant.
const CONFIGURE_TRIES: u32 = 4;
/// The first pause between two tries; doubled from then on.
pub(super) const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// The longest pause, and the one that the runner's own scripts make.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// GitHub's answer to a token that has ended is a bare `NotFound`.
const TOKEN_ADVICE: &str = "if GitHub refused the registration token, it has expired: `controller \
                            refresh` obtains a new one";

impl Machine {
    /// The pause after so many tries.
    pub(super) fn pause(&self, tries: u32) -> Duration {
        let pause = (FIRST_PAUSE * (1 << tries.clamp(1, 5)) / 2).min(LONGEST_PAUSE);
        self.about(pause, tries)
    }

    /// Whether the record's tenant is the one that the runner is for; none while that is unknown.
    ///
    /// The generation alone tells: it grows with every change of the label.
    pub(super) fn still_wanted(&self) -> Option<bool> {
        let tenant = self.tenancy.tenant.as_ref()?;
        let wanted = tenant_of(self.record.as_ref()?);
        Some(wanted.is_some_and(|(_, generation)| generation == tenant.generation))
    }

    /// When the runner wants attention although nothing happens.
    pub(super) fn drive_wake(&self) -> Option<Duration> {
        let waits_for_record =
            matches!(self.tenancy.phase, Phase::Paused { .. }) && self.still_wanted().is_none();
        self.tenancy
            .wake()
            .filter(|_| matches!(self.boot, Boot::Done { .. }) && !waits_for_record)
    }

    /// The next step of the runner.
    pub(super) fn drive(&mut self, now: Now) -> Option<Effect> {
        if self.is_interrupted() {
            return self.dismiss(now);
        }
        if !matches!(self.boot, Boot::Done { .. }) {
            return None;
        }
        let wanted = self.still_wanted();
        let unwanted = wanted == Some(false);
        if wanted == Some(true) {
            self.take_new_token(now);
        }
        match self.tenancy.phase {
            Phase::Empty => self.begin(now),
            Phase::Paused { .. } | Phase::Starting | Phase::Failed { .. } if unwanted => {
                self.part(now)
            }
            Phase::Listening if unwanted && self.job.is_none() => self.part(now),
            // A new agent waits for the record: the tenant may be gone.
            Phase::Paused { until, next } if wanted == Some(true) && now.mono >= until => {
                match next {
                    Next::Configure => self.configure(now),
                    Next::Listen => {
                        self.tenancy.deadline = now.mono + seconds(self.config.times.registration);
                        Some(self.tenancy.listen())
                    }
                }
            }
            Phase::Starting if now.mono >= self.tenancy.deadline => {
                self.starting_overdue(now);
                None
            }
            Phase::RemovePaused { .. } if self.job.is_some() => {
                // A job came first; it is waited for.
                self.tenancy.phase = Phase::Listening;
                None
            }
            Phase::RemovePaused { until } if now.mono >= until => self.part(now),
            Phase::Configuring
            | Phase::Paused { .. }
            | Phase::Starting
            | Phase::Listening
            | Phase::Failed { .. }
            | Phase::Removing
            | Phase::RemovePaused { .. }
            | Phase::Retiring
            | Phase::Stuck { .. } => None,
        }
    }

    /// A runner that registers anew after each job is handed a new token before the old one ends;
    /// if that came late, it tries again.
    fn take_new_token(&mut self, now: Now) {
        let Some(token) = self.record.as_ref().and_then(|r| r.token.clone()) else {
            return;
        };
        if !self.config.jobs.ephemeral || self.tenancy.token.as_ref() == Some(&token) {
            return;
        }
        self.tenancy.token = Some(token);
        if matches!(self.tenancy.phase, Phase::Failed { .. }) {
            self.register_anew(now.mono, now);
        }
    }

    /// A label appeared.
    fn begin(&mut self, now: Now) -> Option<Effect> {
        let (label, generation) = tenant_of(self.record.as_ref()?)?;
        let label = label.clone();
        let fitness = self.fitness(now);
        if fitness == Fitness::Unsettled {
            return None;
        }
        let tenant = Tenant {
            label: label.clone(),
            generation,
            name: format!("{}-{generation}", self.arn.id()),
        };
        tracing::info!(%label, name = tenant.name, "a label: registering");
        self.tenancy.tenant = Some(tenant);
        self.tenancy.token = None;
        self.tenancy.tries = 0;
        self.tenancy.comebacks = 0;
        self.tenancy.deadline = now.mono + seconds(self.config.times.registration);
        if let Fitness::Unfit(cause) = fitness {
            self.registration_failed(format!("not fit for a tenant: {cause}"), now);
            return None;
        }
        self.configure(now)
    }

    fn configure(&mut self, now: Now) -> Option<Effect> {
        if let Some(record) = &self.record {
            if let Some(token) = &record.token {
                self.tenancy.token = Some(token.clone());
            }
            // A tenant that was found without its file lacks its label.
            if let (Some(tenant), Some((label, _))) = (&mut self.tenancy.tenant, tenant_of(record))
            {
                tenant.label = label.clone();
            }
        }
        let Some(token) = self.tenancy.token.clone() else {
            let cause =
                "the record carries no registration token: `controller refresh` obtains one";
            self.registration_failed(cause.to_owned(), now);
            return None;
        };
        self.tenancy.tries += 1;
        self.tenancy.registered = true;
        self.tenancy.phase = Phase::Configuring;
        Some(Effect::Configure {
            tenant: self.tenancy.tenant.clone()?,
            token,
            within: self
                .tenancy
                .deadline
                .saturating_sub(now.mono)
                .max(FIRST_PAUSE),
        })
    }

    /// `configure` ended.
    pub(super) fn configured(&mut self, result: Result<(), String>, now: Now) {
        match result {
            Ok(()) => {
                self.tenancy.configured = true;
                self.tenancy.phase = Phase::Paused {
                    until: now.mono,
                    next: Next::Listen,
                };
            }
            Err(cause) => {
                let until = now.mono + self.pause(self.tenancy.tries);
                if self.tenancy.tries >= CONFIGURE_TRIES || until >= self.tenancy.deadline {
                    let cause = format!("{cause}\n{TOKEN_ADVICE}");
                    self.registration_failed(cause, now);
                } else {
                    self.note(now, &format!("cannot register, trying again: {cause}"));
                    self.tenancy.phase = Phase::Paused {
                        until,
                        next: Next::Configure,
                    };
                }
            }
        }
    }

    pub(super) fn registration_failed(&mut self, cause: String, now: Now) {
        self.note(now, &format!("the runner is not registered: {cause}"));
        self.tenancy.phase = Phase::Failed { cause };
    }

    fn starting_overdue(&mut self, now: Now) {
        let time = proto::time::human(seconds(self.config.times.registration));
        let cause = format!("the runner is configured but did not listen for jobs within {time}");
        self.registration_failed(cause, now);
    }

    /// Whether GitHub's token in the record has done its work, or must not stay: a job could read
    /// it.
    pub(super) fn token_is_used(&self, record: &InstanceRecord) -> bool {
        match self.tenancy.phase {
            Phase::Listening => self.job.is_some() || self.still_wanted() == Some(true),
            Phase::Empty => record.state == State::Idle,
            Phase::Configuring
            | Phase::Paused { .. }
            | Phase::Starting
            | Phase::Failed { .. }
            | Phase::Removing
            | Phase::RemovePaused { .. }
            | Phase::Retiring
            | Phase::Stuck { .. } => false,
        }
    }
}
