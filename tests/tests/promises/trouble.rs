//! AWS in trouble: behind with what it knows, out of reach for a moment, refusing.

use std::time::{Duration, Instant};

use aws_sdk_ec2::types::{FleetOnDemandAllocationStrategy, SpotAllocationStrategy};
use nix::sys::signal::Signal;
use proto::{provision::Phase, state::State, table::Table};
use tests::{
    clients,
    pool::{PATIENCE, Pool},
    yard::aws::{Fault, FaultKind},
};

use super::{CANCEL_LIMIT, errors, refused, warm};

/// For so long EC2 does not know what it has launched.
const LAG: Duration = Duration::from_millis(1200);

/// A pool whose machines take forever to boot, at an EC2 that lags behind.
async fn lagging() -> Pool {
    Pool::with(|settings| {
        settings.boot = Duration::from_hours(1);
        settings.aws.instance_lag = LAG;
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_ec2_does_not_know_yet_is_terminated_all_the_same() {
    let pool = lagging().await;
    pool.yard.aws.set_capacity("*", None, Some(1));
    let step = pool.provision(301, "2").await;
    assert_eq!(step.code, 1, "{}", step.log);
    assert!(pool.calls("TerminateInstances") > 1, "EC2 knew it at once");
    pool.until_alive(0).await;

    pool.yard.aws.set_capacity("*", None, None);
    let step = pool
        .run(302)
        .start("provision", &[("instance-count", "2")])
        .expect("it starts");
    pool.until_alive(2).await;
    step.signal(Signal::SIGINT).expect("it runs");
    let cancelled = Instant::now();
    let step = step.finish().await.expect("it ends");
    assert_eq!(step.code, 130, "{}", step.log);
    assert!(cancelled.elapsed() < CANCEL_LIMIT);
    pool.until_alive(0).await;
    pool.yard.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ec2_never_comes_to_know_is_left_for_refresh() {
    let pool = lagging().await;
    let unknown = Fault::new(
        "ec2",
        "TerminateInstances",
        refused(400, "InvalidInstanceID.NotFound"),
    );
    pool.yard.aws.inject(unknown.times(100));
    pool.hurry(|parameters| parameters.fleet_timeout_sec = 1)
        .await;
    let step = pool.provision(305, "1").await;
    assert_eq!(step.code, 3, "{}", step.log);
    assert_eq!(pool.journals(305).await[0].phase, Phase::RollingBack);
    pool.yard.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_throttled_termination_is_not_repeated_for_each_machine() {
    let pool = Pool::new(Duration::from_hours(1)).await;
    pool.hurry(|parameters| parameters.fleet_timeout_sec = 1)
        .await;
    let throttled = Fault::new(
        "ec2",
        "TerminateInstances",
        refused(503, "RequestLimitExceeded"),
    );
    pool.yard.aws.inject(throttled.times(3));
    let step = pool.provision(311, "5").await;
    assert_eq!(step.code, 3, "{}", step.log);
    // The SDK's own three tries.
    assert_eq!(pool.calls("TerminateInstances"), 3);
    assert!(errors(&step)[0].contains("RequestLimit"), "{}", step.log);
    pool.yard.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_out_of_reach_for_a_moment_ends_no_wait() {
    let pool = Pool::new(Duration::ZERO).await;
    let trouble = || {
        let cut = Fault::new("dynamodb", "BatchGetItem", FaultKind::CutBeforeApplying);
        let error = refused(500, "InternalServerError");
        let broken = Fault::new("dynamodb", "BatchGetItem", error);
        pool.yard.aws.inject(cut.times(3));
        pool.yard.aws.inject(broken.times(3));
    };
    trouble();
    let step = pool.provision(321, "2").await;
    assert_eq!(step.code, 0, "{}", step.log);
    trouble();
    let step = pool.release(321).await;
    assert_eq!(step.code, 0, "{}", step.log);
    assert!(step.log.contains("2 back in the pool"), "{}", step.log);
    pool.yard.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_while_a_failed_provision_is_taken_back_is_a_cancel() {
    let pool = Pool::with(|settings| settings.deregister = Duration::from_secs(3)).await;
    warm(&pool, 330, "1").await;
    pool.yard.aws.set_capacity("*", None, Some(0));
    let step = pool
        .run(331)
        .start("provision", &[("instance-count", "2")])
        .expect("it starts");
    let deadline = Instant::now() + PATIENCE;
    loop {
        let journals = pool.journals(331).await;
        if journals
            .iter()
            .any(|found| found.phase == Phase::RollingBack)
        {
            break;
        }
        assert!(Instant::now() < deadline, "it never rolled back");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    step.signal(Signal::SIGTERM).expect("it runs");
    let cancelled = Instant::now();
    let step = step.finish().await.expect("it ends");
    assert_eq!(step.code, 130, "{}", step.log);
    assert!(cancelled.elapsed() < CANCEL_LIMIT);
    // The first error is shown all the same.
    let error = errors(&step)[0];
    assert!(error.contains("cancelled"), "{error}");
    assert!(error.contains("InsufficientInstanceCapacity"), "{error}");
    for state in [State::Claimed, State::Running] {
        assert_eq!(pool.records(state).await, 0, "{state}");
    }
    assert!(!pool.journals(331).await[0].phase.is_open());
    pool.yard.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn price_and_strategy_reach_ec2() {
    let pool = Pool::new(Duration::ZERO).await;
    let ec2 = clients::ec2(&pool.yard.aws.url());
    let spot = ("usage-class", "spot");
    let inputs = [
        spot,
        ("max-price", "0.05"),
        ("allocation-strategy", "capacity-optimized"),
    ];
    let step = pool.provision_with(341, &inputs).await;
    assert_eq!(step.code, 0, "{}", step.log);
    let fleets = || async {
        let answer = ec2.describe_fleets().send().await.expect("fleets");
        answer.fleets.unwrap_or_default()
    };
    let fleet = fleets().await.pop().expect("a fleet");
    let options = fleet.spot_options().expect("spot options");
    assert_eq!(
        options.allocation_strategy(),
        Some(&SpotAllocationStrategy::CapacityOptimized)
    );
    let launched = fleet.instances()[0].launch_template_and_overrides();
    let price = launched.and_then(|used| used.overrides()?.max_price());
    assert_eq!(price, Some("0.05"));

    // Too low a price is a refusal that says what to change; the fallback has no price.
    let low = [spot, ("max-price", "0.01"), ("fallback", "on-demand")];
    let step = pool.provision_with(342, &low[..2]).await;
    assert_eq!(step.code, 1, "{}", step.log);
    let error = errors(&step)[0];
    assert!(error.contains("SpotMaxPriceTooLow"), "{error}");
    assert!(error.contains("raise it, leave it out"), "{error}");
    let step = pool.provision_with(343, &low).await;
    assert_eq!(step.code, 0, "{}", step.log);
    let fleet = fleets().await.pop().expect("a fleet");
    let options = fleet.on_demand_options().expect("on-demand options");
    assert_eq!(
        options.allocation_strategy(),
        Some(&FleetOnDemandAllocationStrategy::LowestPrice)
    );
    pool.yard.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_outlives_the_longest_run() {
    let pool = Pool::new(Duration::ZERO).await;
    let month = [("max-runtime-min", "43200")];
    let step = pool.provision_with(351, &month).await;
    assert_eq!(step.code, 0, "{}", step.log);
    let journal = pool.journals(351).await.remove(0);
    let kept = journal.expires_at.expect("a time") - journal.started_at.as_secs();
    assert!(kept > 30 * 24 * 3600, "kept for {kept} s");
    let running = pool.table.instances_in(State::Running, None).await;
    let threshold = running.expect("listed")[0].threshold.expect("a time");
    assert!(threshold.as_secs() < journal.expires_at.expect("a time"));
    pool.yard.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_meets_a_transaction_is_repeated() {
    let pool = Pool::new(Duration::ZERO).await;
    warm(&pool, 361, "1").await;
    let met = || {
        let refused = refused(400, "TransactionConflictException");
        let fault = Fault::new("dynamodb", "UpdateItem", refused);
        pool.yard.aws.inject(fault.times(1));
    };
    met();
    let step = pool.provision(362, "1").await;
    assert_eq!(step.code, 0, "{}", step.log);
    assert_eq!(step.number("reused"), Some(1), "{}", step.log);
    met();
    let step = pool.release(362).await;
    assert_eq!(step.code, 0, "{}", step.log);
    assert!(step.log.contains("1 back in the pool"), "{}", step.log);
    pool.yard.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_machine_that_ec2_has_forgotten_keeps_no_batch_alive() {
    let pool = Pool::new(Duration::from_hours(1)).await;
    pool.hurry(|parameters| parameters.fleet_timeout_sec = 1)
        .await;
    let unauthorized = refused(403, "UnauthorizedOperation");
    let fault = Fault::new("ec2", "TerminateInstances", unauthorized);
    pool.yard.aws.inject(fault.times(1));
    let step = pool.provision(363, "3").await;
    assert_eq!(step.code, 1, "{}", step.log);
    pool.until_alive(0).await;
    pool.yard.stop().await;
}
