//! Provisions that are cancelled or killed, and what of them comes late.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use proto::{
    provision::Phase,
    state::{State, Transition},
    table::Table,
    time::{Clock, SystemClock},
};
use tests::{
    pool::Pool,
    yard::aws::{Fault, FaultKind},
};

use super::{CANCEL_LIMIT, errors, refused, warm};

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_at_any_moment_leaves_nothing() {
    let pool = Pool::new(Duration::from_hours(1)).await;
    pool.yard.aws.set_latency(Duration::from_millis(60));
    let moments = [0, 60, 120, 180, 240, 300, 360, 450, 700, 1000];
    for (run, moment) in (201..).zip(moments) {
        let step = pool
            .run(run)
            .start("provision", &[("instance-count", "2")])
            .expect("it starts");
        tokio::time::sleep(Duration::from_millis(moment)).await;
        // In its first moments a process has no handlers, and nothing to take back.
        let first = if run % 2 == 0 && moment > 100 {
            Signal::SIGTERM
        } else {
            Signal::SIGINT
        };
        step.signal(first).expect("it runs");
        let cancelled = Instant::now();
        if moment > 100 {
            tokio::time::sleep(Duration::from_millis(20)).await;
            step.signal(Signal::SIGINT).expect("it runs");
        }
        let step = step.finish().await.expect("it ends");
        assert_eq!(step.code, 130, "{moment} ms: {}", step.log);
        assert!(cancelled.elapsed() < CANCEL_LIMIT, "{moment} ms");
        pool.until_alive(0).await;
        let journals = pool.journals(run).await;
        assert!(
            journals.iter().all(|journal| !journal.phase.is_open()),
            "{moment} ms: {journals:?}"
        );
    }
    assert_eq!(pool.records(State::Created).await, 0);
    pool.yard.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_while_machines_are_claimed_or_committed_leaves_nothing() {
    let pool = Pool::new(Duration::ZERO).await;
    for (run, moment) in (211..).zip([250, 400, 550, 700, 850, 1000]) {
        pool.yard.aws.set_latency(Duration::ZERO);
        warm(&pool, run + 100, "2").await;
        let alive = pool.alive();
        pool.yard.aws.set_latency(Duration::from_millis(60));
        let step = pool
            .run(run)
            .start("provision", &[("instance-count", "2")])
            .expect("it starts");
        tokio::time::sleep(Duration::from_millis(moment)).await;
        step.signal(Signal::SIGINT).expect("it runs");
        let cancelled = Instant::now();
        let step = step.finish().await.expect("it ends");
        assert!(cancelled.elapsed() < CANCEL_LIMIT, "{moment} ms");
        match step.code {
            // It was faster than the signal, and the run has its machines.
            0 => assert_eq!(pool.release(run).await.code, 0),
            code => {
                assert_eq!(code, 130, "{moment} ms: {}", step.log);
                pool.until("its machines are ended or idle", || pool.alive() <= alive)
                    .await;
            }
        }
        for state in [State::Created, State::Claimed, State::Running] {
            assert_eq!(pool.records(state).await, 0, "{moment} ms: {state}");
        }
    }
    pool.yard.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_launch_that_never_answers_is_left_for_refresh() {
    let pool = Pool::new(Duration::ZERO).await;
    let hang = Fault::new("ec2", "CreateFleet", FaultKind::Hang);
    pool.yard.aws.inject(hang);
    let step = pool.run(221).start("provision", &[]).expect("it starts");
    tokio::time::sleep(Duration::from_secs(1)).await;
    step.signal(Signal::SIGINT).expect("it runs");
    let cancelled = Instant::now();
    let step = step.finish().await.expect("it ends");
    assert!(cancelled.elapsed() < CANCEL_LIMIT);
    assert_eq!(step.code, 3, "{}", step.log);
    assert!(
        errors(&step)[0].contains("left for refresh"),
        "{}",
        step.log
    );
    assert_eq!(pool.journals(221).await[0].phase, Phase::RollingBack);
    pool.yard.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_provision_leaves_refresh_or_the_next_attempt_heals() {
    let pool = Pool::new(Duration::from_hours(1)).await;
    for run in [231, 232] {
        let step = pool
            .run(run)
            .start("provision", &[("instance-count", "2")])
            .expect("it starts");
        pool.until_alive(2).await;
        step.signal(Signal::SIGKILL).expect("it runs");
        step.finish().await.expect("it ends");
        assert_eq!(pool.alive(), 2);
        // As if its controller had died two minutes ago.
        let journal = pool.journals(run).await.remove(0);
        let long_ago = journal.beat - Duration::from_mins(2);
        pool.table
            .put_provision(&journal.next(long_ago))
            .await
            .expect("written");
        if run == 231 {
            let step = pool.refresh().await;
            assert_eq!(step.code, 0, "{}", step.log);
        } else {
            let mut rerun = pool.run(run);
            rerun.attempt = 2;
            let step = rerun.start("provision", &[]).expect("it starts");
            pool.until_alive(1).await;
            step.signal(Signal::SIGINT).expect("it runs");
            assert_eq!(step.finish().await.expect("it ends").code, 130);
        }
        pool.until_alive(0).await;
        assert_eq!(pool.journals(run).await[0].phase, Phase::RolledBack);
    }
    pool.yard.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_that_came_too_late_serves_no_later_attempt() {
    let pool = Pool::new(Duration::ZERO).await;
    warm(&pool, 251, "1").await;
    let short = refused(400, "InsufficientInstanceCapacity");
    let fault = Fault::new("ec2", "CreateFleet", short);
    pool.yard.aws.inject(fault.times(1));
    assert_eq!(pool.provision(252, "2").await.code, 1);
    let journal = pool.journals(252).await.remove(0);
    assert_eq!(journal.phase, Phase::RolledBack);
    let [late] = &*journal.claimed else {
        panic!("one is claimed: {journal:?}");
    };
    let idle = pool.table.instances_in(State::Idle, None).await;
    let idle = idle.expect("listed").remove(0);
    assert_eq!(idle.id(), late);

    // The claim is applied now, after it was given up.
    let tokens = pool.table.config().await.expect("read").github_tokens;
    let claim = Transition::Claim {
        label: journal.label.clone(),
        token: tokens.expect("tokens").registration,
        timeout: Duration::from_mins(5),
    };
    let claim = claim.change(SystemClock.now());
    let claimed = pool.table.change_instance(&idle.arn, &claim).await;
    claimed.expect("written");
    assert_eq!(pool.records(State::Claimed).await, 1);

    let mut rerun = pool.run(252);
    rerun.attempt = 2;
    let step = rerun.step("provision", &[]).await.expect("it runs");
    assert_eq!(step.code, 0, "{}", step.log);
    assert_eq!(step.number("created"), Some(1), "{}", step.log);
    let record = pool.table.instance(&idle.arn).await.expect("read");
    assert_eq!(record.expect("there").state, State::Terminated);
    pool.until_alive(1).await;

    // EC2 forgets what has ended: the next attempt does not ask for it once more.
    assert_eq!(pool.release(252).await.code, 0);
    let mut journal = pool.journals(252).await.remove(0).next(SystemClock.now());
    journal.phase = Phase::RolledBack;
    journal.claimed = vec![late.clone()];
    pool.table.put_provision(&journal).await.expect("written");
    let before = pool.calls("TerminateInstances");
    rerun.attempt = 3;
    let step = rerun.step("provision", &[]).await.expect("it runs");
    assert_eq!(step.code, 0, "{}", step.log);
    assert_eq!(pool.calls("TerminateInstances"), before);
    pool.yard.stop().await;
}
