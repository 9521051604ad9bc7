//! Releases that are repeated, late, or meet a job.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use proto::{
    instance::InstanceRecord,
    provision::Phase,
    state::State,
    table::Table,
    time::{Clock, SystemClock},
};
use tests::{
    pool::{PATIENCE, Pool},
    workflow::REPOSITORY,
    yard::{
        aws::Fault,
        github::{Conclusion, Job},
    },
};

use super::refused;

async fn only(pool: &Pool, state: State) -> InstanceRecord {
    let mut found = pool.table.instances_in(state, None).await.expect("listed");
    assert_eq!(found.len(), 1, "{state}: {found:?}");
    found.remove(0)
}

/// As if the release had died right before it closed the journal.
async fn reopen(pool: &Pool, run: u64) {
    let journal = pool.journals(run).await.remove(0);
    let mut next = journal.next(journal.beat);
    next.phase = Phase::Committed;
    pool.table.put_provision(&next).await.expect("written");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_release_leaves_the_machines_of_other_runs_alone() {
    let pool = Pool::new(Duration::ZERO).await;
    assert_eq!(pool.provision(401, "1").await.code, 0);
    assert_eq!(pool.release(401).await.code, 0);
    reopen(&pool, 401).await;
    // Right after it died, the repeat goes on where it ended.
    let step = pool.release(401).await;
    assert!(step.log.contains("1 back in the pool"), "{}", step.log);

    let step = pool.provision(402, "1").await;
    assert_eq!(step.number("reused"), Some(1), "{}", step.log);
    reopen(&pool, 401).await;
    let step = pool.release(401).await;
    assert!(step.log.contains("for somebody else"), "{}", step.log);
    assert_eq!(
        only(&pool, State::Running)
            .await
            .label
            .expect("402")
            .as_str(),
        "402"
    );

    assert_eq!(pool.release(402).await.code, 0);
    let before = only(&pool, State::Idle).await;
    let sent = pool.calls("SendMessageBatch");
    reopen(&pool, 401).await;
    let step = pool.release(401).await;
    assert_eq!(step.code, 0, "{}", step.log);
    assert!(step.log.contains("0 back in the pool"), "{}", step.log);
    assert_eq!(pool.calls("SendMessageBatch"), sent, "listed twice");
    assert_eq!(only(&pool, State::Idle).await.generation, before.generation);
    pool.yard.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_removal_token_waits_until_no_job_can_read_it() {
    let pool = Pool::new(Duration::ZERO).await;
    let step = pool.provision(411, "1").await;
    assert_eq!(step.code, 0, "{}", step.log);
    pool.yard.github.add_run(411, REPOSITORY);
    pool.yard.github.enqueue(Job {
        run_id: 411,
        name: "curious".into(),
        labels: vec!["411".into()],
        steps: vec!["sleep 4".into()],
        env: BTreeMap::new(),
    });
    let deadline = Instant::now() + PATIENCE;
    while only(&pool, State::Running).await.job.is_none() {
        assert!(Instant::now() < deadline, "its agent never said so");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let release = pool.run(411).start("release", &[]).expect("it starts");
    let mut looks = 0;
    while let Some(record) = idle(&pool).await {
        if record.job.is_some() {
            looks += 1;
            assert_eq!(record.token, None, "a job could read it");
        } else if record.token.is_some() {
            break;
        }
        assert!(Instant::now() < deadline, "the token never came");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(looks > 10, "the job had ended before the release: {looks}");
    let step = release.finish().await.expect("it ends");
    assert_eq!(step.code, 0, "{}", step.log);
    assert!(step.log.contains("1 back in the pool"), "{}", step.log);
    pool.yard.stop().await;
}

/// The machine, idle or about to be.
async fn idle(pool: &Pool) -> Option<InstanceRecord> {
    for state in [State::Running, State::Idle] {
        let found = pool.table.instances_in(state, None).await.expect("listed");
        if let Some(record) = found.into_iter().next() {
            return Some(record);
        }
    }
    None
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_outlasts_its_run_is_ended_by_no_refresh() {
    const TIMEOUT: Duration = Duration::from_hours(1);
    let pool = Pool::new(Duration::ZERO).await;
    assert_eq!(pool.provision(421, "1").await.code, 0);
    pool.yard.github.add_run(421, REPOSITORY);
    let job = pool.yard.github.enqueue(Job {
        run_id: 421,
        name: "long".into(),
        labels: vec!["421".into()],
        steps: vec!["sleep 6".into()],
        env: BTreeMap::new(),
    });
    let deadline = Instant::now() + PATIENCE;
    while only(&pool, State::Running).await.job.is_none() {
        assert!(Instant::now() < deadline, "its agent never said so");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let patient = [("release-timeout-sec", "3600")];
    let release = pool.run(421).start("release", &patient).expect("it starts");
    while idle(&pool)
        .await
        .is_some_and(|record| record.state != State::Idle)
    {
        assert!(Instant::now() < deadline, "it was never released");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let step = pool
        .refresh_with([("max-idle", "large on-demand 0".into())])
        .await;
    assert_eq!(step.code, 0, "{}", step.log);
    let record = only(&pool, State::Idle).await;
    assert!(record.job.is_some(), "the job had ended before: {record:?}");
    assert!(
        record.threshold > Some(SystemClock.now() + TIMEOUT),
        "{record:?}"
    );

    let done = pool.yard.github.wait_job(job, PATIENCE).await;
    assert_eq!(done.expect("it ends").conclusion, Some(Conclusion::Success));
    let step = release.finish().await.expect("it ends");
    assert_eq!(step.code, 0, "{}", step.log);
    assert!(step.log.contains("1 back in the pool"), "{}", step.log);
    let record = only(&pool, State::Idle).await;
    assert!(
        record.threshold < Some(SystemClock.now() + TIMEOUT),
        "{record:?}"
    );
    pool.yard.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_label_that_cannot_be_released_keeps_no_other_back() {
    let pool = Pool::new(Duration::ZERO).await;
    assert_eq!(pool.provision(431, "1").await.code, 0);
    let named = [("name", "gpu")];
    assert_eq!(pool.provision_with(431, &named).await.code, 0);
    let fault = Fault::new("sqs", "SendMessageBatch", refused(403, "AccessDenied"));
    pool.yard.aws.inject(fault.times(1));
    let step = pool.release(431).await;
    assert_eq!(step.code, 3, "{}", step.log);
    let mut phases: Vec<Phase> = pool.journals(431).await.iter().map(|it| it.phase).collect();
    phases.sort_by_key(ToString::to_string);
    assert_eq!(phases, [Phase::Committed, Phase::Released], "{}", step.log);
    let step = pool.release(431).await;
    assert_eq!(step.code, 0, "{}", step.log);
    assert!(step.log.contains("1 back in the pool"), "{}", step.log);
    pool.yard.stop().await;
}
