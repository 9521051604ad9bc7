//! The failures that a pool cannot do without: each as a workflow meets it, each leaving nothing.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use proto::{state::State, table::Table};
use tests::{
    pool::{PATIENCE, Pool},
    workflow::REPOSITORY,
    yard::github::Job,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_that_falls_short_fails_the_step_and_leaves_the_pool_whole() {
    let pool = Pool::new(Duration::ZERO).await;
    assert_eq!(pool.provision(11, "1").await.code, 0);
    assert_eq!(pool.release(11).await.code, 0);
    pool.yard.aws.set_capacity("*", None, Some(1));

    let short = pool.provision(12, "3").await;
    assert_eq!(short.code, 1, "{}", short.log);
    assert!(
        short.log.contains("InsufficientInstanceCapacity"),
        "{}",
        short.log
    );
    assert!(short.log.contains("launched 1 of 2"), "{}", short.log);
    pool.until_alive(1).await;
    assert_eq!(pool.records(State::Idle).await, 1);

    // What was claimed went back: the next one gets it.
    let warm = pool.provision(13, "1").await;
    assert_eq!(
        (warm.code, warm.number("reused")),
        (0, Some(1)),
        "{}",
        warm.log
    );
    pool.yard.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_never_comes_fails_the_step_and_is_terminated() {
    let pool = Pool::new(Duration::from_hours(1)).await;
    pool.hurry(|parameters| parameters.fleet_timeout_sec = 2)
        .await;
    let step = pool.provision(21, "2").await;
    assert_eq!(step.code, 1, "{}", step.log);
    assert!(
        step.log.contains("its agent was never heard of"),
        "{}",
        step.log
    );
    pool.until_alive(0).await;
    assert_eq!(pool.records(State::Created).await, 0);
    let journal = pool
        .table
        .provisions_of(&"21".parse().expect("a run"))
        .await
        .expect("read");
    assert_eq!(journal[0].phase, proto::provision::Phase::RolledBack);
    pool.yard.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_that_race_for_one_warm_machine_never_share_it() {
    let pool = Pool::new(Duration::ZERO).await;
    assert_eq!(pool.provision(31, "1").await.code, 0);
    assert_eq!(pool.release(31).await.code, 0);
    let (a, b) = tokio::join!(pool.provision(32, "1"), pool.provision(33, "1"));
    assert_eq!((a.code, b.code), (0, 0), "{}\n{}", a.log, b.log);
    assert_ne!(a.machines(), b.machines());
    assert_eq!(
        a.number("reused")
            .zip(b.number("reused"))
            .map(|(a, b)| a + b),
        Some(1)
    );
    pool.yard.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_that_times_out_terminates_and_never_pools() {
    let pool = Pool::new(Duration::ZERO).await;
    let step = pool.provision(41, "1").await;
    assert_eq!(step.code, 0, "{}", step.log);
    pool.yard.github.add_run(41, REPOSITORY);
    pool.yard.github.enqueue(Job {
        run_id: 41,
        name: "endless".into(),
        labels: vec!["41".into()],
        steps: vec!["sleep 3600".into()],
        env: std::collections::BTreeMap::new(),
    });
    let busy = |pool: &Pool| pool.yard.github.runners().iter().any(|runner| runner.busy);
    let deadline = Instant::now() + PATIENCE;
    while !busy(&pool) {
        assert!(Instant::now() < deadline, "the job was never taken");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    pool.hurry(|parameters| parameters.release_timeout_sec = 2)
        .await;
    let step = pool.release(41).await;
    assert_eq!(step.code, 0, "{}", step.log);
    assert!(
        step.log.contains("`endless` did not end in time"),
        "{}",
        step.log
    );
    pool.until_alive(0).await;
    let next = pool.provision(42, "1").await;
    assert_eq!(
        (next.code, next.number("reused")),
        (0, Some(0)),
        "{}",
        next.log
    );
    pool.yard.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_provision_leaves_nothing() {
    let pool = Pool::new(Duration::from_hours(1)).await;
    let step = pool
        .run(51)
        .start("provision", &[("instance-count", "2")])
        .expect("provision starts");
    pool.until_alive(2).await;
    step.signal(Signal::SIGINT).expect("it runs");
    let cancelled = Instant::now();
    let step = step.finish().await.expect("it ends");
    assert_eq!(step.code, 130, "{}", step.log);
    assert!(
        cancelled.elapsed() < Duration::from_secs(7),
        "GitHub kills a step after that"
    );
    pool.until_alive(0).await;
    pool.yard.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_script_stands_in_the_workflows_log() {
    let pool = Pool::new(Duration::ZERO).await;
    let script = "echo the disk is full >&2\nexit 3\n".to_owned();
    let step = pool.refresh_with([("pre-runner-script", script)]).await;
    assert_eq!(step.code, 0, "{}", step.log);
    let step = pool.provision(61, "1").await;
    assert_eq!(step.code, 1, "{}", step.log);
    assert!(step.log.contains("the disk is full"), "{}", step.log);
    pool.until_alive(0).await;
    pool.yard.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn release_without_provision_says_so_and_is_content() {
    let pool = Pool::new(Duration::ZERO).await;
    let step = pool.release(71).await;
    assert_eq!(step.code, 0);
    assert!(step.log.contains("nothing to release"), "{}", step.log);
    pool.yard.stop().await;
}
