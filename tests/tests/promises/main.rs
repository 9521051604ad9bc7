//! What provision and release promise, seen from outside: real processes against the yard.

mod cancelled;
mod giving_back;
mod selection;
mod told;
mod trouble;

use std::time::Duration;

use proto::{
    change::{Assign, Change, Clause},
    instance::UsageClass,
    provision::Phase,
    signal::Report,
    state::State,
    table::Table,
};
use tests::{
    pool::Pool,
    story::refresh_inputs,
    workflow::{REPOSITORY, Step},
    yard::{
        aws::{Fault, FaultKind},
        github::Job,
    },
};

/// GitHub kills a cancelled step soon after.
const CANCEL_LIMIT: Duration = Duration::from_secs(7);

fn refused(status: u16, code: &str) -> FaultKind {
    FaultKind::Error {
        status,
        code: code.to_owned(),
    }
}

/// Warms `count` machines by a run of their own.
async fn warm(pool: &Pool, run: u64, count: &str) {
    let step = pool.provision(run, count).await;
    assert_eq!(step.code, 0, "{}", step.log);
    let step = pool.release(run).await;
    assert_eq!(step.code, 0, "{}", step.log);
}

fn errors(step: &Step) -> Vec<&str> {
    step.log
        .lines()
        .filter(|line| line.starts_with("::error"))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn spot_falls_back_to_on_demand_only_if_that_is_wanted() {
    let pool = Pool::new(Duration::ZERO).await;
    pool.yard.aws.set_capacity("spot/*", None, Some(0));
    let spot = [("usage-class", "spot"), ("instance-count", "2")];
    let step = pool.provision_with(101, &spot).await;
    assert_eq!(step.code, 1, "{}", step.log);
    assert_eq!(pool.calls("CreateFleet"), 1, "no repeat of a refusal");
    assert_eq!(errors(&step).len(), 1, "{}", step.log);
    assert!(
        errors(&step)[0].contains("`allowed-instance-types`"),
        "{}",
        step.log
    );

    let with_fallback = [spot[0], spot[1], ("fallback", "on-demand")];
    let step = pool.provision_with(102, &with_fallback).await;
    assert_eq!(step.code, 0, "{}", step.log);
    assert_eq!(pool.calls("CreateFleet"), 3);
    let running = pool.table.instances_in(State::Running, None).await;
    let usage: Vec<UsageClass> = running
        .expect("listed")
        .iter()
        .map(|record| record.usage_class)
        .collect();
    assert_eq!(usage, [UsageClass::OnDemand; 2]);
    assert!(
        step.summary.contains("| on-demand | new |"),
        "{}",
        step.summary
    );

    // Given back, they are on-demand machines: the fallback finds them before it launches.
    assert_eq!(pool.release(102).await.code, 0);
    let step = pool.provision_with(103, &with_fallback).await;
    assert_eq!(
        (step.code, step.number("reused")),
        (0, Some(2)),
        "{}",
        step.log
    );
    pool.yard.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn throttling_and_lost_answers_are_repeated_and_refusals_are_not() {
    let pool = Pool::new(Duration::ZERO).await;
    let throttled = Fault::new("ec2", "CreateFleet", refused(503, "RequestLimitExceeded"));
    pool.yard.aws.inject(throttled.times(2));
    let step = pool.provision(111, "1").await;
    assert_eq!(step.code, 0, "{}", step.log);
    assert_eq!(pool.calls("CreateFleet"), 3);
    assert!(step.log.contains("asking again in"), "{}", step.log);
    assert_eq!(pool.alive(), 1);

    // The answer is lost, the machine is not: the client token leads back to it.
    let lost = Fault::new("ec2", "CreateFleet", FaultKind::CutAfterApplying);
    pool.yard.aws.inject(lost);
    let step = pool.provision(112, "1").await;
    assert_eq!(step.code, 0, "{}", step.log);
    assert_eq!(pool.alive(), 2);

    assert_eq!(pool.release(111).await.code, 0);
    let before = pool.calls("CreateFleet");
    let denied = Fault::new("ec2", "CreateFleet", refused(403, "UnauthorizedOperation"));
    pool.yard.aws.inject(denied);
    let step = pool.provision(113, "2").await;
    assert_eq!(step.code, 1, "{}", step.log);
    assert_eq!(pool.calls("CreateFleet"), before + 1);
    assert!(errors(&step)[0].contains("iam:PassRole"), "{}", step.log);
    assert!(step.summary.contains("**What to do:**"), "{}", step.summary);
    // What it had claimed is back in the pool.
    let step = pool.provision(114, "1").await;
    assert_eq!(
        (step.code, step.number("reused")),
        (0, Some(1)),
        "{}",
        step.log
    );
    pool.yard.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_wait_keeps_the_journal_alive_and_says_what_it_waits_for() {
    let pool = Pool::new(Duration::from_secs(13)).await;
    let step = pool.run(121).start("provision", &[]).expect("it starts");
    pool.until_alive(1).await;
    tokio::time::sleep(Duration::from_secs(11)).await;
    let journal = &pool.journals(121).await[0];
    assert_eq!(journal.phase, Phase::Open);
    assert!(
        journal.beat.since(journal.started_at) >= Duration::from_secs(10),
        "its beat is as old as itself: refresh would take it over"
    );
    let step = step.finish().await.expect("it ends");
    assert_eq!(step.code, 0, "{}", step.log);
    assert!(step.log.contains("waiting for i-"), "{}", step.log);
    pool.yard.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_step_again_adopts_and_a_later_attempt_starts_clean() {
    let pool = Pool::new(Duration::ZERO).await;
    let first = pool.provision(131, "2").await;
    assert_eq!(first.code, 0, "{}", first.log);

    let again = pool.provision(131, "2").await;
    assert_eq!(again.code, 0, "{}", again.log);
    assert_eq!(again.machines(), first.machines());
    assert_eq!(again.number("created"), Some(2));
    let other = pool.provision(131, "1").await;
    assert_eq!(other.code, 1, "{}", other.log);
    assert!(errors(&other)[0].contains("`name`"), "{}", other.log);

    let mut run = pool.run(131);
    run.attempt = 2;
    let rerun = run
        .step("provision", &[("instance-count", "2")])
        .await
        .expect("it runs");
    assert_eq!(rerun.code, 0, "{}", rerun.log);
    assert_eq!(rerun.number("reused"), Some(2), "{}", rerun.log);
    assert_eq!(pool.alive(), 2);

    // A second provision of the same attempt has a name.
    let named = [("name", "gpu")];
    let step = pool.provision_with(131, &named).await;
    assert_eq!(step.code, 0, "{}", step.log);
    assert_eq!(step.outputs["label"], "131-gpu");
    let step = pool.run(131).step("release", &named).await.expect("runs");
    assert!(step.log.contains("1 back in the pool"), "{}", step.log);
    let step = pool.release(131).await;
    assert!(step.log.contains("2 back in the pool"), "{}", step.log);
    pool.yard.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn releases_bound_their_patience_and_do_not_mind_each_other() {
    let pool = Pool::new(Duration::ZERO).await;
    assert_eq!(pool.provision(141, "2").await.code, 0);
    let (a, b) = tokio::join!(pool.release(141), pool.release(141));
    assert_eq!((a.code, b.code), (0, 0), "{}\n{}", a.log, b.log);
    let step = pool.provision(142, "2").await;
    assert_eq!(
        (step.code, step.number("reused")),
        (0, Some(2)),
        "{}",
        step.log
    );

    pool.yard.github.add_run(142, REPOSITORY);
    pool.yard.github.enqueue(Job {
        run_id: 142,
        name: "endless".into(),
        labels: vec!["142".into()],
        steps: vec!["sleep 3600".into()],
        env: std::collections::BTreeMap::new(),
    });
    let runners = || pool.yard.github.runners();
    pool.until("the job runs", || {
        runners().iter().any(|runner| runner.busy)
    })
    .await;
    let step = pool
        .run(142)
        .step("release", &[("release-timeout-sec", "5")])
        .await
        .expect("it runs");
    assert_eq!(step.code, 0, "{}", step.log);
    assert!(
        step.log.contains("1 back in the pool, 1 terminated"),
        "{}",
        step.log
    );
    pool.until_alive(1).await;
    pool.yard.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_spot_machine_is_reported_and_not_pooled() {
    let pool = Pool::new(Duration::ZERO).await;
    let spot = [("usage-class", "spot"), ("instance-count", "2")];
    let step = pool.provision_with(151, &spot).await;
    assert_eq!(step.code, 0, "{}", step.log);
    let id = step.machines()[0].clone();
    // As its agent reports it.
    let running = pool.table.instances_in(State::Running, None).await;
    let running = running.expect("listed");
    let record = running.iter().find(|record| record.id().as_str() == id);
    let record = record.expect("its record");
    let interrupted = Change {
        when: vec![Clause::GenerationIs(record.generation)],
        set: vec![Assign::Report(Report {
            signal: proto::signal::Signal::Interrupted,
            generation: record.generation,
            at: record.since,
            detail: None,
        })],
    };
    let written = pool.table.change_instance(&record.arn, &interrupted).await;
    written.expect("written");
    let step = pool.release(151).await;
    assert_eq!(step.code, 0, "{}", step.log);
    assert!(step.log.contains("1 back in the pool"), "{}", step.log);
    let said = format!("{id} is terminated: EC2 takes it away");
    assert!(step.log.contains(&said), "{}", step.log);
    let step = pool.provision_with(152, &spot[..1]).await;
    assert_ne!(step.machines(), [id]);
    pool.yard.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_is_folded_masked_and_says_each_thing_once() {
    let pool = Pool::new(Duration::ZERO).await;
    warm(&pool, 160, "1").await;
    let step = pool.provision(161, "2").await;
    assert_eq!(step.code, 0, "{}", step.log);
    let lines: Vec<&str> = step.log.lines().collect();
    for line in &lines {
        let times = lines.iter().filter(|other| *other == line).count();
        assert_eq!(times, 1, "said twice: {line}\n{}", step.log);
    }
    let at = |start: &str| lines.iter().position(|line| line.starts_with(start));
    assert!(at("::group::") < at("::endgroup::"), "{}", step.log);
    assert!(at("::endgroup::") < at("label 161:"), "{}", step.log);
    let tokens = pool.table.config().await.expect("read").github_tokens;
    let token = tokens.expect("tokens").registration;
    assert_eq!(step.log.matches(token.expose()).count(), 1, "its mask only");
    assert!(
        step.log
            .contains(&format!("::add-mask::{}", token.expose()))
    );
    for id in step.machines() {
        assert!(
            step.summary.contains(&format!("| `{id}` |")),
            "{}",
            step.summary
        );
    }
    for word in ["reused", "new", "us-east-1", "on-demand", "█", "commit"] {
        assert!(step.summary.contains(word), "{word}: {}", step.summary);
    }
    pool.yard.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reused_machine_costs_few_calls_and_a_new_one_no_poll() {
    let pool = Pool::new(Duration::ZERO).await;
    let step = pool.provision(171, "10").await;
    assert_eq!(step.code, 0, "{}", step.log);
    assert_eq!(
        pool.calls("ReceiveMessage"),
        0,
        "nothing is idle: there is nothing to poll for"
    );
    let before = pool.calls("*");
    let step = pool.release(171).await;
    assert!(step.log.contains("10 back in the pool"), "{}", step.log);
    let released = pool.calls("*") - before;
    assert!(released <= 35, "{released} calls to release 10");

    let before = pool.calls("*");
    let step = pool.provision(172, "10").await;
    assert_eq!(
        (step.code, step.number("reused")),
        (0, Some(10)),
        "{}",
        step.log
    );
    let provisioned = pool.calls("*") - before;
    assert!(provisioned <= 40, "{provisioned} calls to reuse 10");
    println!("10 released: {released} calls, 10 reused: {provisioned} calls");

    // All warm ones are taken: one that is new does not wait for a poll to end.
    let polls = pool.calls("ReceiveMessage");
    let step = pool.provision(173, "1").await;
    assert_eq!(
        (step.code, step.number("created")),
        (0, Some(1)),
        "{}",
        step.log
    );
    assert_eq!(pool.calls("ReceiveMessage"), polls);
    println!("1 new: {:?}", step.took);
    pool.yard.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn json_is_one_object_on_stdout() {
    let pool = Pool::new(Duration::ZERO).await;
    let inputs = refresh_inputs(&pool.yard, "subnet-0a subnet-0b");
    let inputs = inputs
        .iter()
        .map(|(name, value)| (format!("INPUT_{}", name.to_uppercase()), value));
    let command = |mode: &'static str| {
        let mut command = tokio::process::Command::new(&pool.binaries.controller);
        command
            .args([mode, "--json"])
            .env_clear()
            .envs(pool.yard.controller_env(241, REPOSITORY));
        command
    };
    let output = command("provision").output().await.expect("it runs");
    let answer: serde_json::Value =
        serde_json::from_slice(&output.stdout).expect("one JSON object");
    assert_eq!(answer["label"], "241");
    assert_eq!(answer["created"], 1);
    let id = answer["machines"][0]["id"].as_str().expect("an id");
    let output = command("release").output().await.expect("it runs");
    let answer: serde_json::Value =
        serde_json::from_slice(&output.stdout).expect("one JSON object");
    assert_eq!(answer["pooled"][0], id);
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(log.contains("back in the pool"), "{log}");

    let mut refresh = command("refresh");
    refresh.envs(inputs);
    let output = refresh.output().await.expect("it runs");
    let answer: serde_json::Value =
        serde_json::from_slice(&output.stdout).expect("one JSON object");
    assert_eq!(answer["exitCode"], 0);
    assert_eq!(answer["planned"], serde_json::json!([]), "{answer}");
    let denied = Fault::new(
        "ec2",
        "DescribeInstances",
        refused(403, "UnauthorizedOperation"),
    );
    pool.yard.aws.inject(denied);
    let output = refresh.output().await.expect("it runs");
    let answer: serde_json::Value =
        serde_json::from_slice(&output.stdout).expect("one JSON object");
    assert_eq!(answer["exitCode"], 3, "{answer}");
    let error = answer["failed"][0]["error"].as_str().expect("words");
    assert!(error.contains("UnauthorizedOperation"), "{error}");
    pool.yard.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn racing_provisions_use_the_pool_up_before_they_launch() {
    let pool = Pool::new(Duration::ZERO).await;
    warm(&pool, 250, "8").await;
    let steps = futures::future::join_all((251..256).map(|run| pool.provision(run, "2"))).await;
    let (mut reused, mut created) = (0, 0);
    let mut machines = std::collections::BTreeSet::new();
    for step in &steps {
        assert_eq!(step.code, 0, "{}", step.log);
        reused += step.number("reused").expect("a number");
        created += step.number("created").expect("a number");
        machines.extend(step.machines());
    }
    assert_eq!((reused, created, machines.len()), (8, 2, 10));
    pool.yard.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_has_run_its_jobs_is_not_pooled_again() {
    let pool = Pool::new(Duration::ZERO).await;
    pool.hurry(|parameters| parameters.max_jobs = Some(1)).await;
    let step = pool.provision(901, "1").await;
    assert_eq!(step.code, 0, "{}", step.log);
    pool.yard.github.add_run(901, REPOSITORY);
    let job = pool.yard.github.enqueue(Job {
        run_id: 901,
        name: "the only one".into(),
        labels: vec!["901".into()],
        steps: vec!["true".into()],
        env: std::collections::BTreeMap::new(),
    });
    pool.yard
        .github
        .wait_job(job, Duration::from_secs(30))
        .await
        .expect("the job ends");
    let step = pool.release(901).await;
    assert_eq!(step.code, 0, "{}", step.log);
    assert!(step.log.contains("it has run 1 jobs"), "{}", step.log);
    pool.until_alive(0).await;
    pool.yard.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_of_age_is_not_pooled_again() {
    let pool = Pool::new(Duration::ZERO).await;
    pool.hurry(|parameters| parameters.max_age_sec = Some(0))
        .await;
    assert_eq!(pool.provision(902, "1").await.code, 0);
    let step = pool.release(902).await;
    assert!(
        step.log.contains("0 back in the pool, 1 terminated"),
        "{}",
        step.log
    );
    pool.yard.stop().await;
}
