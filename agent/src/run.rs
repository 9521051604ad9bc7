//! The one loop: turns the world into events, and has done what the machine decides.

use std::{future::Future, sync::Arc, time::Duration};

use proto::{agent_config::AgentConfig, ids::InstanceArn, table::Table, time::Clock};
use tokio::{sync::mpsc, time::Instant};

use crate::{
    effects::Effects,
    journal::Names,
    machine::{Event, Machine, Now},
    ports::{Host, Metadata, Power},
    status::{Snapshot, StatusFile},
    supervisor::Supervisor,
    watch,
};

/// The loop wakes at least this often.
const LONGEST_SLEEP: Duration = Duration::from_mins(1);

/// Everything that the loop works with.
#[derive(Clone)]
pub struct World {
    /// The pool's table.
    pub table: Arc<dyn Table>,
    /// The machine the runner lives on.
    pub host: Arc<dyn Host>,
    /// What EC2 says of it.
    pub metadata: Arc<dyn Metadata>,
    /// Its switch.
    pub power: Arc<dyn Power>,
    /// The wall clock, as AWS tells it.
    pub clock: Arc<dyn Clock>,
    /// The machine's own, which jobs see.
    pub machine_clock: Arc<dyn Clock>,
    /// When the agent started, by the clock that does not jump.
    pub started: Instant,
}

impl World {
    /// The present.
    pub fn now(&self) -> Now {
        Now {
            wall: self.clock.now(),
            mono: self.started.elapsed(),
        }
    }

    /// How far the machine's clock is from AWS's.
    pub(crate) fn clock_off(&self) -> Duration {
        let (aws, machine) = (self.clock.now(), self.machine_clock.now());
        aws.since(machine).max(machine.since(aws))
    }
}

/// Runs the agent of one machine until `shutdown`.
///
/// The end of this function harms no job: a listener goes on, and the next agent finds it.
pub async fn run(
    mut world: World,
    config: AgentConfig,
    arn: InstanceArn,
    status: &StatusFile,
    shutdown: impl Future<Output = ()>,
) {
    let saved = world.host.earlier();
    let earlier = world.host.ages();
    let ages = earlier.unwrap_or_default();
    let oldest = ages.contact.max(ages.recordless.unwrap_or_default());
    // Deadlines that an earlier agent began to count go on: the clock starts with them.
    world.started = world.started.checked_sub(oldest).unwrap_or(world.started);
    let since = world.clock.now();
    let (send, mut events) = mpsc::unbounded_channel();
    let watch = tokio::spawn(watch::notices(world.metadata.clone(), send.clone()));
    let effects = Effects::new(world.clone(), config.clone(), arn.clone(), send);
    let mut machine =
        Machine::new(config.clone(), arn.clone(), saved).continuing(earlier, world.now());
    let mut shown: Option<Snapshot> = None;
    let mut supervisor = Supervisor::new();
    let mut names = Names::new(arn.id());
    let mut kept = earlier.map(|_| machine.silences());

    for effect in machine.start(world.now()) {
        effects.perform(effect);
    }
    tokio::pin!(shutdown);
    loop {
        let snapshot = Snapshot::of(&machine, &config, &arn, since);
        if shown.as_ref() != Some(&snapshot) {
            supervisor.say(&snapshot.phase);
            status.write(&snapshot);
            shown = Some(snapshot);
        }
        let silences = machine.silences();
        if kept.is_none_or(|kept| silences.differ(kept)) {
            world.host.keep(silences.ages(world.now()));
            kept = Some(silences);
        }
        let now = world.now();
        supervisor.turned(now.mono, machine.stands_still(now));
        let sleep = LONGEST_SLEEP.min(supervisor.longest_sleep());
        let wake = machine.wake().min(now.mono + sleep);
        let event = tokio::select! {
            // In this order, not by lot: a simulation replays what happened here. What is first
            // cannot starve the others: a shutdown comes once, and an event may always come
            // before the time is up.
            biased;
            // Cancel-safe: the same future is asked again, or the loop is over.
            () = &mut shutdown => break,
            // Cancel-safe: an event that was not received stays in the channel. It never closes,
            // for `effects` holds a sender.
            event = events.recv() => event.unwrap_or(Event::Tick),
            // Cancel-safe: only time passes.
            () = tokio::time::sleep_until(world.started + wake) => Event::Tick,
        };
        if let Event::Table(Ok(answer)) = &event {
            // Before anything is decided from it, and said about that.
            names.see(answer.record.as_deref());
        }
        for effect in machine.on(event, world.now()) {
            effects.perform(effect);
        }
    }
    watch.abort();
    tracing::info!("the agent stops; a runner that listens goes on");
}
