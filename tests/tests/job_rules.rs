//! What an operator lays down for jobs: one job a registration, scripts around jobs and runs.

use std::time::Duration;

use proto::table::Table;
use tests::{
    pool::{PATIENCE, Pool},
    yard::github::{Conclusion, Job, JobId, JobView, Status},
};

fn enqueue(pool: &Pool, run: u64, step: &str) -> JobId {
    pool.yard.github.enqueue(Job {
        run_id: run,
        name: "build".to_owned(),
        labels: vec![run.to_string()],
        steps: vec![step.to_owned()],
        ..Job::default()
    })
}

async fn finished(pool: &Pool, job: JobId) -> JobView {
    let done = pool.yard.github.wait_job(job, PATIENCE).await;
    done.expect("the job ends")
}

async fn pool_with(inputs: &[(&'static str, &str)]) -> Pool {
    let pool = Pool::new(Duration::ZERO).await;
    let inputs = inputs
        .iter()
        .map(|(name, text)| (*name, (*text).to_owned()));
    let step = pool.refresh_with(inputs).await;
    assert_eq!(step.code, 0, "{}", step.log);
    pool
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ephemeral_runner_registers_anew_for_each_job_with_a_token_that_is_renewed() {
    let ephemeral = [("ephemeral", "true")];
    let pool = pool_with(&ephemeral).await;
    let step = pool.provision(11, "1").await;
    assert_eq!(step.code, 0, "{}", step.log);
    let registered = || pool.yard.github.runners().iter().map(|r| r.id).max();
    let mut seen = Vec::new();
    for _ in 0..3 {
        let job = enqueue(&pool, 11, "echo done");
        let done = finished(&pool, job).await;
        assert_eq!(done.conclusion, Some(Conclusion::Success), "{}", done.log);
        let before = seen.last().copied().flatten();
        pool.until("the next registration is there", || registered() > before)
            .await;
        seen.push(registered());
    }

    // An hour later GitHub does not take the token any more. Refresh has handed a new one by then;
    // here it comes late, and the runner tries again with it.
    pool.yard.github.expire_runner_tokens();
    finished(&pool, enqueue(&pool, 11, "echo the last one")).await;
    let waiting = enqueue(&pool, 11, "echo with a new token");
    let failed = async || {
        let running = pool.table.instances_in(proto::state::State::Running, None);
        let running = running.await.expect("listed");
        running.iter().any(|record| record.unhealthy().is_some())
    };
    let deadline = std::time::Instant::now() + PATIENCE;
    while !failed().await {
        assert!(std::time::Instant::now() < deadline, "it has a token still");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(
        pool.yard.github.job(waiting).expect("there").status,
        Status::Queued
    );
    let config = pool.table.config().await.expect("read");
    let mut tokens = config.github_tokens.expect("tokens");
    tokens.expires_at = tokens.obtained_at;
    pool.table
        .put_config(&proto::config::ConfigItem::GithubTokens(tokens))
        .await
        .expect("written");
    let step = pool
        .refresh_with(ephemeral.map(|(name, text)| (name, text.to_owned())))
        .await;
    assert!(step.log.contains("for 1 running machines"), "{}", step.log);
    let done = finished(&pool, waiting).await;
    assert_eq!(done.conclusion, Some(Conclusion::Success), "{}", done.log);

    let step = pool.release(11).await;
    assert!(step.log.contains("back in the pool"), "{}", step.log);
    assert_eq!(pool.yard.github.runners(), []);
    let step = pool.provision(12, "1").await;
    assert_eq!(
        (step.code, step.number("reused")),
        (0, Some(1)),
        "{}",
        step.log
    );
    pool.yard.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operators_scripts_run_around_jobs_and_runs() {
    let pool = pool_with(&[
        (
            "pre-job-script",
            "echo before every job of $GITHUB_RUN_ID\n",
        ),
        (
            "post-release-script",
            "echo a disk was lost; test ! -e $PADDOCK_STATE_DIR/../disk-lost\n",
        ),
    ])
    .await;
    let step = pool.provision(11, "1").await;
    let id = step.machines().remove(0);
    let machine = pool.yard.machines.get(&id).expect("it is there");
    // A job that changes the script does not change it for the next run.
    let hook = "echo harm >\"$ACTIONS_RUNNER_HOOK_JOB_STARTED\"";
    let done = finished(&pool, enqueue(&pool, 11, hook)).await;
    assert!(done.log.contains("before every job of 11"), "{}", done.log);
    let step = pool.release(11).await;
    assert!(step.log.contains("back in the pool"), "{}", step.log);

    let step = pool.provision(12, "1").await;
    assert_eq!(step.machines(), [id.as_str()], "{}", step.log);
    let done = finished(&pool, enqueue(&pool, 12, "true")).await;
    assert_eq!(done.conclusion, Some(Conclusion::Success), "{}", done.log);
    assert!(done.log.contains("before every job of 12"), "{}", done.log);

    std::fs::write(machine.folder.join("disk-lost"), "").expect("written");
    let step = pool.release(12).await;
    assert!(
        step.log
            .contains("the post-release script ended with exit code 1"),
        "{}",
        step.log
    );
    assert!(step.log.contains("a disk was lost"), "{}", step.log);
    pool.until_alive(0).await;
    pool.yard.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_that_is_no_rule_is_named() {
    let pool = Pool::new(Duration::ZERO).await;
    for name in ["ephemeral", "runner-sudo"] {
        let step = pool.refresh_with([(name, "perhaps".to_owned())]).await;
        assert_eq!(step.code, 2, "{}", step.log);
        assert!(
            step.log.contains(name) && step.log.contains("perhaps"),
            "{}",
            step.log
        );
    }
    pool.yard.stop().await;
}
