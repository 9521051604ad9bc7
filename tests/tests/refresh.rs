//! Refresh as a schedule runs it: the real controller against the yard.

use std::time::Duration;

use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType,
};
use aws_sdk_ec2::types::{
    HttpTokensState, InstanceMetadataTagsState, LaunchTemplateInstanceMetadataOptions,
    LaunchTemplateVersion, ShutdownBehavior,
};
use proto::{state::State, table::Table, time::Time};
use tests::{
    clients::{self, lose_the_index},
    pool::Pool,
    story::refresh_inputs,
    workflow::Step,
    yard::aws::{Fault, FaultKind, SecretKind},
};

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

/// A refresh with the story's inputs, some of them replaced.
async fn refresh_with(pool: &Pool, change: &[(&str, &str)]) -> Step {
    let inputs = refresh_inputs(&pool.yard, "subnet-0a subnet-0b");
    let mut inputs: Vec<(&str, &str)> = inputs.iter().map(|(n, v)| (*n, &**v)).collect();
    inputs.retain(|(name, _)| change.iter().all(|(changed, _)| changed != name));
    inputs.extend(change);
    let step = pool.run(1).step("refresh", &inputs).await;
    step.expect("refresh runs")
}

async fn versions(pool: &Pool) -> Vec<LaunchTemplateVersion> {
    let answer = clients::ec2(&pool.yard.aws.url())
        .describe_launch_template_versions()
        .launch_template_name("paddock-acme-widgets")
        .send()
        .await;
    answer
        .expect("EC2 answers")
        .launch_template_versions
        .unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_launch_template_is_hardened_and_follows_its_inputs() {
    let pool = Pool::new(Duration::ZERO).await;
    let step = refresh_with(
        &pool,
        &[
            ("root-volume-size-gib", "40"),
            ("root-volume-type", "gp2"),
            ("key-name", "ops"),
        ],
    )
    .await;
    assert_eq!(step.code, 0, "{}", step.log);
    let changes =
        "root-volume-size-gib unset → 40, root-volume-type gp3 → gp2, key-name unset → ops";
    assert!(
        step.log
            .lines()
            .any(|line| line.starts_with("~ launch template") && line.ends_with(changes)),
        "{}",
        step.log
    );

    let versions = versions(&pool).await;
    assert_eq!(versions.len(), 2);
    let latest = versions
        .iter()
        .find(|it| it.default_version() == Some(true));
    let data = latest.unwrap().launch_template_data().unwrap();
    assert_eq!(data.key_name(), Some("ops"));
    let shutdown = data.instance_initiated_shutdown_behavior();
    assert_eq!(shutdown, Some(&ShutdownBehavior::Terminate));
    assert_eq!(data.monitoring().unwrap().enabled(), Some(false));
    let metadata: &LaunchTemplateInstanceMetadataOptions = data.metadata_options().unwrap();
    assert_eq!(
        metadata.http_tokens().unwrap().as_str(),
        HttpTokensState::Required.as_str()
    );
    assert_eq!(metadata.http_put_response_hop_limit(), Some(1));
    assert_eq!(
        metadata.instance_metadata_tags().unwrap().as_str(),
        InstanceMetadataTagsState::Enabled.as_str()
    );
    let disk = &data.block_device_mappings()[0];
    assert_eq!(disk.device_name(), Some("/dev/xvda"));
    let disk = disk.ebs().unwrap();
    assert_eq!(disk.encrypted(), Some(true));
    assert_eq!(disk.delete_on_termination(), Some(true));
    assert_eq!(disk.volume_size(), Some(40));
    assert_eq!(disk.volume_type().unwrap().as_str(), "gp2");

    // Too small for the image: said with words, and nothing is touched.
    let step = refresh_with(&pool, &[("root-volume-size-gib", "4")]).await;
    assert_eq!(step.code, 2, "{}", step.log);
    assert!(step.log.contains("give 8 or more"), "{}", step.log);
    pool.yard.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_refreshes_at_once_one_acts_and_the_other_leaves() {
    let pool = Pool::new(Duration::ZERO).await;
    pool.yard.aws.set_latency(Duration::from_millis(50));
    let other = [("ami", "ami-0fedcba9876543210")];
    let (a, b) = tokio::join!(refresh_with(&pool, &other), refresh_with(&pool, &other));
    let logs = [a, b];
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

#[tokio::test(flavor = "multi_thread")]
async fn a_machines_time_is_over_when_aws_says_so() {
    const MINUTE: i64 = 60;
    let pool = Pool::new(Duration::ZERO).await;
    assert_eq!(pool.provision(11, "1").await.code, 0);
    // This computer's clock, and so the controller's, is as far ahead of AWS as AWS lets it be.
    pool.yard.aws.set_ahead(-4 * MINUTE);
    let machine = pool.yard.aws.instances()[0].id.clone();
    // Not longer ago: after a minute's grace the agent would end its machine itself.
    let past = Time::from(tests::yard::clock::now()) - Duration::from_secs(1);
    let url = pool.yard.aws.url();
    clients::set_time(&url, &machine, "threshold", &past.to_string()).await;
    let step = pool.refresh().await;
    assert_eq!(step.code, 0, "{}", step.log);
    assert_eq!(pool.records(State::Running).await, 1, "{}", step.log);

    pool.yard.aws.set_ahead(0);
    let step = pool.refresh().await;
    assert!(step.log.contains("(running past"), "{}", step.log);
    assert_eq!(pool.records(State::Running).await, 0, "{}", step.log);
    pool.yard.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provision_takes_the_floors_machines_and_the_ceiling_ends_them() {
    let pool = Pool::new(Duration::ZERO).await;
    let floor = [(
        "min-idle",
        "large on-demand 2\nlarge spot 1 mon-sun 00-24 UTC",
    )];
    let step = refresh_with(&pool, &floor).await;
    assert_eq!(step.code, 0, "{}", step.log);
    assert!(
        step.log
            .contains("+ 2 idle machines of class large, on-demand"),
        "{}",
        step.log
    );
    let idle = pool.table.instances_in(State::Idle, None).await.unwrap();
    assert_eq!(idle.len(), 3, "{}", step.log);
    for record in idle {
        let id = record.id();
        for said in [format!("  {id} launched ("), format!("  {id} is idle")] {
            assert!(step.log.contains(&said), "{said}: {}", step.log);
        }
    }
    let again = refresh_with(&pool, &floor).await;
    assert!(again.log.contains("nothing to do"), "{}", again.log);

    let step = pool.provision(11, "2").await;
    assert_eq!(step.number("reused"), Some(2), "{}", step.log);
    assert_eq!(pool.release(11).await.code, 0);
    // They stay for longer than others may, so that refresh can keep them.
    let idle = pool.table.instances_in(State::Idle, None).await.unwrap();
    let left = idle.iter().map(|it| it.threshold.unwrap().since(it.since));
    assert!(left.min() >= Some(Duration::from_hours(1)));

    let step = refresh_with(&pool, &[("max-idle", "large on-demand 0\nlarge spot 0")]).await;
    assert_eq!(step.code, 0, "{}", step.log);
    assert!(step.log.contains("max-idle is 0"), "{}", step.log);
    pool.until_alive(0).await;
    pool.yard.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retired_class_goes_with_its_queue_and_machines_but_not_under_a_run() {
    let pool = Pool::new(Duration::ZERO).await;
    assert_eq!(pool.provision(11, "2").await.code, 0);
    assert_eq!(pool.release(11).await.code, 0);
    assert_eq!(pool.provision(12, "1").await.number("reused"), Some(1));
    let classes = r#"{"xlarge": {"cpu": 4, "mmem": 8192}}"#;
    let only_xlarge = [("resource-class-config", classes)];

    let step = refresh_with(&pool, &only_xlarge).await;
    assert_eq!(step.code, 0, "{}", step.log);
    // The idle one goes, the running one stays.
    pool.until_alive(1).await;
    let queues = clients::sqs(&pool.yard.aws.url())
        .list_queues()
        .send()
        .await;
    let queues = queues.expect("SQS answers").queue_urls.unwrap_or_default();
    assert!(
        matches!(&queues[..], [queue] if queue.ends_with("-xlarge")),
        "{queues:?}"
    );
    // Who asks for the class hears which there are.
    let refused = pool.provision(13, "1").await;
    assert_eq!(refused.code, 2, "{}", refused.log);
    assert!(refused.log.contains("xlarge"), "{}", refused.log);

    let release = pool.release(12).await;
    assert_eq!(release.code, 0, "{}", release.log);
    assert!(release.log.contains("is retired"), "{}", release.log);
    pool.until_alive(0).await;
    // Closes the records of those that went.
    refresh_with(&pool, &only_xlarge).await;
    let last = refresh_with(&pool, &only_xlarge).await;
    assert!(last.log.contains("nothing to do"), "{}", last.log);
    pool.yard.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_say_what_the_pool_does() {
    let pool = Pool::new(Duration::ZERO).await;
    assert_eq!(pool.provision(11, "1").await.code, 0);
    assert_eq!(pool.release(11).await.code, 0);
    assert_eq!(pool.yard.aws.metrics(), [], "off by default");

    let on = [("metrics", "true")];
    assert_eq!(refresh_with(&pool, &on).await.code, 0);
    assert_eq!(pool.provision(12, "2").await.code, 0);
    let step = refresh_with(&pool, &on).await;
    assert_eq!(step.code, 0, "{}", step.log);
    assert_eq!(pool.calls("PutMetricData"), 3);
    let metrics = pool.yard.aws.metrics();
    let values = |name: &str| -> Vec<f64> {
        let name = format!("Paddock/{name}");
        let named = metrics.iter().filter(|value| value.metric == name);
        named.map(|value| value.value).collect()
    };
    assert_eq!(values("Idle"), [1.0, 0.0]);
    assert_eq!(values("Running"), [0.0, 2.0]);
    assert_eq!(
        (values("PoolHits"), values("PoolMisses")),
        (vec![1.0], vec![1.0])
    );
    for timed in ["OldestIdle", "SecondsToReadyReused", "SecondsToReadyNew"] {
        let values = values(timed);
        assert!(
            values.len() == 1 && values[0] > 0.0 && values[0] < 60.0,
            "{timed}: {values:?}"
        );
    }
    for value in &metrics {
        let dimensions: Vec<&str> = value.dimensions.values().map(String::as_str).collect();
        assert_eq!(
            dimensions,
            ["large", "acme-widgets", "on-demand"],
            "{value:?}"
        );
    }

    // Of records that could not be read nothing is published, above all no zero.
    let denied = FaultKind::Error {
        status: 400,
        code: "AccessDeniedException".to_owned(),
    };
    let unseen = Fault::new("dynamodb", "Scan", denied);
    pool.yard.aws.inject(unseen.times(1));
    let step = refresh_with(&pool, &on).await;
    assert_eq!(step.code, 3, "{}", step.log);
    assert!(
        step.log.contains("look at the live records"),
        "{}",
        step.log
    );
    assert_eq!(pool.calls("PutMetricData"), 3);

    // What cannot be published fails alone; a provision does not fail for it.
    for _ in 0..2 {
        pool.yard.aws.inject(Fault {
            service: "monitoring".to_owned(),
            action: "PutMetricData".to_owned(),
            caller: "*".to_owned(),
            spared: 0,
            kind: FaultKind::Error {
                status: 403,
                code: "AccessDenied".to_owned(),
            },
            count: 1,
        });
        if pool.calls("PutMetricData") == 3 {
            let step = refresh_with(&pool, &on).await;
            assert_eq!(step.code, 3, "{}", step.log);
            assert!(step.log.contains("publish metrics"), "{}", step.log);
        } else {
            let step = pool.provision(13, "1").await;
            assert_eq!(step.code, 0, "{}", step.log);
            assert!(step.log.contains("the metrics are lost"), "{}", step.log);
        }
    }
    pool.yard.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parameter_may_name_the_image() {
    let pool = Pool::new(Duration::ZERO).await;
    let name = "/paddock-acme-widgets/image";
    let keep = |id| pool.yard.aws.keep_secret(SecretKind::Parameter, name, id);
    keep("ami-0aaaaaaaaaaaaaaaa");
    let by_name = [("ami", "ssm:/paddock-acme-widgets/image")];
    let image = async || {
        let versions = versions(&pool).await;
        let mut default = versions
            .iter()
            .filter(|it| it.default_version() == Some(true));
        let data = default.next().unwrap().launch_template_data().unwrap();
        data.image_id().unwrap().to_owned()
    };
    let step = refresh_with(&pool, &by_name).await;
    assert_eq!(step.code, 0, "{}", step.log);
    assert_eq!(image().await, "ami-0aaaaaaaaaaaaaaaa");
    let step = refresh_with(&pool, &by_name).await;
    assert!(step.log.contains("nothing to do"), "{}", step.log);
    keep("ami-0bbbbbbbbbbbbbbbb");
    let step = refresh_with(&pool, &[("ami", "resolve:ssm:/paddock-acme-widgets/image")]).await;
    assert_eq!(step.code, 0, "{}", step.log);
    assert_eq!(image().await, "ami-0bbbbbbbbbbbbbbbb");

    // While it cannot be read, the machines keep what they have.
    let step = refresh_with(&pool, &[("ami", "ssm:/paddock-acme-widgets/other")]).await;
    assert_eq!(step.code, 0, "{}", step.log);
    assert!(step.log.contains("keep the image ami-0bbb"), "{}", step.log);
    keep("web server, new");
    let step = refresh_with(&pool, &by_name).await;
    assert_eq!(step.code, 2, "{}", step.log);
    assert!(step.log.contains("holds no image id"), "{}", step.log);
    pool.yard.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_index_is_made_anew_and_a_foreign_table_is_left_alone() {
    let pool = Pool::new(Duration::ZERO).await;
    assert_eq!(pool.provision(11, "1").await.code, 0);
    let dynamo = clients::dynamodb(&pool.yard.aws.url());
    lose_the_index(&dynamo, "paddock-acme-widgets").await;
    let step = pool.refresh().await;
    assert_eq!(step.code, 3, "{}", step.log);
    assert!(
        step.log.contains("+ table: the index by-state"),
        "{}",
        step.log
    );
    let step = pool.refresh().await;
    assert_eq!(step.code, 0, "{}", step.log);
    assert!(step.log.contains("nothing to do"), "{}", step.log);
    assert_eq!(pool.records(State::Running).await, 1);

    let key = KeySchemaElement::builder()
        .attribute_name("id")
        .key_type(KeyType::Hash);
    let id = AttributeDefinition::builder().attribute_name("id");
    dynamo
        .create_table()
        .table_name("paddock-payroll")
        .key_schema(key.build().unwrap())
        .attribute_definitions(id.attribute_type(ScalarAttributeType::S).build().unwrap())
        .billing_mode(BillingMode::PayPerRequest)
        .send()
        .await
        .expect("made");
    let before = pool.calls("*");
    let step = refresh_with(&pool, &[("pool-name", "payroll")]).await;
    assert_eq!(step.code, 2, "{}", step.log);
    assert!(step.log.contains("none of Paddock's"), "{}", step.log);
    assert!(pool.calls("*") - before <= 3, "nothing else is looked at");
    pool.yard.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_floor_without_capacity_fails_once_and_then_waits() {
    let pool = Pool::new(Duration::ZERO).await;
    pool.yard.aws.set_capacity("*", None, Some(0));
    let floor = [("min-idle", "large on-demand 1")];
    let step = refresh_with(&pool, &floor).await;
    assert_eq!(step.code, 3, "{}", step.log);
    assert!(
        step.log.contains("InsufficientInstanceCapacity"),
        "{}",
        step.log
    );
    let launches = pool.calls("CreateFleet");
    let step = refresh_with(&pool, &floor).await;
    assert_eq!(step.code, 0, "{}", step.log);
    assert!(step.log.contains("the next try is due at"), "{}", step.log);
    assert_eq!(pool.calls("CreateFleet"), launches);
    pool.yard.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_floor_waits_through_a_table_that_is_out_of_reach_for_a_moment() {
    let pool = Pool::new(Duration::ZERO).await;
    // More often than the SDK asks by itself.
    let cut = Fault::new("dynamodb", "BatchGetItem", FaultKind::CutBeforeApplying);
    pool.yard.aws.inject(cut.times(5));
    let step = refresh_with(&pool, &[("min-idle", "large on-demand 1")]).await;
    assert_eq!(step.code, 0, "{}", step.log);
    let idle = pool.table.instances_in(State::Idle, None).await;
    assert_eq!(idle.expect("listed").len(), 1, "{}", step.log);
    pool.yard.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_floor_waits_for_an_ec2_that_throttles_or_does_not_answer() {
    let pool = Pool::new(Duration::ZERO).await;
    let throttled = FaultKind::Error {
        status: 503,
        code: "RequestLimitExceeded".to_owned(),
    };
    for fault in [throttled, FaultKind::CutAfterApplying] {
        let fault = Fault::new("ec2", "CreateFleet", fault);
        pool.yard.aws.inject(fault.times(1));
    }
    let floor = [("min-idle", "large on-demand 2")];
    let step = refresh_with(&pool, &floor).await;
    assert_eq!(step.code, 0, "{}", step.log);
    assert_eq!(pool.calls("CreateFleet"), 3);
    let idle = pool.table.instances_in(State::Idle, None).await;
    assert_eq!(idle.expect("listed").len(), 2, "{}", step.log);
    pool.until_alive(2).await;
    pool.yard.stop().await;
}
