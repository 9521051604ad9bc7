//! Doctor: what it finds, and what it says of each thing that is missing.

use std::time::Duration;

use aws_sdk_dynamodb::types::{
    AttributeValue, PointInTimeRecoverySpecification, TimeToLiveSpecification,
};
use aws_sdk_sqs::types::QueueAttributeName;
use proto::{
    config::{ConfigItem, GithubTokens},
    table::{Table as _, dynamo::TTL_ATTRIBUTE},
};
use tests::{
    clients,
    pool::Pool,
    yard::aws::{Fault, FaultKind},
};

/// The table, and all else that is called after the pool.
const NAME: &str = "paddock-acme-widgets";

/// Doctor's findings are these, by their beginnings, and no others; all that it said.
async fn finds(pool: &Pool, expected: &[&str]) -> String {
    let step = pool.operate("doctor", &[]).await;
    let wrong = |line: &&str| line.starts_with("failed ") || line.starts_with("warning ");
    let found: Vec<&str> = step.log.lines().filter(wrong).collect();
    let as_expected = found.len() == expected.len()
        && expected
            .iter()
            .all(|start| found.iter().any(|line| line.starts_with(start)));
    assert!(as_expected, "{expected:#?} expected in\n{}", step.log);
    let ill = expected.iter().any(|start| start.starts_with("failed"));
    assert_eq!(step.code, i32::from(ill), "{}", step.log);
    step.log
}

/// Refresh mends what is missing, as doctor says.
async fn refresh_mends(pool: &Pool, expected: &[&str]) {
    finds(pool, expected).await;
    let step = pool.refresh().await;
    assert_eq!(step.code, 0, "{expected:?}: {}", step.log);
    finds(pool, &[]).await;
}

async fn tokens(pool: &Pool, change: impl FnOnce(&mut GithubTokens)) {
    let config = pool.table.config().await.expect("read");
    let mut tokens = config.github_tokens.expect("tokens");
    change(&mut tokens);
    let item = ConfigItem::GithubTokens(tokens);
    pool.table.put_config(&item).await.expect("written");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_gap_of_the_configuration_is_named_and_refresh_mends_it() {
    let pool = Pool::new(Duration::ZERO).await;
    finds(&pool, &[]).await;
    let dynamodb = clients::dynamodb(&pool.yard.aws.url());
    let config = pool.table.config().await.expect("read");
    let classes = config.resource_classes.iter();
    let classes: Vec<String> = classes
        .map(|class| format!("resource-class#{}", class.name))
        .collect();
    for (items, expected) in [
        (vec!["schema".to_owned()], "configuration: there is none"),
        (
            vec!["parameters".to_owned()],
            "configuration: it has no parameters",
        ),
        (classes, "configuration: it has no resource class"),
        (
            vec!["launch-template".to_owned()],
            "configuration: it has no launch template",
        ),
        (
            vec!["github-token".to_owned()],
            "runner tokens: there are none",
        ),
    ] {
        for item in items {
            let delete = dynamodb.delete_item().table_name(NAME);
            let delete = delete
                .key("pk", AttributeValue::S("CONFIG".to_owned()))
                .key("sk", AttributeValue::S(item));
            delete.send().await.expect("deleted");
        }
        refresh_mends(&pool, &[&format!("failed   {expected}: run refresh")]).await;
    }
    tokens(&pool, |tokens| tokens.expires_at = tokens.obtained_at).await;
    refresh_mends(&pool, &["failed   runner tokens: they ended at "]).await;
    tokens(&pool, |tokens| {
        tokens.obtained_at = tokens.obtained_at - Duration::from_hours(2);
    })
    .await;
    refresh_mends(
        &pool,
        &["warning  refresh: nobody has refreshed the pool for an hour"],
    )
    .await;
    pool.yard.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_part_of_the_pool_that_is_missing_is_named_and_refresh_mends_it() {
    let pool = Pool::new(Duration::ZERO).await;
    let url = pool.yard.aws.url();
    let (dynamodb, sqs, ec2) = (
        clients::dynamodb(&url),
        clients::sqs(&url),
        clients::ec2(&url),
    );
    let off = TimeToLiveSpecification::builder()
        .attribute_name(TTL_ATTRIBUTE)
        .enabled(false);
    let change = dynamodb.update_time_to_live().table_name(NAME);
    let change = change.time_to_live_specification(off.build().expect("whole"));
    change.send().await.expect("turned off");
    let off = PointInTimeRecoverySpecification::builder().point_in_time_recovery_enabled(false);
    let change = dynamodb.update_continuous_backups().table_name(NAME);
    let change = change.point_in_time_recovery_specification(off.build().expect("whole"));
    change.send().await.expect("turned off");
    finds(
        &pool,
        &[
            "warning  table: its expiry is off: refresh turns it on when it renews",
            "warning  table: its recovery is off: refresh turns it on when it renews",
        ],
    )
    .await;
    tokens(&pool, |tokens| tokens.expires_at = tokens.obtained_at).await;
    assert_eq!(pool.refresh().await.code, 0);
    finds(&pool, &[]).await;
    clients::lose_the_index(&dynamodb, NAME).await;
    finds(&pool, &["failed   table: its index is gone: run refresh"]).await;
    // This one makes it anew, and could not list by it.
    assert_eq!(pool.refresh().await.code, 3);
    refresh_mends(&pool, &[]).await;

    let config = pool.table.config().await.expect("read");
    let class = &config.resource_classes[0];
    let (queue, about) = (&class.queue_url, format!("queue of class {}", class.name));
    let change = sqs.set_queue_attributes().queue_url(queue);
    let change = change.attributes(QueueAttributeName::VisibilityTimeout, "1");
    change.send().await.expect("changed");
    let expected = format!("warning  {about}: it has other attributes: run refresh");
    refresh_mends(&pool, &[&expected]).await;

    let create = ec2.create_launch_template_version();
    let create = create.launch_template_name(NAME).source_version("1");
    let data = aws_sdk_ec2::types::RequestLaunchTemplateData::builder();
    let data = data
        .instance_initiated_shutdown_behavior("stop".into())
        .build();
    let version = create.launch_template_data(data).send().await;
    let version = version.expect("made").launch_template_version;
    let version = version.and_then(|version| version.version_number);
    let modify = ec2.modify_launch_template().launch_template_name(NAME);
    let modify = modify.default_version(version.expect("a number").to_string());
    modify.send().await.expect("changed");
    refresh_mends(&pool, &["warning  launch template: "]).await;
    let delete = ec2.delete_launch_template().launch_template_name(NAME);
    delete.send().await.expect("deleted");
    refresh_mends(
        &pool,
        &["failed   launch template: it is gone: run refresh"],
    )
    .await;

    let delete = dynamodb.delete_table().table_name(NAME);
    delete.send().await.expect("deleted");
    let expected = "failed   table: there is none of pool acme-widgets: run refresh";
    refresh_mends(&pool, &[expected]).await;

    // SQS gives a name away again after a minute, and refresh says so.
    let delete = sqs.delete_queue().queue_url(queue);
    delete.send().await.expect("deleted");
    let expected = format!("failed   {about}: it is gone: run refresh");
    finds(&pool, &[&expected]).await;
    pool.yard.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_thing_around_the_pool_that_is_missing_is_named() {
    let pool = Pool::new(Duration::ZERO).await;
    let aws = &pool.yard.aws;
    for (service, action, code, expected, words) in [
        (
            "sts",
            "GetCallerIdentity",
            "ExpiredToken",
            "failed   credentials: ",
            "cannot call GetCallerIdentity of sts: ",
        ),
        (
            "ec2",
            "DescribeImages",
            "InvalidAMIID.NotFound",
            "failed   image: ami-",
            "ami-0123456789abcdef0 is gone: give refresh another `ami`",
        ),
        (
            "iam",
            "GetInstanceProfile",
            "NoSuchEntity",
            "failed   instance profile: ",
            "cannot call GetInstanceProfile of iam: ",
        ),
    ] {
        let code = code.to_owned();
        aws.inject(Fault::new(
            service,
            action,
            FaultKind::Error { status: 400, code },
        ));
        let said = finds(&pool, &[expected]).await;
        assert!(said.contains(words), "{words}: {said}");
    }
    for (input, wrong, expected) in [
        (
            "security-group-ids",
            "sg-0dead",
            "failed   security groups: cannot find all security groups",
        ),
        ("subnet-ids", "subnet-0dead", "failed   subnets: "),
    ] {
        let step = pool.refresh_with([(input, wrong.to_owned())]).await;
        assert_eq!(step.code, 0, "{}", step.log);
        let said = finds(&pool, &[expected]).await;
        assert!(said.contains(wrong), "{wrong}: {said}");
        assert_eq!(pool.refresh().await.code, 0);
    }
    finds(&pool, &[]).await;

    let token = pool.yard.github.token();
    pool.yard.github.set_token("another");
    let step = pool
        .run(1)
        .step("doctor", &[("github-token", &token)])
        .await;
    let step = step.expect("it runs");
    assert_eq!(step.code, 1, "{}", step.log);
    assert!(step.log.contains("failed   GitHub: "), "{}", step.log);
    let step = pool.run(1).step("doctor", &[]).await.expect("it runs");
    let unseen = "warning  GitHub: not looked at: give `github-token`, or the app";
    assert!(step.log.contains(unseen), "{}", step.log);
    assert_eq!(step.code, 0, "{}", step.log);
    pool.yard.stop().await;
}

/// What the policies in `packaging/iam` grant is what doctor asks for: each is missed by its name.
#[tokio::test(flavor = "multi_thread")]
async fn each_permission_that_is_missing_is_named() {
    let pool = Pool::new(Duration::ZERO).await;
    let mut actions = std::collections::BTreeSet::new();
    for (_, policy) in controller::doctor::permissions::POLICIES {
        let policy: serde_json::Value = serde_json::from_str(policy).expect("JSON");
        for statement in policy["Statement"].as_array().expect("statements") {
            for action in statement["Action"].as_array().expect("actions") {
                actions.insert(action.as_str().expect("text").to_owned());
            }
        }
    }
    assert!(actions.len() > 30, "{actions:?}");
    // Without it doctor cannot look, and says so.
    let look = "iam:SimulatePrincipalPolicy";
    let commands = ["--commands", "refresh provision release"];
    for action in actions {
        pool.yard.aws.forbid(&action);
        let step = pool.operate("doctor", &commands).await;
        let lines = || step.log.lines();
        if action == look {
            let unknown = "warning  permissions for refresh: not known: ";
            assert!(
                lines().any(|line| line.starts_with(unknown)),
                "{}",
                step.log
            );
        } else {
            assert_eq!(step.code, 1, "{action}: {}", step.log);
            let lacks = format!(" lacks {action}");
            let mut named = lines().filter(|line| line.starts_with("failed   permissions for "));
            assert!(
                named.next().is_some_and(|line| line.ends_with(&lacks))
                    && named.all(|line| line.ends_with(&lacks)),
                "{action}: {}",
                step.log
            );
        }
        pool.yard.aws.permit(&action);
    }
    pool.yard.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_names_what_is_wrong() {
    let pool = Pool::new(Duration::ZERO).await;
    let step = pool
        .operate("doctor", &["--commands", "refresh provision release"])
        .await;
    assert_eq!(step.code, 0, "{}", step.log);
    for about in [
        "credentials",
        "clock",
        "table",
        "configuration",
        "runner tokens",
        "queue of class large",
        "launch template",
        "image",
        "security groups",
        "instance profile",
        "subnets",
        "GitHub",
        "permissions for refresh",
        "permissions for provision",
        "permissions for release",
        "machines' role",
    ] {
        let line = format!("ok       {about}: ");
        assert!(step.log.contains(&line), "{about}: {}", step.log);
    }
    assert!(!step.log.contains("failed   "), "{}", step.log);
    // A session's ARN leaves out the path of its role, which IAM wants to be told.
    let role = "arn:aws:iam::123456789012:role/ci/operator has all";
    assert!(step.log.contains(role), "{}", step.log);

    let url = pool.yard.aws.url();
    let config = pool.table.config().await.expect("read");
    let mut parameters = config.parameters.expect("parameters");
    parameters.subnet_ids.push("subnet-0dead".to_owned());
    let parameters = ConfigItem::Parameters(parameters);
    pool.table.put_config(&parameters).await.expect("written");
    let sqs = clients::sqs(&url);
    let queue = &config.resource_classes[0].queue_url;
    sqs.delete_queue()
        .queue_url(queue)
        .send()
        .await
        .expect("deleted");
    pool.yard.aws.forbid("sqs:SendMessage");
    pool.yard.aws.forbid("iam:GetRole");
    pool.yard.aws.forbid("ec2:DescribeSecurityGroups");
    let step = pool.operate("doctor", &["--commands", "release"]).await;
    assert_eq!(step.code, 1, "{}", step.log);
    for words in [
        "it is gone: run refresh",
        "subnet-0dead",
        "failed   security groups: cannot find all security groups",
        "warning  role: whether operator has a path is not known",
        "warning  permissions for release: not known: ",
        "3 of the findings",
    ] {
        assert!(step.log.contains(words), "{words}: {}", step.log);
    }
    let role = ["--commands", "release", "--role"];
    let role = [&role[..], &["arn:aws:iam::123456789012:role/ci/operator"]].concat();
    let step = pool.operate("doctor", &role).await;
    for words in ["lacks sqs:SendMessage", "4 of the findings"] {
        assert!(step.log.contains(words), "{words}: {}", step.log);
    }

    let step = pool.operate("doctor", &["--commands", "everything"]).await;
    assert_eq!(step.code, 2, "{}", step.log);
    let mut lost = pool.run(1);
    lost.flags = vec!["--pool".to_owned(), "nowhere".to_owned()];
    let step = lost.step("doctor", &[]).await.expect("it runs");
    assert_eq!(step.code, 1, "{}", step.log);
    assert!(
        step.log.contains("there is none of pool nowhere"),
        "{}",
        step.log
    );
    pool.yard.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_off_by_an_hour_is_named() {
    const HOUR_AND_A_BIT: i64 = 3690;
    let pool = Pool::new(Duration::ZERO).await;
    for (ahead, off) in [
        (HOUR_AND_A_BIT, "1h 1m behind AWS"),
        (-HOUR_AND_A_BIT, "1h 1m ahead of AWS"),
    ] {
        pool.yard.aws.set_ahead(ahead);
        let named = format!("this machine's clock is {off}: set it");
        for step in [
            pool.operate("doctor", &[]).await,
            pool.operate("status", &[]).await,
            pool.refresh().await,
            pool.provision(71, "1").await,
        ] {
            assert_ne!(step.code, 0, "{}", step.log);
            assert!(step.log.contains(&named), "{}", step.log);
        }
    }
    pool.yard.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_warns_of_a_machines_role_that_is_too_wide() {
    let pool = Pool::new(Duration::ZERO).await;
    let policy = |actions: &str, condition: &str| {
        format!(
            r#"{{"Version": "2012-10-17", "Statement": [{{"Sid": "More", "Effect": "Allow",
                "Action": [{actions}], "Resource": ["*"], "Condition": {condition}}}]}}"#
        )
    };
    // Its own record's threshold, as somebody may allow who finds the list of fields too long.
    let own = r#"{"ForAllValues:StringEquals": {
        "dynamodb:LeadingKeys": ["${ec2:SourceInstanceARN}"],
        "dynamodb:Attributes": ["pk", "sk", "threshold"]}}"#;
    let threshold = policy(r#""dynamodb:UpdateItem""#, own);
    let everybodys = policy(
        r#""dynamodb:GetItem", "sqs:*", "ec2:TerminateInstances""#,
        "{}",
    );
    let mut found = Vec::new();
    for policy in [threshold, everybodys] {
        let attached = pool.yard.aws.attach_to_machines(&policy);
        attached.expect("understood");
        let step = pool.operate("doctor", &["--commands", "release"]).await;
        assert_eq!(step.code, 0, "the pool works: {}", step.log);
        let line = step
            .log
            .lines()
            .find(|line| line.contains("machines' role: "));
        let line = line.unwrap_or_else(|| panic!("nothing of the role: {}", step.log));
        assert!(line.starts_with("warning  "), "{line}");
        found.push(line.to_owned());
    }
    let threshold = "dynamodb:UpdateItem on `threshold` of its own record";
    assert!(
        found.iter().all(|line| line.contains(threshold)),
        "{found:#?}"
    );
    for words in [
        "dynamodb:GetItem on other machines' records",
        "sqs:ReceiveMessage",
        "ec2:TerminateInstances on arn:aws:ec2:us-east-1:123456789012:instance/*",
    ] {
        assert!(
            !found[0].contains(words) && found[1].contains(words),
            "{found:#?}"
        );
    }
    assert!(!found[1].contains("`state`"), "{found:#?}");

    pool.yard.aws.forbid("dynamodb:GetItem");
    let step = pool.operate("doctor", &["--commands", "release"]).await;
    let lacks = "lacks dynamodb:GetItem on its own record";
    assert!(step.log.contains(lacks), "{}", step.log);
    pool.yard.stop().await;
}
