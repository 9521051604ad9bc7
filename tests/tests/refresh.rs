//! Refresh as a schedule runs it: the real controller against the yard.

use std::time::Duration;

use proto::table::Table;
use tests::{pool::Pool, story::refresh_inputs};

#[tokio::test(flavor = "multi_thread")]
async fn a_second_refresh_plans_nothing_in_twelve_calls() {
    let pool = Pool::new(Duration::ZERO).await;
    // Two idle machines: their records have to be read too.
    assert_eq!(pool.provision(11, "2").await.code, 0);
    assert_eq!(pool.release(11).await.code, 0);
    assert_eq!(pool.table.config().await.unwrap().resource_classes.len(), 7);

    let before = pool.calls("*");
    let again = pool.refresh().await;
    assert_eq!(again.code, 0, "{}", again.log);
    assert!(again.log.contains("nothing to do"), "{}", again.log);
    let calls = pool.calls("*") - before;
    assert!(calls <= 12, "{calls} calls");
    pool.yard.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_refreshes_at_once_one_acts_and_the_other_leaves() {
    let pool = Pool::new(Duration::ZERO).await;
    let inputs = refresh_inputs(&pool.yard, "subnet-0a");
    let mut inputs: Vec<(&str, &str)> = inputs.iter().map(|(n, v)| (*n, &**v)).collect();
    inputs.retain(|(name, _)| *name != "ami");
    inputs.push(("ami", "ami-0fedcba9876543210"));
    pool.yard.aws.set_latency(Duration::from_millis(50));
    let (a, b) = (pool.run(1), pool.run(2));
    let (a, b) = tokio::join!(a.step("refresh", &inputs), b.step("refresh", &inputs));
    let logs = [a.expect("refresh runs"), b.expect("refresh runs")];
    let left = logs
        .iter()
        .filter(|step| step.log.contains("another refresh"));
    let acted = logs
        .iter()
        .filter(|step| step.log.contains("~ launch template"));
    assert!(logs.iter().all(|step| step.code == 0), "{logs:#?}");
    assert!(left.count() <= 1 && acted.count() >= 1, "{logs:#?}");
    assert_eq!(pool.calls("CreateLaunchTemplateVersion"), 1, "{logs:#?}");

    // Nobody holds the pool now.
    let config = pool.table.config().await.unwrap();
    assert_eq!(config.refresh.unwrap().until, None);
    assert_eq!(config.launch_template.unwrap().version, 2);
    pool.yard.stop().await;
}
