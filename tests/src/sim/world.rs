//! What all parts of a simulation share: one state, one source of chance, one clock, one story.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Display,
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use proto::{
    ids::{Home, InstanceArn, InstanceId, Label, PoolName, RunId},
    instance::InstanceRecord,
    provision::ProvisionRecord,
    table::memory::MemoryTable,
    time::Time,
};
use rand::{Rng, RngExt, SeedableRng, rngs::StdRng};
use tokio::{sync::Notify, time::Instant};

use super::{
    cloud::Cloud,
    fault::{Fault, Faults},
    github::Github,
    invariant::Violation,
    queue::Queues,
    sabotage::Sabotage,
};

/// When a simulation begins, in milliseconds since 1970.
const BEGIN: i64 = 1_800_000_000_000;
const SECS: fn(u64) -> Duration = Duration::from_secs;
/// The index shows the past for so long at most.
pub(super) const INDEX_LAG: Duration = Duration::from_secs(3);

/// A simulation; its copies share it.
#[derive(Clone)]
pub(super) struct Sim(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    memory: MemoryTable,
    began: Instant,
    failed: Notify,
}

/// A value with its past, as far as somebody may still see it.
#[derive(Debug)]
pub(super) struct Past<T>(Vec<(Duration, T)>);

impl<T> Past<T> {
    pub(super) fn new(at: Duration, value: T) -> Self {
        Self(vec![(at, value)])
    }

    pub(super) fn push(&mut self, at: Duration, value: T) {
        // The newest of those that are old enough is what the slowest reader sees.
        let kept = self
            .0
            .iter()
            .rposition(|(then, _)| *then + INDEX_LAG <= at)
            .unwrap_or(0);
        self.0.drain(..kept);
        self.0.push((at, value));
    }

    pub(super) fn now(&self) -> &T {
        &self.0.last().expect("a value is never without one").1
    }

    /// Since when it is what it is now.
    pub(super) fn since(&self) -> Duration {
        self.0.last().expect("a value is never without one").0
    }

    pub(super) fn at(&self, at: Duration) -> Option<&T> {
        let found = self.0.iter().rfind(|(then, _)| *then <= at);
        found.map(|(_, value)| value)
    }
}

/// Everything there is.
pub(super) struct State {
    pub(super) rng: StdRng,
    /// How long the pool's machines may stay idle.
    pub(super) idle_time: Duration,
    /// Which image the operator wants machines to be made from.
    pub(super) image: u32,
    pub(super) faults: Faults,
    pub(super) sabotage: Option<Sabotage>,
    pub(super) records: BTreeMap<InstanceArn, Past<InstanceRecord>>,
    pub(super) journals: BTreeMap<(RunId, Label), Past<ProvisionRecord>>,
    pub(super) queues: Queues,
    pub(super) cloud: Cloud,
    pub(super) github: Github,
    /// Labels whose workflow has let go of its machines: it releases, was cancelled, or its
    /// provision failed.
    pub(super) given_up: BTreeSet<Label>,
    /// Whether the call that is being applied was given up by its caller before.
    pub(super) late_call: bool,
    /// Machines that such a call claimed: nobody knew, so nobody could take it back.
    pub(super) claimed_late: BTreeSet<InstanceId>,
    /// The records of machines as they were before they said terminated.
    pub(super) ended: BTreeMap<InstanceId, InstanceRecord>,
    /// Machines that said they are not fit when somebody claimed them.
    pub(super) unfit: BTreeSet<InstanceId>,
    pub(super) violation: Option<Violation>,
    pub(super) counts: BTreeMap<&'static str, u64>,
    /// Of each machine that a provision got: whether it was reused, and how long it took.
    pub(super) ready: Vec<(bool, Duration)>,
    pub(super) processes: u32,
    now: Duration,
    steps: u64,
    story: Story,
}

#[derive(Default)]
struct Story {
    hash: DefaultHasher,
    /// None when nobody wants to read it.
    lines: Option<Vec<String>>,
}

impl State {
    /// Since the simulation began.
    pub(super) fn now(&self) -> Duration {
        self.now
    }

    /// The true time.
    pub(super) fn time(&self) -> Time {
        Time::from_millis(BEGIN) + self.now
    }

    pub(super) fn say(&mut self, who: impl Display, what: impl Display) {
        let line = format!("{:>9.3} {who}: {what}", self.now.as_secs_f64());
        line.hash(&mut self.story.hash);
        if let Some(lines) = &mut self.story.lines {
            lines.push(line);
        }
    }

    pub(super) fn strikes(&mut self, fault: Fault) -> bool {
        self.faults.strike(fault, &mut self.rng)
    }

    pub(super) fn between(&mut self, from: Duration, to: Duration) -> Duration {
        let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Duration::from_millis(self.rng.random_range(millis(from)..=millis(to)))
    }

    pub(super) fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    pub(super) fn record(&self, id: &InstanceId) -> Option<&InstanceRecord> {
        self.records
            .get(&InstanceArn::new(&home(), id))
            .map(Past::now)
    }

    /// Notes that an invariant does not hold. The first time counts.
    pub(super) fn violated(&mut self, violation: Violation) {
        self.say("VIOLATED", &violation);
        self.violation.get_or_insert(violation);
    }
}

impl Sim {
    pub(super) fn new(seed: u64, sabotage: Option<Sabotage>, tell: bool) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let faults = Faults::draw(&mut rng);
        // Short ones are over when somebody wants the machine; long ones leave it for the end.
        let idle_time = [SECS(90), SECS(1_200), SECS(1_200)][rng.random_range(0..3)];
        let story = Story {
            lines: tell.then(Vec::new),
            ..Story::default()
        };
        let state = State {
            rng,
            idle_time,
            image: 1,
            faults,
            sabotage,
            records: BTreeMap::new(),
            journals: BTreeMap::new(),
            queues: Queues::default(),
            cloud: Cloud::default(),
            github: Github::default(),
            given_up: BTreeSet::new(),
            late_call: false,
            claimed_late: BTreeSet::new(),
            ended: BTreeMap::new(),
            unfit: BTreeSet::new(),
            violation: None,
            counts: BTreeMap::new(),
            ready: Vec::new(),
            processes: 0,
            now: Duration::ZERO,
            steps: 0,
            story,
        };
        Self(Arc::new(Shared {
            state: Mutex::new(state),
            memory: MemoryTable::default(),
            began: Instant::now(),
            failed: Notify::new(),
        }))
    }

    /// Looks at or changes the state. One step of the world when something happens in it.
    pub(super) fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.now = self.0.began.elapsed();
        let done = act(&mut state);
        if state.violation.is_some() {
            self.0.failed.notify_one();
        }
        done
    }

    /// As [`Self::with`], and counts as a step.
    pub(super) fn step<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        self.with(|state| {
            state.steps += 1;
            act(state)
        })
    }

    /// Waits until an invariant is violated.
    pub(super) async fn failed(&self) {
        self.0.failed.notified().await;
    }

    pub(super) fn memory(&self) -> &MemoryTable {
        &self.0.memory
    }

    /// The true time.
    pub(super) fn time(&self) -> Time {
        Time::from_millis(BEGIN) + self.0.began.elapsed()
    }

    pub(super) fn say(&self, who: impl Display, what: impl Display) {
        self.with(|state| state.say(who, what));
    }

    pub(super) fn strikes(&self, fault: Fault) -> bool {
        self.with(|state| state.strikes(fault))
    }

    pub(super) fn coin(&self) -> bool {
        self.with(|state| state.rng.random_bool(0.5))
    }

    pub(super) fn chance(&self) -> f64 {
        self.with(|state| state.rng.random_range(0.0..1.0))
    }

    pub(super) fn one_of(&self, count: usize) -> usize {
        self.with(|state| state.rng.random_range(0..count))
    }

    /// Lets some time pass.
    pub(super) async fn pause(&self, from: Duration, to: Duration) {
        let pause = self.with(|state| state.between(from, to));
        tokio::time::sleep(pause).await;
    }

    pub(super) fn steps(&self) -> u64 {
        self.with(|state| state.steps)
    }

    /// Two simulations with the same hash went the same way: all that happened, and the state of
    /// the source of chance.
    pub(super) fn hash(&self) -> u64 {
        self.with(|state| {
            let mut hash = state.story.hash.clone();
            state.rng.next_u64().hash(&mut hash);
            state.steps.hash(&mut hash);
            hash.finish()
        })
    }

    pub(super) fn story(&self) -> Vec<String> {
        self.with(|state| state.story.lines.take().unwrap_or_default())
    }
}

/// Where the pool's machines are.
pub(super) fn home() -> Home {
    Home {
        partition: "aws".to_owned(),
        region: "us-east-1".to_owned(),
        account: "123456789012".to_owned(),
    }
}

/// The pool.
pub(super) fn pool_name() -> PoolName {
    "p".parse().expect("a valid name")
}
