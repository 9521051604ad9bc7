//! The simulation: it replays, it finds nothing in the program, and it finds every deliberate bug.

use std::collections::BTreeMap;

use tests::sim::{Outcome, fault::Fault, sabotage::Sabotage, simulate, soak};

/// Seeds that are always run.
const FIXED: std::ops::Range<u64> = 0..60;
/// Seeds that nobody has run before.
const FRESH: u64 = 20;
/// Within so many seeds each deliberate bug is found.
const SABOTAGE_IS_FOUND_WITHIN: u64 = 200;

/// Tells the story of a seed that failed: it replays exactly.
fn stands(outcome: &Outcome) {
    if let Some(violation) = &outcome.violation {
        let story = simulate(outcome.seed, None, true).story.join("\n");
        panic!(
            "{story}\nseed {}: {violation}\nreplay with: cargo simulate --seed {}",
            outcome.seed, outcome.seed
        );
    }
}

#[test]
fn a_seed_replays_exactly() {
    for seed in 0..5 {
        let (one, other) = (simulate(seed, None, false), simulate(seed, None, true));
        assert_eq!(
            (one.hash, one.steps),
            (other.hash, other.steps),
            "seed {seed}"
        );
    }
}

#[test]
fn nothing_is_lost_in_the_fixed_seeds_and_all_faults_strike() {
    let mut happened: BTreeMap<Fault, u64> = BTreeMap::new();
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for seed in FIXED {
        let outcome = simulate(seed, None, false);
        stands(&outcome);
        for (fault, times) in outcome.happened {
            *happened.entry(fault).or_default() += times;
        }
        for (what, times) in outcome.counts {
            *counts.entry(what).or_default() += times;
        }
    }
    let never: Vec<Fault> = Fault::ALL
        .into_iter()
        .map(|(fault, _)| fault)
        .filter(|fault| !happened.contains_key(fault))
        .collect();
    assert!(never.is_empty(), "never happened: {never:?}");
    for what in [
        "provisions done",
        "provisions failed",
        "provisions killed",
        "machines reused",
        "jobs done",
        "machines claimed in the end",
    ] {
        assert!(counts.contains_key(what), "no {what}: {counts:?}");
    }
}

#[test]
fn nothing_is_lost_in_fresh_seeds() {
    for _ in 0..FRESH {
        stands(&simulate(rand::random(), None, false));
    }
}

#[test]
fn every_deliberate_bug_is_found() {
    for sabotage in Sabotage::ALL {
        let Some(Outcome {
            seed, violation, ..
        }) = sabotage.hunt(SABOTAGE_IS_FOUND_WITHIN)
        else {
            panic!("{sabotage} is not found within {SABOTAGE_IS_FOUND_WITHIN} seeds");
        };
        let violation = violation.map_or_else(String::new, |violation| violation.to_string());
        println!("{sabotage}: seed {seed}: {violation}");
    }
}

#[test]
fn an_hour_with_many_workflows_loses_nothing() {
    let outcome = soak(1, 60);
    assert!(outcome.violation.is_none(), "{:?}", outcome.violation);
    for loss in ["jobs lost", "workflows that lost a machine"] {
        let lost = outcome.counts.get(loss);
        assert_eq!(lost, None, "{:?}", outcome.counts);
    }
}
