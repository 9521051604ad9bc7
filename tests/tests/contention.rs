//! Provisions that race for the same idle machines: none fails, none shares, none creates more than
//! is missing.
//!
//! Every machine is an agent and a runner, every provision a controller: all of them processes of
//! this one computer. Ten provisions are what a small one bears beside its other work;
//! `PADDOCK_RACERS=50` runs the full size, and so does `cargo bench-pool --contention`.

use std::time::Duration;

use proto::{
    instance::UsageClass,
    message::{PoolMessage, VERSION},
    time::Time,
};
use tests::{
    bench::{pool::Pool, race::Race},
    binaries::Binaries,
    clients,
};
use tokio::sync::Mutex;

/// One race at a time: two at once would only measure the computer.
static TRACK: Mutex<()> = Mutex::const_new(());

/// AWS is never instant, and a race is wider where it is not.
const LATENCY: Duration = Duration::from_millis(20);

/// So slow that whoever leases more than it wants makes others believe that the pool is empty.
const SLOW: Duration = Duration::from_millis(500);

fn racers() -> u32 {
    let given = std::env::var("PADDOCK_RACERS").ok();
    given.map_or(10, |text| text.parse().expect("PADDOCK_RACERS is a number"))
}

async fn run(race: Race, latency: Duration) {
    let _alone = TRACK.lock().await;
    let binaries = Binaries::build().expect("the programs build");
    let finish = race.run(&binaries, latency).await.expect("the race starts");
    println!("{finish}");
    let wrongs = finish.wrongs();
    assert!(wrongs.is_empty(), "{finish}\n{}", wrongs.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn when_there_are_enough_all_are_used_and_none_is_created() {
    run(Race::for_all(racers()), LATENCY).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn when_there_are_too_few_exactly_the_missing_are_created() {
    run(Race::for_too_few(racers()), LATENCY).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_that_are_leased_for_long_are_as_few_as_the_machines_wanted() {
    run(Race::for_all(racers()), SLOW).await;
}

/// Its machine has ended; its message is still in the queue.
fn stale(id: &str) -> PoolMessage {
    PoolMessage {
        v: VERSION,
        id: id.parse().expect("an id"),
        resource_class: "large".parse().expect("a class"),
        instance_type: "c5.large".into(),
        cpu: 2,
        mmem: 4096,
        usage_class: UsageClass::OnDemand,
        template_version: 1,
        pooled_at: Time::EPOCH,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_of_machines_that_ended_do_not_hide_idle_ones_behind_them() {
    let _alone = TRACK.lock().await;
    let binaries = Binaries::build().expect("the programs build");
    let pool = Pool::start(&binaries, LATENCY).await.expect("a pool");
    let sqs = clients::sqs(&pool.yard.aws.url());
    let queue = sqs
        .get_queue_url()
        .queue_name("paddock-acme-widgets-large")
        .send()
        .await
        .expect("the queue");
    // In front of the machines that the warm-up gives back.
    for id in ["i-0aaaaaaaaaaaaaaa1", "i-0aaaaaaaaaaaaaaa2"] {
        sqs.send_message()
            .queue_url(queue.queue_url().expect("its address"))
            .message_body(stale(id).body())
            .send()
            .await
            .expect("sent");
    }
    pool.warm_up(2, 4).await.expect("four idle machines");
    let step = pool
        .run(3)
        .step("provision", &[("instance-count", "2")])
        .await
        .expect("provision runs");
    let got = (step.code, step.number("reused"), step.number("created"));
    assert_eq!(got, (0, Some(2), Some(0)), "{}", step.log);
    pool.yard.stop().await;
}
