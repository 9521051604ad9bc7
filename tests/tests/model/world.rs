//! All of it: one record, one queue, two controllers, one refresh, one machine.

use proto::state::State;

use super::{
    Weakness,
    agents::{Agent, Move, Runner},
    controllers::{At, Controller, Write},
    refreshes::{self, Step},
    row::{Row, Run, Written},
};

/// More copies of one message tell nothing new.
const MOST_MESSAGES: u8 = 2;

/// A state of the whole.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct World {
    row: Row,
    /// Messages that list the machine, and that nobody holds.
    messages: u8,
    controllers: [Controller; 2],
    /// What refresh has decided and not done yet.
    refresh: Option<Step>,
    agent: Agent,
    /// A job was killed before its time.
    pub(crate) murdered: bool,
}

impl Default for World {
    fn default() -> Self {
        Self {
            row: Row::default(),
            messages: 1,
            controllers: Default::default(),
            refresh: None,
            agent: Agent::default(),
            murdered: false,
        }
    }
}

/// Something that happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// A controller leases a message; SQS may deliver it to somebody else as well.
    Receive(Run, Delivery),
    /// A controller deletes the message that it holds.
    Delete(Run),
    /// The lease of a controller's message ends.
    LeaseEnds(Run),
    /// A controller decides.
    Decide(Run, At),
    /// A controller's write arrives; its answer may be lost.
    Arrive(Run, Answer),
    /// A controller lists the machine.
    List(Run),
    /// A controller is killed.
    Die(Run),
    RefreshDecides(Step),
    RefreshActs,
    Agent(Move),
    /// GitHub gives the runner a job.
    JobStarts,
    JobEnds,
    /// The machine's threshold passes.
    TimePasses,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Delivery {
    Once,
    Twice,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Heard,
    Lost,
}

impl World {
    fn controller(&mut self, run: Run) -> &mut Controller {
        &mut self.controllers[run as usize]
    }

    fn is_alive(&self) -> bool {
        self.row.state != State::Terminated
    }

    fn is_listed(&self) -> bool {
        self.messages > 0 || self.controllers.iter().any(|controller| controller.lease)
    }

    fn serves(&self, run: Run) -> bool {
        matches!(self.controllers[run as usize].at, At::Serving(_))
    }

    /// All that may happen now.
    pub(crate) fn actions(&self, without: Option<Weakness>, actions: &mut Vec<Action>) {
        for run in Run::BOTH {
            let controller = &self.controllers[run as usize];
            let begins = controller.at == At::Begin && !controller.lease && !controller.dead;
            if begins && self.messages > 0 {
                actions.push(Action::Receive(run, Delivery::Once));
                actions.push(Action::Receive(run, Delivery::Twice));
            }
            let claimed = !matches!(controller.at, At::Begin | At::Writing(Write::Claim(_)));
            if controller.lease && claimed && !controller.dead {
                actions.push(Action::Delete(run));
            }
            if controller.lease {
                actions.push(Action::LeaseEnds(run));
            }
            let choices = controller.choices(run, &self.row.seen(without));
            actions.extend(choices.into_iter().map(|at| Action::Decide(run, at)));
            if let At::Writing(_) = controller.at {
                actions.push(Action::Arrive(run, Answer::Lost));
                if !controller.dead {
                    actions.push(Action::Arrive(run, Answer::Heard));
                }
            }
            if controller.at == At::Listing && !controller.dead {
                actions.push(Action::List(run));
            }
            if !controller.dead && controller.at != At::Over {
                actions.push(Action::Die(run));
            }
        }
        if self.refresh.is_some() {
            actions.push(Action::RefreshActs);
        } else {
            let steps = refreshes::plan(&self.row, &self.controllers, self.is_listed(), without);
            actions.extend(steps.into_iter().map(Action::RefreshDecides));
        }
        if !self.is_alive() {
            return;
        }
        actions.extend(self.agent.moves(&self.row).into_iter().map(Action::Agent));
        if let Some((run, _)) = self.agent.listens_for()
            && !self.agent.job
            && self.serves(run)
        {
            actions.push(Action::JobStarts);
        }
        if self.agent.job {
            actions.push(Action::JobEnds);
        }
        if !self.row.over {
            actions.push(Action::TimePasses);
        }
    }

    /// Lets it happen.
    pub(crate) fn play(&mut self, action: Action, without: Option<Weakness>) {
        match action {
            Action::Receive(run, delivery) => {
                if delivery == Delivery::Once {
                    self.messages -= 1;
                }
                self.controller(run).lease = true;
            }
            Action::Delete(run) => self.controller(run).lease = false,
            Action::LeaseEnds(run) => {
                self.controller(run).lease = false;
                self.list();
            }
            Action::Decide(run, at) => self.controller(run).at = at,
            Action::Arrive(run, answer) => {
                let At::Writing(write) = self.controllers[run as usize].at else {
                    return;
                };
                let written = self.write(write, without);
                if answer == Answer::Heard {
                    self.controller(run).hears(write, written);
                }
            }
            Action::List(run) => {
                self.list();
                self.controller(run).at = At::Over;
            }
            Action::Die(run) => self.controller(run).dead = true,
            Action::RefreshDecides(step) => self.refresh = Some(step),
            Action::RefreshActs => match self.refresh.take() {
                Some(Step::Write(write)) => drop(self.write(write, without)),
                Some(Step::List) => self.list(),
                None => {}
            },
            Action::Agent(step) => self.agent.play(step, &mut self.row),
            Action::JobStarts => self.agent.job = true,
            Action::JobEnds => self.agent.job = false,
            Action::TimePasses => self.row.over = true,
        }
    }

    fn list(&mut self) {
        self.messages = MOST_MESSAGES.min(self.messages + 1);
    }

    fn write(&mut self, write: Write, without: Option<Weakness>) -> Written {
        let before = self.row.clone();
        let written = self.row.write(write, without);
        if before.state != State::Terminated && !self.is_alive() {
            let tenant = self.agent.listens_for();
            let wanted = tenant.is_some_and(|(run, _)| self.controllers[run as usize].wants(run));
            self.murdered |= self.agent.job && wanted && !before.over;
            // EC2 ends it, with all that is on it.
            self.agent = Agent::default();
            self.row.said = None;
            self.row.job = false;
        }
        written
    }

    /// A run has it that another one has given back.
    pub(crate) fn serves_again(&self) -> bool {
        let mut back = self.controllers.iter().filter(|c| c.at == At::Over);
        // Idle, claimed, running, idle, claimed, running.
        self.controllers.iter().any(|c| c.at == At::Serving(6)) && back.next().is_some()
    }

    /// No runner serves a run that the record does not bear, and on a machine that may be claimed
    /// there is none.
    pub(crate) fn is_exclusive(&self) -> bool {
        let Some((run, _)) = self.agent.listens_for() else {
            return true;
        };
        let of_another = self.row.run.is_some_and(|bears| bears != run);
        !(of_another || self.row.is_claimable())
    }

    /// Once the runs are over and nothing is under way, an idle machine is clean, nobody listens
    /// there, and it is listed or will be.
    pub(crate) fn nothing_is_lost(&self, without: Option<Weakness>) -> bool {
        let over = |controller: &Controller| controller.at == At::Over || controller.dead;
        let quiet = self.controllers.iter().all(over)
            && self.refresh.is_none()
            && self.agent.moves(&self.row).is_empty()
            && !self.agent.job;
        if !quiet || self.row.state != State::Idle || self.row.over {
            return true;
        }
        let steps = refreshes::plan(&self.row, &self.controllers, self.is_listed(), without);
        let listed = self.is_listed() || steps.contains(&Step::List);
        self.row.is_claimable() && listed && self.agent.runner == Runner::None
    }
}
