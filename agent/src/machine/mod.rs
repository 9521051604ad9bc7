//! The agent's decisions, without I/O.
//!
//! ```text
//!   world ──Event──▶ Machine::on(event, now) ──Effect──▶ world
//! ```
//!
//! An event only changes what the machine knows; what is to be done is then decided from that
//! knowledge alone, in this order: must the machine go ([`leave`]), what should become of the
//! runner ([`drive`], [`part`]), what is there to say ([`speech`]), and which call to the table is due
//! ([`calls`]). So a lost answer or a restart of the agent needs no code of its own: the next
//! decision starts from what is known then.

mod calls;
mod drive;
mod event;
mod fitness;
mod health;
mod leave;
mod listening;
mod notice;
mod part;
mod silence;
mod speech;
mod tenancy;
#[cfg(test)]
mod tests;
pub(crate) mod text;
mod view;
mod wedged;

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

use proto::{
    agent_config::AgentConfig,
    ids::InstanceArn,
    instance::{InstanceRecord, Job},
    signal::{Report, Signal},
};

pub use self::event::{
    Answer, Call, Disk, Effect, Ending, Event, ListenerId, Notices, Now, Said, Saved, Tenant,
    Vitals,
};
pub use self::silence::{Ages, Silences};
pub use self::tenancy::tenant_of;
use self::{
    calls::Calls, health::Condition, leave::Leaving, notice::Noticed, tenancy::Tenancy,
    text::printable, wedged::Watch,
};

/// How far boot came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Boot {
    /// The script runs, or the runner program is fetched.
    Running,
    /// All is there.
    Done {
        /// The runner program's version.
        version: String,
    },
    /// This machine cannot be used.
    Failed {
        /// Why.
        detail: String,
    },
}

/// What the machine knows, and what it decides from that.
#[derive(Debug)]
pub struct Machine {
    arn: InstanceArn,
    config: AgentConfig,
    boot: Boot,
    record: Option<Box<InstanceRecord>>,
    /// Since when there is no record.
    recordless: Option<Duration>,
    tenancy: Tenancy,
    job: Option<Job>,
    /// How many jobs ended here, once one has ended under this agent.
    jobs: Option<u32>,
    report: Option<Report>,
    calls: Calls,
    /// When the present state's time, and the grace after it, are over.
    expires: Option<Duration>,
    /// Since when the record shows that boot failed.
    failure_told: Option<Duration>,
    leaving: Option<Leaving>,
    noticed: Noticed,
    condition: Condition,
    watch: Watch,
    saved: Option<Saved>,
    errors: Vec<String>,
}

/// How many errors are kept for people to see.
const ERRORS_KEPT: usize = 5;

impl Machine {
    /// A machine that knows nothing but its configuration and what an earlier agent left, with a
    /// listener if that still lives.
    pub fn new(config: AgentConfig, arn: InstanceArn, saved: Option<Saved>) -> Self {
        let alive = saved.as_ref().is_some_and(|saved| saved.listener.is_some());
        let job = saved
            .as_ref()
            .filter(|_| alive)
            .and_then(|saved| saved.job.clone());
        // A machine that had a tenant has booted. To look again could only do harm to its job.
        let version = saved.as_ref().and_then(|saved| saved.version.clone());
        Self {
            arn,
            config,
            boot: version.map_or(Boot::Running, |version| Boot::Done { version }),
            record: None,
            recordless: Some(Duration::ZERO),
            tenancy: Tenancy::restored(saved.as_ref()),
            job,
            jobs: None,
            report: None,
            calls: Calls::default(),
            expires: None,
            failure_told: None,
            leaving: None,
            noticed: Noticed::default(),
            condition: Condition::default(),
            watch: Watch::default(),
            saved,
            errors: Vec::new(),
        }
    }

    /// Goes on counting the deadlines that an agent before this one began to count, if there was
    /// one. One that had a record leaves a machine with a record, until the table says otherwise.
    #[must_use]
    pub fn continuing(mut self, earlier: Option<Ages>, now: Now) -> Self {
        let begun = Ages {
            contact: Duration::ZERO,
            recordless: Some(Duration::ZERO),
        };
        let silences = Silences::of(earlier.unwrap_or(begun), now);
        self.calls.contact = silences.contact;
        self.recordless = silences.recordless;
        self
    }

    /// Since when nobody speaks to this machine.
    pub fn silences(&self) -> Silences {
        Silences {
            contact: self.calls.contact,
            recordless: self.recordless,
        }
    }

    /// How long ago the agent last made progress: the table answered, or it is on its way out,
    /// where each try counts.
    pub fn stands_still(&self, now: Now) -> Duration {
        match self.leaving {
            Some(_) => Duration::ZERO,
            None => now.mono.saturating_sub(self.calls.contact),
        }
    }

    /// What is to be done first.
    pub fn start(&mut self, now: Now) -> Vec<Effect> {
        self.tenancy.deadline = now.mono + seconds(self.config.times.registration);
        let mut effects = Vec::new();
        if self.boot == Boot::Running {
            effects.push(Effect::Boot);
        }
        effects.extend(self.tenancy.adopt());
        effects.extend(self.decide(now));
        effects
    }

    /// What is to be done after `event`.
    pub fn on(&mut self, event: Event, now: Now) -> Vec<Effect> {
        match event {
            Event::Tick => {}
            Event::Table(answer) => self.answered(answer, now),
            Event::Booted(Ok(version)) => self.boot = Boot::Done { version },
            Event::Booted(Err(detail)) => {
                self.note(now, &format!("boot failed: {detail}"));
                self.boot = Boot::Failed { detail };
            }
            Event::Configured(result) => self.configured(result, now),
            Event::ListenerStarted(run, id) => self.tenancy.listener_started(run, id),
            Event::ListenerSaid(run, said, offset) => self.listener_said(run, said, offset, now),
            Event::ListenerEnded(run, how, tail) => self.listener_ended(run, how, &tail, now),
            Event::Removed(result) => self.removed(result, now),
            Event::Retired(result) => self.retired(result, now),
            Event::Examined(vitals) => self.examined(vitals, now),
            Event::Noticed(notices) => self.noticed(notices, now),
            Event::PowerOffFailed(cause) => {
                self.note(now, &format!("cannot switch the machine off: {cause}"));
            }
        }
        self.decide(now)
    }

    fn decide(&mut self, now: Now) -> Vec<Effect> {
        self.check_deadlines(now);
        if self.leaving.is_some() {
            return self.leave(now).into_iter().collect();
        }
        let mut effects: Vec<Effect> = self.drive(now).into_iter().collect();
        effects.extend(self.examine(now));
        self.speak(now);
        let saved = self.tenancy.save(
            self.version(),
            self.job.as_ref(),
            self.config.jobs.ephemeral,
        );
        if saved != self.saved {
            self.saved.clone_from(&saved);
            effects.push(Effect::Save(saved));
        }
        effects.extend(self.call(now).map(Effect::Table));
        effects
    }

    /// When something is due although nothing happens.
    pub fn wake(&self) -> Duration {
        if let Some(leaving) = &self.leaving {
            return leaving.wake();
        }
        [
            self.calls_wake(),
            self.drive_wake(),
            self.dismiss_at(),
            self.examine_wake(),
            self.deadlines_wake(),
        ]
        .into_iter()
        .flatten()
        .min()
        .unwrap_or(Duration::MAX)
    }

    fn note(&mut self, now: Now, error: &str) {
        let error = printable(error);
        tracing::warn!("{error}");
        self.errors.push(format!("{} {error}", now.wall));
        if self.errors.len() > ERRORS_KEPT {
            self.errors.remove(0);
        }
    }

    /// A pause that is a quarter shorter to a quarter longer, differently on each machine and at
    /// each try: what failed for many machines at once is not tried again by all of them at once.
    /// The machine's own name is the lot that it draws, so that a simulation replays what happened.
    fn about(&self, pause: Duration, tries: u32) -> Duration {
        let mut lot = DefaultHasher::new();
        (self.arn.id().as_str(), tries).hash(&mut lot);
        let [lot, ..] = lot.finish().to_le_bytes();
        pause * 3 / 4 + pause / 2 * u32::from(lot) / u32::from(u8::MAX)
    }

    fn version(&self) -> Option<&str> {
        match &self.boot {
            Boot::Done { version } => Some(version),
            Boot::Running | Boot::Failed { .. } => None,
        }
    }

    /// Notes a signal for the record, unless it is there already.
    fn say(&mut self, signal: Signal, generation: u64, detail: Option<&str>, now: Now) {
        let same = |report: &Report| report.signal == signal && report.generation == generation;
        let told = self.record.as_ref().and_then(|r| r.report.as_ref());
        if self.report.as_ref().is_some_and(same) {
            return;
        }
        if let Some(told) = told.filter(|told| same(told)) {
            // An earlier agent said it.
            self.report = Some(told.clone());
            return;
        }
        self.report = Some(Report {
            signal,
            generation,
            at: now.wall,
            detail: detail.map(|detail| Report::cut_detail(&printable(detail))),
        });
    }
}

fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}
