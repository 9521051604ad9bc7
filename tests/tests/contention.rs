//! Provisions that race for the same idle machines: none fails, none shares, none creates more than
//! is missing.
//!
//! Every machine is an agent and a runner, every provision a controller: all of them processes of
//! this one computer. Ten provisions are what a small one bears beside its other work;
//! `PADDOCK_RACERS=50` runs the full size, and so does `cargo bench-pool --contention`.

use std::time::Duration;

use tests::{bench::race::Race, binaries::Binaries};
use tokio::sync::Mutex;

/// One race at a time: two at once would only measure the computer.
static TRACK: Mutex<()> = Mutex::const_new(());

/// AWS is never instant, and a race is wider where it is not.
const LATENCY: Duration = Duration::from_millis(20);

fn racers() -> u32 {
    let given = std::env::var("PADDOCK_RACERS").ok();
    given.map_or(10, |text| text.parse().expect("PADDOCK_RACERS is a number"))
}

async fn run(race: Race) {
    let _alone = TRACK.lock().await;
    let binaries = Binaries::build().expect("the programs build");
    let finish = race.run(&binaries, LATENCY).await.expect("the race starts");
    println!("{finish}");
    let wrongs = finish.wrongs();
    assert!(wrongs.is_empty(), "{finish}\n{}", wrongs.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn when_there_are_enough_all_are_used_and_none_is_created() {
    run(Race::for_all(racers())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn when_there_are_too_few_exactly_the_missing_are_created() {
    run(Race::for_too_few(racers())).await;
}
