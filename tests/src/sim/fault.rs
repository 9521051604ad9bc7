//! What may go wrong, by name.

use std::{collections::BTreeMap, fmt};

use rand::{RngExt, rngs::StdRng};

/// One kind of trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// An answer takes seconds.
    SlowAnswer,
    /// A call never arrives; its caller hears of it late.
    LostCall,
    /// A call is applied, but the answer never comes.
    LostAnswer,
    /// A call is given up by its caller, and applied after that.
    LateCall,
    /// A call is applied, its answer is lost, and the SDK repeats it by itself.
    RepeatedCall,
    /// A service refuses for a moment.
    Throttled,
    /// The table's index shows the past of some records.
    StaleIndex,
    /// A message is delivered twice.
    DoubledMessage,
    /// A message that was deleted comes back.
    UndeadMessage,
    /// A receive sees only some of the queue's servers.
    PartialReceive,
    /// The queue's depth is told wrongly.
    RoughDepth,
    /// EC2 has fewer machines than were asked for.
    ShortFleet,
    /// EC2 does not show a machine for some seconds after its launch.
    HiddenMachine,
    /// EC2 does not terminate a machine.
    RefusedTermination,
    /// A machine never starts its agent.
    BootHangs,
    /// The operator's script fails.
    BootFails,
    /// GitHub refuses a registration.
    RegistrationFails,
    /// A registration is made, but the runner hears of an error.
    RegistrationUnanswered,
    /// The listener starts, and never listens.
    NeverListens,
    /// The listener ends by itself.
    ListenerDies,
    /// GitHub refuses a removal.
    RemovalFails,
    /// The machine cannot be cleaned.
    CleaningFails,
    /// EC2 takes a machine away.
    SpotInterruption,
    /// EC2 recommends to move away from a machine; it may take it later, or never.
    RebalanceRecommendation,
    /// The agent is killed at some await point; systemd starts it again.
    AgentKilled,
    /// A controller is killed at some await point.
    ControllerKilled,
    /// GitHub cancels a step: SIGINT at some await point, SIGKILL ten seconds later.
    StepCancelled,
    /// A clock is off by minutes.
    ClockOff,
    /// A job runs longer than its machine may.
    EndlessJob,
    /// A workflow is cancelled while its jobs run.
    WorkflowCancelled,
    /// A workflow never releases.
    NeverReleased,
    /// Two jobs release at once.
    ReleasedTwice,
    /// Somebody re-runs the workflow.
    ReRun,
    /// Two refreshes run at once.
    TwoRefreshes,
    /// The operator wants another image while machines are being claimed.
    NewImage,
}

impl Fault {
    /// All of them, each with how likely it is where it can happen, at full strength.
    pub const ALL: [(Self, f64); 35] = [
        (Self::SlowAnswer, 0.03),
        (Self::LostCall, 0.01),
        (Self::LostAnswer, 0.01),
        (Self::LateCall, 0.005),
        (Self::RepeatedCall, 0.03),
        (Self::Throttled, 0.01),
        (Self::StaleIndex, 0.5),
        (Self::DoubledMessage, 0.5),
        (Self::UndeadMessage, 0.1),
        (Self::PartialReceive, 0.3),
        (Self::RoughDepth, 0.3),
        (Self::ShortFleet, 0.5),
        (Self::HiddenMachine, 0.5),
        (Self::RefusedTermination, 0.1),
        (Self::BootHangs, 0.05),
        (Self::BootFails, 0.05),
        (Self::RegistrationFails, 0.2),
        (Self::RegistrationUnanswered, 0.1),
        (Self::NeverListens, 0.05),
        (Self::ListenerDies, 0.1),
        (Self::RemovalFails, 0.2),
        (Self::CleaningFails, 0.05),
        (Self::SpotInterruption, 0.3),
        (Self::RebalanceRecommendation, 0.5),
        (Self::AgentKilled, 0.5),
        (Self::ControllerKilled, 0.2),
        (Self::StepCancelled, 0.2),
        (Self::ClockOff, 0.3),
        (Self::EndlessJob, 0.05),
        (Self::WorkflowCancelled, 0.1),
        (Self::NeverReleased, 0.1),
        (Self::ReleasedTwice, 0.2),
        (Self::ReRun, 0.3),
        (Self::TwoRefreshes, 0.3),
        (Self::NewImage, 1.0),
    ];
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&words(self))
    }
}

/// `LostAnswer` reads `lost answer`.
pub(super) fn words(name: impl fmt::Debug) -> String {
    let mut words = String::new();
    for c in format!("{name:?}").chars() {
        if c.is_uppercase() && !words.is_empty() {
            words.push(' ');
        }
        words.push(c.to_ascii_lowercase());
    }
    words
}

/// The troubles of one seed. Each seed has only some kinds, each at a strength of its own: so a
/// rare combination is not drowned by everything else that goes wrong.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    rates: BTreeMap<Fault, f64>,
    happened: BTreeMap<Fault, u64>,
}

impl Faults {
    /// What this seed has. One in eight has none.
    pub(super) fn draw(rng: &mut StdRng) -> Self {
        let calm = rng.random_bool(1.0 / 8.0);
        let rates = Fault::ALL
            .into_iter()
            .filter_map(|(fault, full)| {
                let (with, strength) = (rng.random_bool(0.4), rng.random_range(0.2..1.0));
                (with && !calm).then_some((fault, full * strength))
            })
            .collect();
        Self {
            rates,
            happened: BTreeMap::new(),
        }
    }

    /// All kinds, each so strong.
    pub(super) fn all(strength: f64) -> Self {
        let rates = Fault::ALL.map(|(fault, full)| (fault, full * strength));
        Self {
            rates: rates.into(),
            happened: BTreeMap::new(),
        }
    }

    /// From now on all is well.
    pub(super) fn stop(&mut self) {
        self.rates.clear();
    }

    /// Whether it happens here and now.
    pub(super) fn strike(&mut self, fault: Fault, rng: &mut StdRng) -> bool {
        let Some(rate) = self.rates.get(&fault) else {
            return false;
        };
        let strikes = rng.random_bool(*rate);
        if strikes {
            *self.happened.entry(fault).or_default() += 1;
        }
        strikes
    }

    /// What happened, and how often.
    pub fn happened(&self) -> &BTreeMap<Fault, u64> {
        &self.happened
    }
}
