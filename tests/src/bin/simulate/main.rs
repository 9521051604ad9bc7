//! `cargo simulate`: runs the simulation for as many seeds as one likes.

use std::{
    collections::BTreeMap,
    num::NonZero,
    process::ExitCode,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Instant,
};

use clap::Parser;
use tests::sim::{Outcome, fault::Fault, sabotage::Sabotage, simulate, soak};

/// Plays pools of machines with everything that can go wrong, each from one seed.
#[derive(Debug, Parser)]
struct Arguments {
    /// Tell the story of this seed, and of no other.
    #[arg(long)]
    seed: Option<u64>,
    /// How many seeds to run.
    #[arg(long, default_value_t = 100)]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Plant a deliberate bug.
    #[arg(long, value_parser = sabotage)]
    sabotage: Option<Sabotage>,
    /// An hour of virtual time with so many workflows of random size, and every kind of fault.
    #[arg(long, conflicts_with_all = ["seeds", "sabotage", "sabotages"])]
    soak: Option<usize>,
    /// Look for every deliberate bug, in `--seeds` seeds each, and print which found it.
    #[arg(long, conflicts_with_all = ["seed", "sabotage", "from"])]
    sabotages: bool,
}

fn sabotage(name: &str) -> Result<Sabotage, String> {
    let found = Sabotage::ALL.into_iter().find(|s| format!("{s:?}") == name);
    found.ok_or_else(|| format!("allowed: {:?}", Sabotage::ALL))
}

/// What many seeds came to.
#[derive(Default)]
struct Sum {
    steps: u64,
    hours: f64,
    counts: BTreeMap<&'static str, u64>,
    happened: BTreeMap<Fault, u64>,
    failed: Vec<String>,
}

impl Sum {
    fn add(&mut self, outcome: &Outcome) {
        self.steps += outcome.steps;
        self.hours += outcome.took.as_secs_f64() / 3_600.0;
        for (what, times) in &outcome.counts {
            *self.counts.entry(what).or_default() += times;
        }
        for (fault, times) in &outcome.happened {
            *self.happened.entry(*fault).or_default() += times;
        }
        if let Some(violation) = &outcome.violation {
            let line = format!("seed {}: {violation}", outcome.seed);
            println!("{line}");
            self.failed.push(line);
        }
    }
}

/// Does `work` for each number below `count`, on all processors.
fn each(count: u64, work: impl Fn(u64) + Sync) {
    let next = AtomicU64::new(0);
    let threads = thread::available_parallelism().map_or(1, NonZero::get);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count {
                        return;
                    }
                    work(number);
                }
            });
        }
    });
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Some(workflows) = arguments.soak {
        return endure(arguments.seed.unwrap_or_default(), workflows);
    }
    if let Some(seed) = arguments.seed {
        return tell(seed, arguments.sabotage);
    }
    if arguments.sabotages {
        return hunt(arguments.seeds);
    }
    let began = Instant::now();
    let sum = Mutex::new(Sum::default());
    each(arguments.seeds, |number| {
        let outcome = simulate(arguments.from + number, arguments.sabotage, false);
        let mut sum = sum.lock().unwrap_or_else(PoisonError::into_inner);
        sum.add(&outcome);
    });
    let sum = sum.into_inner().unwrap_or_else(PoisonError::into_inner);
    for (what, times) in &sum.counts {
        println!("{times:>9} {what}");
    }
    for (fault, times) in &sum.happened {
        println!("{times:>9} × {fault}");
    }
    println!(
        "{} seeds, {} steps, {:.0} hours of virtual time, {} failed, {:.0} s",
        arguments.seeds,
        sum.steps,
        sum.hours,
        sum.failed.len(),
        began.elapsed().as_secs_f64()
    );
    if sum.failed.is_empty() {
        return ExitCode::SUCCESS;
    }
    println!("replay one with: cargo simulate --seed <seed>");
    ExitCode::FAILURE
}

/// One seed's story.
fn tell(seed: u64, sabotage: Option<Sabotage>) -> ExitCode {
    let outcome = simulate(seed, sabotage, true);
    outcome.story.iter().for_each(|line| println!("{line}"));
    println!(
        "seed {seed} took {:.0} s of virtual time and {} steps, hash {:016x}",
        outcome.took.as_secs_f64(),
        outcome.steps,
        outcome.hash
    );
    match outcome.violation {
        Some(_) => ExitCode::FAILURE,
        None => ExitCode::SUCCESS,
    }
}

/// A long load, and what became of it.
fn endure(seed: u64, workflows: usize) -> ExitCode {
    let began = Instant::now();
    let outcome = soak(seed, workflows);
    let mut sum = Sum::default();
    sum.add(&outcome);
    for (what, times) in &sum.counts {
        println!("{times:>9} {what}");
    }
    for (fault, times) in &sum.happened {
        println!("{times:>9} × {fault}");
    }
    println!("| machines | ready | p50 | p95 | p99 |");
    println!("|---|---|---|---|---|");
    for (name, wanted) in [("reused", true), ("new", false)] {
        let of_these = outcome.ready.iter().filter(|(reused, _)| *reused == wanted);
        let mut took: Vec<f64> = of_these.map(|(_, took)| took.as_secs_f64()).collect();
        took.sort_by(f64::total_cmp);
        let percentile = |percent: usize| {
            let at = (took.len() * percent).div_ceil(100).saturating_sub(1);
            took.get(at)
                .map_or_else(|| "–".to_owned(), |took| format!("{took:.1} s"))
        };
        println!(
            "| {name} | {} | {} | {} | {} |",
            took.len(),
            percentile(50),
            percentile(95),
            percentile(99)
        );
    }
    let lost = sum.counts.get("jobs lost");
    println!(
        "leaked machines: {}, lost jobs: {}",
        if outcome.violation.is_none() {
            "none"
        } else {
            "see above"
        },
        lost.unwrap_or(&0)
    );
    println!(
        "seed {seed}, {workflows} workflows, {} steps, {:.1} hours of virtual time, {:.0} s",
        outcome.steps,
        sum.hours,
        began.elapsed().as_secs_f64()
    );
    match outcome.violation {
        Some(_) => ExitCode::FAILURE,
        None => ExitCode::SUCCESS,
    }
}

/// Which seed finds each deliberate bug.
fn hunt(within: u64) -> ExitCode {
    let missed = AtomicU64::new(0);
    println!("| deliberate bug | found by seed | broken promise |");
    println!("|---|---|---|");
    each(Sabotage::ALL.len() as u64, |number| {
        let sabotage = Sabotage::ALL[usize::try_from(number).expect("a few")];
        let found = sabotage.hunt(within);
        let found = found.and_then(|outcome| Some((outcome.seed, outcome.violation?)));
        if let Some((seed, violation)) = found {
            println!("| {sabotage} | {seed} | {violation} |");
        } else {
            missed.fetch_add(1, Ordering::Relaxed);
            println!("| {sabotage} | none of {within} | – |");
        }
    });
    match missed.into_inner() {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}
