//! The runner's listener process on a machine.

use std::{sync::Arc, time::Duration};

use agent::machine::{ListenerId, Said};
use proto::ids::InstanceId;
use rand::RngExt;
use tokio::sync::Notify;

use super::{
    fault::Fault,
    github, invariant,
    world::{Sim, State},
};

/// One of them; it outlives its agent.
pub(super) struct Listener {
    pub(super) id: ListenerId,
    pub(super) lines: Vec<Said>,
    pub(super) ended: Option<Ended>,
    /// By SIGSTOP: its worker goes on without it.
    pub(super) stopped: bool,
    pub(super) news: Arc<Notify>,
}

/// The exit code; none if a signal ended it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ended(pub(super) Option<i32>);

impl Listener {
    pub(super) fn say(&mut self, said: Said) {
        if self.stopped {
            return;
        }
        self.lines.push(said);
        self.news.notify_waiters();
    }

    pub(super) fn end(&mut self, code: Option<i32>) {
        self.ended = Some(Ended(code));
        self.news.notify_waiters();
    }
}

impl State {
    pub(super) fn listener(&mut self, id: &InstanceId) -> Option<&mut Listener> {
        self.vm(id)?.listener.as_mut()
    }

    /// Whether the machine's listener has said that a job runs.
    pub(super) fn has_begun_a_job(&mut self, id: &InstanceId) -> bool {
        let listener = self.listener(id);
        let lines = listener.map_or(&[][..], |listener| &listener.lines);
        let busy = |line: &&Said| **line != Said::Listening;
        let last = lines.iter().rfind(busy);
        matches!(last, Some(Said::JobStarted(_)))
    }
}

/// The listener's own life.
pub(super) async fn live(sim: Sim, machine: InstanceId, id: ListenerId) {
    sim.pause(Duration::from_millis(300), Duration::from_secs(2))
        .await;
    let online = sim.step(|state| {
        let never = state.strikes(Fault::NeverListens);
        let name = state.vm(&machine)?.configured.clone();
        let known = name.filter(|name| state.github.runners.contains_key(name));
        let listener = state
            .listener(&machine)
            .filter(|known| known.id == id && known.ended.is_none())?;
        let Some(name) = known else {
            listener.end(Some(1));
            return None;
        };
        if never {
            return None;
        }
        listener.say(Said::Listening);
        state.github.runners.get_mut(&name)?.online = true;
        state.say(&name, "listens for jobs");
        invariant::after_listening(state, &machine, &name);
        Some(name)
    });
    let Some(name) = online else { return };
    github::assign(&sim);
    if !sim.strikes(Fault::ListenerDies) {
        return;
    }
    sim.pause(Duration::from_secs(1), Duration::from_mins(3))
        .await;
    sim.step(|state| {
        let runner = state.github.runners.get(&name)?;
        if runner.job.is_some() {
            return None;
        }
        let code = state.rng.random_bool(0.5).then_some(2);
        state
            .listener(&machine)
            .filter(|known| known.id == id && known.ended.is_none())?
            .end(code);
        state.say(&name, "its listener dies");
        let runner = state.github.runners.get_mut(&name)?;
        (runner.online, runner.died) = (false, true);
        Some(())
    });
}
