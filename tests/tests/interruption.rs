//! EC2 takes spot machines away: what the workflow hears of it.

use std::{cell::RefCell, collections::BTreeMap, time::Duration};

use proto::{signal::Signal, state::State, table::Table};
use tests::{
    pool::Pool,
    workflow::REPOSITORY,
    yard::github::{Conclusion, Job},
};

/// Of others EC2 announces nothing.
const SPOT: [(&str, &str); 2] = [("instance-count", "1"), ("usage-class", "spot")];

async fn state_of(pool: &Pool, id: &str) -> Option<proto::instance::InstanceRecord> {
    let id: proto::ids::InstanceId = id.parse().expect("an id");
    for state in State::LIVE {
        let found = pool.table.instances_in(state, None).await.expect("listed");
        if let Some(record) = found.into_iter().find(|record| *record.id() == id) {
            return Some(record);
        }
    }
    None
}

async fn until_unhealthy(pool: &Pool, id: &str) -> proto::instance::InstanceRecord {
    let deadline = std::time::Instant::now() + tests::pool::PATIENCE;
    loop {
        let record = state_of(pool, id).await.expect("a live record");
        if record.unhealthy().is_some() {
            return record;
        }
        assert!(std::time::Instant::now() < deadline, "{record:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_on_an_interrupted_machine_runs_on_and_the_release_says_what_happened() {
    let pool = Pool::new(Duration::ZERO).await;
    let step = pool.provision_with(41, &SPOT).await;
    assert_eq!(step.code, 0, "{}", step.log);
    let id = step.machines().remove(0);
    pool.yard.github.add_run(41, REPOSITORY);
    let job = pool.yard.github.enqueue(Job {
        run_id: 41,
        name: "build".into(),
        labels: vec!["41".into()],
        steps: vec!["sleep 6".into()],
        env: BTreeMap::new(),
    });
    pool.until("the job runs", || {
        pool.yard.github.runners().iter().any(|runner| runner.busy)
    })
    .await;
    assert!(pool.yard.machines.interrupt_spot(&id));
    let record = until_unhealthy(&pool, &id).await;
    assert_eq!(
        record.report.map(|report| report.signal),
        Some(Signal::Interrupted)
    );
    assert_eq!(pool.alive(), 1);
    // Its job was let end, and then there was nothing to stay for.
    pool.until_alive(0).await;
    let job = pool.yard.github.job(job).expect("it is known");
    assert_eq!(job.conclusion, Some(Conclusion::Success), "{job:?}");
    let step = pool.release(41).await;
    assert_eq!(step.code, 0, "{}", step.log);
    assert!(step.log.contains("spot interruption"), "{}", step.log);
    pool.yard.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_machine_that_waits_for_jobs_loses_none() {
    // A job that meets the machine on its way out goes to the other one.
    let pickup = Duration::from_secs(2);
    let pool = Pool::with(|settings| settings.github.pickup = pickup).await;
    let spots = [("instance-count", "2"), ("usage-class", "spot")];
    let step = pool.provision_with(71, &spots).await;
    assert_eq!(step.code, 0, "{}", step.log);
    let id = step.machines().remove(0);
    pool.yard.github.add_run(71, REPOSITORY);
    assert!(pool.yard.machines.interrupt_spot(&id));
    let jobs = RefCell::new(Vec::new());
    // One after the other, so that one of them meets the machine on its way out.
    pool.until("the machine is gone", || {
        let queued = |job| {
            pool.yard
                .github
                .job(job)
                .expect("known")
                .started_at
                .is_none()
        };
        let mut jobs = jobs.borrow_mut();
        if jobs.last().is_none_or(|job| !queued(*job)) {
            jobs.push(pool.yard.github.enqueue(Job {
                run_id: 71,
                name: "build".into(),
                labels: vec!["71".into()],
                // Longer than a listener takes to settle.
                steps: vec!["sleep 7".into()],
                env: BTreeMap::new(),
            }));
        }
        pool.alive() == 1
    })
    .await;
    for job in jobs.take() {
        let view = || pool.yard.github.job(job).expect("it is known");
        pool.until("the job is over", || view().conclusion.is_some())
            .await;
        assert_eq!(view().conclusion, Some(Conclusion::Success), "{:?}", view());
    }
    assert_eq!(pool.release(71).await.code, 0);
    pool.yard.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_machine_in_the_pool_is_gone_before_the_next_run() {
    let pool = Pool::new(Duration::ZERO).await;
    let step = pool.provision_with(51, &SPOT).await;
    let id = step.machines().remove(0);
    assert_eq!(pool.release(51).await.code, 0);
    assert!(pool.yard.machines.interrupt_spot(&id));
    pool.until_alive(0).await;
    let next = pool.provision_with(52, &SPOT).await;
    assert_eq!(
        (next.code, next.number("reused")),
        (0, Some(0)),
        "{}",
        next.log
    );
    pool.yard.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_to_move_away_from_is_released_but_not_pooled() {
    let pool = Pool::new(Duration::ZERO).await;
    let step = pool.provision_with(61, &SPOT).await;
    let id = step.machines().remove(0);
    assert!(pool.yard.machines.rebalance(&id));
    until_unhealthy(&pool, &id).await;
    assert_eq!(pool.alive(), 1);
    let step = pool.release(61).await;
    assert_eq!(step.code, 0, "{}", step.log);
    assert!(step.log.contains("EC2 recommends"), "{}", step.log);
    pool.until_alive(0).await;
    pool.yard.stop().await;
}
