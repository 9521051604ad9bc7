//! `cargo simulate`: runs the simulation for as many seeds as one likes.

use std::{collections::BTreeMap, process::ExitCode, time::Instant};

use clap::Parser;
use tests::sim::{Outcome, sabotage::Sabotage, simulate};

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
}

fn sabotage(name: &str) -> Result<Sabotage, String> {
    let found = Sabotage::ALL.into_iter().find(|s| format!("{s:?}") == name);
    found.ok_or_else(|| format!("allowed: {:?}", Sabotage::ALL))
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let seeds = match arguments.seed {
        Some(seed) => seed..seed + 1,
        None => arguments.from..arguments.from + arguments.seeds,
    };
    let began = Instant::now();
    let (mut steps, mut failed) = (0, 0);
    let (mut counts, mut happened) = (BTreeMap::new(), BTreeMap::new());
    for seed in seeds.clone() {
        let tell = arguments.seed.is_some();
        let outcome = simulate(seed, arguments.sabotage, tell);
        outcome.story.iter().for_each(|line| println!("{line}"));
        steps += outcome.steps;
        add(&mut counts, &outcome.counts);
        add(&mut happened, &outcome.happened);
        if let Some(violation) = &outcome.violation {
            failed += 1;
            println!("seed {seed}: {violation}");
        }
        if tell {
            tell_end(&outcome);
        }
    }
    let count = seeds.end - seeds.start;
    for (what, times) in counts {
        println!("{times:>9} {what}");
    }
    for (fault, times) in happened {
        println!("{times:>9} × {fault}");
    }
    println!(
        "{count} seeds, {steps} steps, {failed} failed, {:.0} s",
        began.elapsed().as_secs_f64()
    );
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        println!("replay one with: cargo simulate --seed <seed>");
        ExitCode::FAILURE
    }
}

fn add<K: Ord + Clone>(sums: &mut BTreeMap<K, u64>, new: &BTreeMap<K, u64>) {
    for (key, times) in new {
        *sums.entry(key.clone()).or_default() += times;
    }
}

fn tell_end(outcome: &Outcome) {
    println!(
        "seed {} took {:.0} s of virtual time, hash {:016x}",
        outcome.seed,
        outcome.took.as_secs_f64(),
        outcome.hash
    );
}
