//! A model check of the protocol's heart: two provisions race for one machine and give it back, a
//! refresh tidies up, the machine's agent follows, and the queue doubles messages. Every order of
//! every step is played, with controllers that die and writes that arrive without an answer.
//!
//! What decides is the program's own: [`proto`]'s transitions as conditional writes, the agent's
//! [`agent::machine::tenant_of`], release's [`controller::release::judge`]. Left out are several
//! machines in one provision, and time beyond `the threshold has passed`: the simulation has both.

mod agents;
mod controllers;
mod refreshes;
mod row;
mod world;

use std::time::Instant;

use stateright::{Checker, HasDiscoveries, Model, Path, Property};

use self::world::{Action, World};

/// A condition that the protocol is played without.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Weakness {
    /// A claim does not ask whether the machine is clean.
    ClaimOfTheUnclean,
    /// A signal holds for the present generation, whenever it was given.
    SignalsWithoutGeneration,
    /// Who ends a machine does not ask what has become of it.
    TerminationWithoutCondition,
    /// Nobody lists what is idle and in no queue.
    NoRelisting,
}

/// The protocol, whole or without one of its conditions.
#[derive(Clone, Default)]
struct Protocol {
    without: Option<Weakness>,
}

impl Model for Protocol {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        vec![World::default()]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        world.actions(self.without, actions);
    }

    fn next_state(&self, world: &World, action: Action) -> Option<World> {
        let mut next = world.clone();
        next.play(action, self.without);
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("exclusive", |_, world: &World| world.is_exclusive()),
            Property::always("no murder", |_, world: &World| !world.murdered),
            Property::always("no loss", |protocol: &Self, world: &World| {
                world.nothing_is_lost(protocol.without)
            }),
            Property::sometimes("one run has it after the other", |_, world: &World| {
                world.serves_again()
            }),
        ]
    }
}

#[test]
fn exclusive_and_no_loss_hold_in_the_whole_state_space() {
    let began = Instant::now();
    let checker = Protocol::default().checker().threads(2).spawn_bfs().join();
    println!(
        "{} states, {} transitions, {} steps deep, {:.0} s",
        checker.unique_state_count(),
        checker.state_count(),
        checker.max_depth(),
        began.elapsed().as_secs_f64()
    );
    assert!(checker.is_done());
    checker.assert_properties();
}

#[test]
fn each_condition_is_needed() {
    for (without, broken) in [
        (Weakness::ClaimOfTheUnclean, "exclusive"),
        (Weakness::SignalsWithoutGeneration, "exclusive"),
        (Weakness::TerminationWithoutCondition, "no murder"),
        (Weakness::NoRelisting, "no loss"),
    ] {
        let without = Some(without);
        let checker = Protocol { without }.checker();
        let checker = checker
            .finish_when(HasDiscoveries::AnyFailures)
            .spawn_bfs()
            .join();
        let steps = checker.discovery(broken).map(Path::into_actions);
        let Some(steps) = steps else {
            panic!("{broken} holds {without:?}: the model does not see what it is for");
        };
        println!(
            "{without:?} breaks `{broken}` in {} steps: {steps:?}",
            steps.len()
        );
    }
}
