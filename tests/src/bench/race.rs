//! Contention: many provisions start at once and race for the same idle machines.

use std::{
    collections::BTreeMap,
    fmt,
    time::{Duration, Instant},
};

use futures::future::try_join_all;

use super::{Wrong, pool::Pool};
use crate::{
    binaries::Binaries,
    workflow::{Running, Step},
};

/// A race.
#[derive(Clone, Copy, Debug)]
pub struct Race {
    /// How many provisions.
    pub provisions: u32,
    /// How many machines each of them wants.
    pub each: u32,
    /// How many idle machines there are.
    pub idle: u32,
}

/// How a race ended.
#[derive(Clone, Debug)]
pub struct Finish {
    /// What was raced for.
    pub race: Race,
    /// Exit code and log of each provision that failed.
    pub failures: Vec<(i32, String)>,
    /// Machines that more than one provision got.
    pub shared: Vec<String>,
    /// Machines that came from the pool, as the provisions tell.
    pub reused: u32,
    /// New machines, as the provisions tell.
    pub created: u32,
    /// Machines that EC2 launched meanwhile, also those that were terminated again.
    pub launched: usize,
    /// How long each provision took, the fastest first.
    pub took: Vec<Duration>,
    /// The controllers' calls of AWS, all together: how many of each action.
    pub calls: BTreeMap<String, usize>,
    /// From the first start to the last end.
    pub whole: Duration,
    /// How long it took to make the idle machines before.
    pub prepared: Duration,
}

impl Race {
    /// As many idle machines as are wanted.
    pub const fn for_all(provisions: u32) -> Self {
        Self {
            provisions,
            each: 2,
            idle: 2 * provisions,
        }
    }

    /// Idle machines for three of five.
    pub const fn for_too_few(provisions: u32) -> Self {
        Self {
            provisions,
            each: 2,
            idle: 2 * provisions * 3 / 5,
        }
    }

    /// How many machines there must be in addition to the idle ones.
    pub fn missing(&self) -> u32 {
        (self.provisions * self.each).saturating_sub(self.idle)
    }

    /// Runs it in a yard of its own, whose AWS answers after `latency`.
    ///
    /// # Errors
    ///
    /// When the race cannot be set up; how the provisions fare is in the [`Finish`].
    pub async fn run(self, binaries: &Binaries, latency: Duration) -> Result<Finish, Wrong> {
        let began = Instant::now();
        let pool = Pool::start(binaries, latency).await?;
        pool.warm_up(2, self.idle).await?;
        let prepared = began.elapsed();

        let launched = pool.yard.aws.instances().len();
        let calls = pool.controller_calls().len();
        let count = self.each.to_string();
        let began = Instant::now();
        let steps = (0..self.provisions)
            .map(|racer| {
                let run = pool.run(1000 + u64::from(racer));
                run.start("provision", &[("instance-count", &count)])
            })
            .collect::<Result<Vec<_>, _>>()?;
        let steps = try_join_all(steps.into_iter().map(Running::finish)).await?;
        let mut finish = self.finish(&steps);
        finish.whole = began.elapsed();
        finish.prepared = prepared;
        finish.launched = pool.yard.aws.instances().len() - launched;
        for call in pool.controller_calls().split_off(calls) {
            *finish.calls.entry(call.action).or_default() += 1;
        }
        pool.yard.stop().await;
        Ok(finish)
    }

    fn finish(self, steps: &[Step]) -> Finish {
        let mut owners: BTreeMap<String, usize> = BTreeMap::new();
        for machine in steps.iter().flat_map(Step::machines) {
            *owners.entry(machine).or_default() += 1;
        }
        let sum = |name| steps.iter().filter_map(|step| step.number(name)).sum();
        let mut took: Vec<Duration> = steps.iter().map(|step| step.took).collect();
        took.sort();
        Finish {
            race: self,
            failures: steps
                .iter()
                .filter(|step| step.code != 0)
                .map(|step| (step.code, step.log.clone()))
                .collect(),
            shared: owners
                .into_iter()
                .filter_map(|(machine, owners)| (owners > 1).then_some(machine))
                .collect(),
            reused: sum("reused"),
            created: sum("created"),
            launched: 0,
            took,
            calls: BTreeMap::new(),
            whole: Duration::ZERO,
            prepared: Duration::ZERO,
        }
    }
}

impl Finish {
    /// What is not as it must be, in words.
    pub fn wrongs(&self) -> Vec<String> {
        let race = &self.race;
        let mut wrongs: Vec<String> = self
            .failures
            .iter()
            .map(|(code, log)| format!("a provision ended with {code}:\n{log}"))
            .collect();
        if !self.shared.is_empty() {
            wrongs.push(format!("more than one got {}", self.shared.join(", ")));
        }
        let used = race.idle.min(race.provisions * race.each);
        if self.reused != used {
            wrongs.push(format!("{} reused, not {used}", self.reused));
        }
        let missing = race.missing();
        if self.created != missing {
            wrongs.push(format!("{} created, not {missing}", self.created));
        }
        if self.launched != missing as usize {
            wrongs.push(format!("EC2 launched {}, not {missing}", self.launched));
        }
        wrongs
    }
}

impl fmt::Display for Finish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Race {
            provisions,
            each,
            idle,
        } = self.race;
        let at = |index: usize| self.took.get(index).map_or(0.0, Duration::as_secs_f64);
        let calls: usize = self.calls.values().sum();
        write!(
            f,
            "{provisions} × {each} for {idle} idle: {} failed, {} shared, {} reused, {} created \
             ({} launched); a provision took {:.1} / {:.1} / {:.1} s, all {:.1} s; {calls} AWS \
             calls of the controllers; made ready in {:.0} s",
            self.failures.len(),
            self.shared.len(),
            self.reused,
            self.created,
            self.launched,
            at(0),
            at(self.took.len() / 2),
            at(self.took.len().saturating_sub(1)),
            self.whole.as_secs_f64(),
            self.prepared.as_secs_f64(),
        )
    }
}
