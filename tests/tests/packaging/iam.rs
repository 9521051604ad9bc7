//! The policies grant what is called and nothing else.
//!
//! That nothing is missing is tested by every test of the yard: its AWS judges each call by the
//! policies (see `tests::yard::aws::iam`). That nothing is granted in vain is tested here: a pool
//! is led through all that its commands ever do. All of that is judged by AWS's and GitHub's own
//! descriptions, too (see `tests::truth`).

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use aws_sdk_dynamodb::{
    config::Credentials,
    error::ProvideErrorMetadata,
    types::{AttributeValue, AttributeValueUpdate},
};
use controller::{aws::pool::SqsPool, ports::Pool as _};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use proto::{
    change::{Assign, Change, Clause},
    instance::InstanceRecord,
    message::PoolMessage,
    provision::Phase,
    state::State,
    table::{Outcome, Table, dynamo::DynamoTable},
};
use tests::{
    binaries::Binaries,
    clients,
    pool::{PATIENCE, Pool},
    story::refresh_inputs,
    truth::Judge,
    workflow::{REPOSITORY, Step, Workflow},
    yard::{
        Recorder, Settings, Yard,
        aws::{SecretKind, iam},
        github::Status,
        imds::access_key_of,
    },
};

/// A pool's life, step by step.
struct Life {
    yard: Yard,
    binaries: Binaries,
}

impl Life {
    async fn refresh(&self, more: &[(&'static str, &str)]) -> Step {
        let mut inputs: BTreeMap<&str, String> = refresh_inputs(&self.yard, "subnet-0a subnet-0b")
            .into_iter()
            .collect();
        inputs.extend(
            more.iter()
                .map(|(name, value)| (*name, (*value).to_owned())),
        );
        let inputs: Vec<(&str, &str)> = inputs
            .iter()
            .map(|(name, value)| (*name, &**value))
            .collect();
        self.step(1, "refresh", &inputs).await
    }

    async fn step(&self, run: u64, mode: &str, inputs: &[(&str, &str)]) -> Step {
        let workflow = Workflow::new(&self.yard, &self.binaries, run);
        workflow.step(mode, inputs).await.expect("the step runs")
    }

    /// The controller dies before it is done; GitHub runs the step again a while later.
    async fn killed_and_run_again(&self, run: u64) {
        let mut workflow = Workflow::new(&self.yard, &self.binaries, run);
        let step = workflow.start("provision", &[]).expect("it starts");
        let table = pool_table(&self.yard);
        let id = run.to_string().parse().expect("a run");
        let deadline = Instant::now() + PATIENCE;
        let record = loop {
            let records = table.provisions_of(&id).await.expect("read");
            match records.into_iter().next() {
                Some(record) if record.phase == Phase::Open => break record,
                _ => assert!(Instant::now() < deadline, "it never begins"),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        let pid = step.pid().and_then(|pid| i32::try_from(pid).ok());
        kill(Pid::from_raw(pid.expect("it runs")), Signal::SIGKILL).expect("killed");
        step.finish().await.expect("it ends");
        let long_ago = record.next(record.beat - Duration::from_mins(2));
        table.put_provision(&long_ago).await.expect("written");
        workflow.attempt = 2;
        done(&workflow.step("provision", &[]).await.expect("it runs"));
        done(&workflow.step("release", &[]).await.expect("it runs"));
    }

    /// The queue forgets its idle machines, then has too many messages of them.
    async fn the_queue_lies(&self, inputs: &[(&'static str, &str)]) {
        let table = pool_table(&self.yard);
        let idle = table.instances_in(State::Idle, None).await.expect("listed");
        let record = idle.first().expect("an idle machine");
        let alter = async |set| {
            let when = vec![Clause::Exists];
            let change = Change { when, set };
            let changed = table.change_instance(&record.arn, &change).await;
            let changed = changed.expect("changed");
            assert!(matches!(changed, Outcome::Applied(_)), "{changed:?}");
        };
        let long_ago = record.since - Duration::from_mins(2);
        let soon = record.since + Duration::from_mins(2);
        alter(vec![Assign::Since(long_ago), Assign::Threshold(Some(soon))]).await;
        let config = table.config().await.expect("read");
        let class = config.class(&record.resource_class).expect("a class");
        let sqs = clients::sqs(&self.yard.aws.url());
        let url = &class.queue_url;
        // Also what the provision that was killed had leased.
        let purged = sqs.purge_queue().queue_url(url).send().await;
        purged.expect("purged");
        let queue = SqsPool::new(sqs);
        let step = self.refresh(inputs).await;
        done(&step);
        assert!(step.log.contains("for idle machines"), "{}", step.log);

        let message = PoolMessage::of(record, record.since);
        let doubles = vec![message; 20];
        queue.send(url, &doubles).await.expect("sent");
        let step = self.refresh(inputs).await;
        done(&step);
        assert!(step.log.contains("stale messages"), "{}", step.log);
        alter(vec![Assign::Threshold(Some(record.since))]).await;
    }

    /// Refreshes until every machine's time is over.
    async fn until_none_is_left(&self, inputs: &[(&'static str, &str)]) {
        let deadline = Instant::now() + PATIENCE;
        let alive = || {
            let instances = self.yard.aws.instances();
            instances.iter().filter(|view| view.alive()).count()
        };
        while alive() != 0 {
            let step = self.refresh(inputs).await;
            done(&step);
            assert!(
                Instant::now() < deadline,
                "{} machines are alive:\n{}",
                alive(),
                step.log
            );
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }
}

fn pool_table(yard: &Yard) -> DynamoTable {
    DynamoTable::new(&clients::dynamodb(&yard.aws.url()), "paddock-acme-widgets")
}

#[track_caller]
fn done(step: &Step) {
    assert_eq!(step.code, 0, "{}", step.log);
}

/// Leads a pool through everything that makes a command call AWS in another way.
async fn live(recorder: Recorder) -> Life {
    let binaries = Binaries::build().expect("the programs build");
    let mut settings = Settings::new(&binaries.agent, &binaries.runner);
    settings.recorder = recorder;
    let yard = Yard::start(settings).await.expect("the yard starts");
    let life = Life { yard, binaries };

    // One of its queues is there already, made by somebody else.
    clients::sqs(&life.yard.aws.url())
        .create_queue()
        .queue_name(format!("paddock-{}-large", REPOSITORY.replace('/', "-")))
        .send()
        .await
        .expect("created");
    done(&life.refresh(&[]).await);
    // The token is kept at AWS.
    for (kind, name) in [
        (SecretKind::Secret, "paddock-acme-widgets-token"),
        (SecretKind::Parameter, "/paddock-acme-widgets/token"),
    ] {
        let token = life.yard.github.token();
        let arn = life.yard.aws.keep_secret(kind, name, &token);
        let arn = arn.expect("the yard keeps it");
        done(&life.refresh(&[("github-token", &arn)]).await);
    }
    // New versions of the template, until old ones go; a class less.
    for number in 1..=12 {
        let ami = format!("ami-{number:017}");
        done(&life.refresh(&[("ami", &ami)]).await);
    }
    let classes = (
        "resource-class-config",
        r#"{"large": {"cpu": 2, "mmem": 4096}}"#,
    );
    done(&life.refresh(&[classes]).await);

    // Its index is lost, which is seen only after it was looked for.
    let dynamo = clients::dynamodb(&life.yard.aws.url());
    clients::lose_the_index(&dynamo, "paddock-acme-widgets").await;
    assert_eq!(life.refresh(&[classes]).await.code, 3);
    done(&life.refresh(&[classes]).await);

    done(&life.refresh(&[classes, ("metrics", "true")]).await);

    // New machines, on demand and spot; some become warm ones.
    let (one, two, three) = (
        ("instance-count", "1"),
        ("instance-count", "2"),
        ("instance-count", "3"),
    );
    let spot = ("usage-class", "spot");
    let held = life.step(2, "provision", &[one]).await;
    done(&held);
    done(&life.step(3, "provision", &[one]).await);
    done(&life.step(4, "provision", &[one, spot]).await);
    done(&life.step(3, "release", &[]).await);
    done(&life.step(4, "release", &[]).await);
    // One new one to be had, and a warm one, which is too few; no new ones, and a warm spot
    // machine is too few; it is enough, but behind one of another kind in the queue.
    life.yard.aws.set_capacity("*", None, Some(1));
    assert_eq!(life.step(5, "provision", &[three]).await.code, 1);
    life.yard.aws.set_capacity("*", None, Some(0));
    assert_eq!(life.step(6, "provision", &[two, spot]).await.code, 1);
    done(&life.step(7, "provision", &[one, spot]).await);
    life.yard.aws.set_capacity("*", None, None);

    done(&life.step(1, "agent-status", &[]).await);

    // A provision whose controller is killed, and its run's next attempt.
    life.killed_and_run_again(8).await;

    life.the_queue_lies(&[classes, ("idle-time-sec", "600")])
        .await;
    // A run that is over and did not release its machine.
    let left = life.step(9, "provision", &[one]).await;
    done(&left);
    for machine in left.machines() {
        let url = life.yard.aws.url();
        clients::set_time(&url, &machine, "since", "2026-01-01T00:00:00.000Z").await;
    }
    life.yard.github.set_run(9, Status::Completed, None);
    let step = life.refresh(&[classes, ("metrics", "true")]).await;
    done(&step);
    assert!(step.log.contains("machines of run 9"), "{}", step.log);

    // Machines of the floor.
    let floor = ("min-idle", "large on-demand 2\nlarge spot 1");
    done(&life.refresh(&[classes, floor]).await);
    let none = ("max-idle", "large on-demand 0\nlarge spot 0");
    done(&life.refresh(&[classes, none]).await);

    // A machine that no longer answers, and ones that idle for longer than they may.
    let [first] = &*held.machines() else {
        panic!("one machine: {}", held.log)
    };
    life.yard.machines.kill_agent(first, Signal::SIGSTOP);
    done(&life.refresh(&[classes, ("idle-time-sec", "1")]).await);
    done(
        &life
            .step(2, "release", &[("release-timeout-sec", "3")])
            .await,
    );
    done(
        &life
            .step(7, "release", &[("release-timeout-sec", "3")])
            .await,
    );
    life.until_none_is_left(&[classes]).await;

    // An operator looks at a pool with a machine in it, and takes it down.
    done(&life.step(10, "provision", &[one]).await);
    done(&life.step(10, "release", &[]).await);
    done(&life.step(1, "status", &[]).await);
    let token = life.yard.github.token();
    done(&life.step(1, "doctor", &[("github-token", &token)]).await);
    let mut end = Workflow::new(&life.yard, &life.binaries, 1);
    end.flags = vec!["--yes".to_owned()];
    done(&end.step("destroy", &[]).await.expect("it runs"));
    life
}

#[tokio::test(flavor = "multi_thread")]
async fn no_policy_grants_what_is_never_used_and_all_that_is_said_fits_the_models() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("exchanges.jsonl");
    let life = live(Recorder::to(&file).expect("a file")).await;
    let mut used: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for call in life.yard.aws.calls() {
        if let Some(role) = call.role {
            used.entry(role).or_default().extend(call.permissions);
        }
    }
    let mut policies = iam::policies().expect("the policies");
    // What Systems Manager's own agent calls, which no yard plays; it is from AWS's documents.
    policies.remove("machine-ssm").expect("it is there");
    for (name, policy) in &policies {
        let used = used.get(name).cloned().unwrap_or_default();
        let vain: Vec<_> = policy.actions().difference(&used).cloned().collect();
        assert!(
            vain.is_empty(),
            "packaging/iam/{name}.json grants what nothing needs: {vain:?}"
        );
    }
    life.yard.stop().await;
    let judged = tokio::task::spawn_blocking(move || Judge::install()?.judge(&[file]));
    let verdict = judged.await.expect("not cancelled").expect("it judges");
    assert!(verdict.wrong.is_empty(), "{}", verdict.complaints());
}

/// A client with the credentials that a machine's metadata service gives to whoever asks there.
fn with_role_of(machine: &str, yard: &Yard) -> aws_sdk_dynamodb::Client {
    let key = access_key_of(machine);
    let stolen = Credentials::new(key, "stolen", None, None, "tests");
    let client = clients::dynamodb(&yard.aws.url());
    let config = client.config().to_builder().credentials_provider(stolen);
    aws_sdk_dynamodb::Client::from_conf(config.build())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stolen_machine_role_reaches_one_row_and_gives_itself_no_time() {
    let pool = Pool::new(Duration::ZERO).await;
    let step = pool.provision(1, "2").await;
    let [own, other] = &*step.machines() else {
        panic!("two machines: {}", step.log)
    };
    let thief = with_role_of(own, &pool.yard);
    let row = async |id: &str| {
        let arn = format!("arn:aws:ec2:us-east-1:123456789012:instance/{id}");
        let answer = thief
            .get_item()
            .table_name("paddock-acme-widgets")
            .key("pk", AttributeValue::S(arn))
            .key("sk", AttributeValue::S("INSTANCE".to_owned()))
            .send()
            .await;
        answer.map(|answer| answer.item.is_some())
    };
    assert!(row(own).await.expect("allowed"));
    let denied = |code: Option<&str>| assert_eq!(code, Some("AccessDeniedException"));
    denied(row(other).await.expect_err("denied").code());
    let all = thief.scan().table_name("paddock-acme-widgets").send().await;
    denied(all.expect_err("denied").code());

    // In its own row it writes what is a machine's to say, and nothing that decides how long it
    // stays or whose it is. What a condition names counts, too: it could be guessed.
    let before = record_of(&pool, own).await;
    let update = async |expression: &str, condition: &str| {
        let answer = thief
            .update_item()
            .table_name("paddock-acme-widgets")
            .key("pk", AttributeValue::S(before.arn.to_string()))
            .key("sk", AttributeValue::S("INSTANCE".to_owned()))
            .update_expression(expression)
            .condition_expression(condition)
            .expression_attribute_names("#it", "jobs")
            .expression_attribute_values(":it", AttributeValue::N("7".to_owned()))
            .send();
        answer.await.map(|_| ())
    };
    let there = "attribute_exists(pk)";
    update("SET #it = :it", there).await.expect("allowed");
    for attribute in [
        "threshold",
        "state",
        "label",
        "generation",
        "since",
        "createdAt",
        "expiresAt",
        "reason",
        "usageClass",
    ] {
        for expression in [
            format!("SET #it = :it, {attribute} = :it"),
            format!("SET #it = :it REMOVE {attribute}"),
        ] {
            let answer = update(&expression, there).await;
            denied(answer.expect_err("denied").code());
        }
        let condition = format!("{there} AND {attribute} <> :it");
        let answer = update("SET #it = :it", &condition).await;
        denied(answer.expect_err("denied").code());
    }
    let old = thief
        .update_item()
        .table_name("paddock-acme-widgets")
        .key("pk", AttributeValue::S(before.arn.to_string()))
        .key("sk", AttributeValue::S("INSTANCE".to_owned()))
        .attribute_updates(
            "threshold",
            AttributeValueUpdate::builder()
                .value(AttributeValue::S("2099-01-01T00:00:00.000Z".to_owned()))
                .build(),
        );
    denied(old.send().await.expect_err("denied").code());
    let after = record_of(&pool, own).await;
    assert_eq!(
        (after.threshold, after.state, after.generation),
        (before.threshold, before.state, before.generation)
    );
    pool.yard.stop().await;
}

async fn record_of(pool: &Pool, id: &str) -> InstanceRecord {
    let arn = format!("arn:aws:ec2:us-east-1:123456789012:instance/{id}");
    let arn = arn.try_into().expect("an ARN");
    let record = pool.table.instance(&arn).await.expect("read");
    record.expect("its record")
}
