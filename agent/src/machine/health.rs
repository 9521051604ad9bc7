//! Whether the machine is fit for a tenant.
//!
//! The machine is judged while it has no tenant, and always anew before it says that it may have
//! one. What a tenant does to disk and memory is its own affair until it goes.

use std::time::Duration;

use proto::{instance::Health, time::Time};

use super::{
    Boot, Effect, Machine, Now, Vitals,
    fitness::{built, old_version, trouble},
    tenancy::Phase,
    text,
};

/// Between two examinations.
const EVERY: Duration = Duration::from_secs(10);
/// A machine that has just booted may not be fit yet: Docker starts, the clock is being set. As long
/// as this a tenant waits before it hears that it will not be served.
const SETTLES_WITHIN: Duration = Duration::from_secs(20);
/// Between two examinations while it matters, and how old the last one may be for a new tenant.
const CLOSELY: Duration = Duration::from_secs(1);

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
    /// When the machine was last seen since it became empty.
    seen: Option<Duration>,
    look: Look,
    /// No examination before this.
    next: Duration,
    /// When the runner program was built, if that is known.
    runner_built: Option<Time>,
    /// Why no tenant may come, whether or not there is one now.
    barred: Option<String>,
    /// Until when an unfit machine may still become fit; set by the first examination.
    settles_until: Option<Duration>,
}

/// Whether an empty machine may take a tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fitness {
    /// Not known, or about to change.
    Unsettled,
    Fit,
    /// And why not.
    Unfit(String),
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
        self.condition.seen = None;
        if self.condition.look == Look::UnderWay {
            self.condition.look = Look::Outdated;
        }
        self.condition.next = Duration::ZERO;
    }

    /// Whether the machine was looked at since it became empty.
    pub(super) fn is_examined(&self) -> bool {
        self.condition.seen.is_some()
    }

    pub(super) fn examined(&mut self, vitals: Result<Vitals, String>, now: Now) {
        if std::mem::take(&mut self.condition.look) == Look::Outdated {
            return;
        }
        if let Ok(vitals) = &vitals {
            self.watch_runner(vitals, now);
            self.condition.runner_built = built(vitals);
            let barred = match &vitals.forgetful {
                Some(cause) => Some(format!("the agent cannot keep its state: {cause}")),
                None => vitals.drained.then(|| DRAINED.to_owned()),
            };
            if barred != self.condition.barred {
                let open = "nothing bars a tenant any more";
                tracing::warn!("{}", barred.as_deref().unwrap_or(open));
            }
            self.condition.barred = barred;
        }
        let trouble = match vitals {
            Ok(vitals) => {
                trouble(&vitals, now.wall).or_else(|| self.version().and_then(old_version))
            }
            Err(cause) => Some(format!("the machine cannot be examined: {cause}")),
        };
        let before = self.unfit().map(str::to_owned);
        let until = match (&trouble, self.condition.settles_until) {
            (None, _) => now.mono,
            (Some(_), None) => now.mono + SETTLES_WITHIN,
            (Some(_), Some(until)) => until,
        };
        self.condition.settles_until = Some(until);
        self.condition.next = now.mono + if now.mono < until { CLOSELY } else { EVERY };
        self.condition.trouble = trouble;
        self.condition.seen = Some(now.mono);
        match (before, self.unfit().map(str::to_owned)) {
            (None, Some(after)) => self.note(now, &format!("not fit for a tenant: {after}")),
            (Some(_), None) => tracing::info!("fit for a tenant again"),
            // Numbers change; that it is unfit was said.
            (Some(_), Some(_)) | (None, None) => {}
        }
    }

    /// Why a machine without tenant should not get one.
    fn unfit(&self) -> Option<&str> {
        let judged = self.tenancy.phase == Phase::Empty && self.is_examined();
        self.condition.trouble.as_deref().filter(|_| judged)
    }

    /// Whether the machine may take the tenant that it was just given; if that is open, it is looked
    /// at soon.
    pub(super) fn fitness(&mut self, now: Now) -> Fitness {
        let since = |at| now.mono.saturating_sub(at);
        if self.condition.seen.is_none_or(|at| since(at) > CLOSELY) {
            self.condition.next = self.condition.next.min(now.mono);
            return Fitness::Unsettled;
        }
        let until = self.condition.settles_until.unwrap_or_default();
        match (&self.condition.barred, &self.condition.trouble) {
            (Some(reason), _) => Fitness::Unfit(reason.clone()),
            (None, None) => Fitness::Fit,
            (None, Some(_)) if now.mono < until => Fitness::Unsettled,
            (None, Some(trouble)) => Fitness::Unfit(trouble.clone()),
        }
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
                    .or(self.condition.barred.as_deref())
                    .or(self.watch.wedged.as_deref())
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
}
