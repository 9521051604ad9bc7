//! What provision reads: schema, template, classes, parameters, tokens.

use super::*;
use crate::refresh::table::Setting;

#[tokio::test]
async fn a_newer_schema_is_refused_with_words() {
    let scene = Scene::made().await;
    let newer = Schema {
        version: 99,
        table_arn: TABLE_ARN.into(),
        github_url: GITHUB_URL.into(),
    };
    scene
        .table
        .put_config(&ConfigItem::Schema(newer))
        .await
        .unwrap();
    let report = scene.run().await;
    assert_eq!(report.planned, []);
    assert!(
        matches!(report.refused, Some(Refused::Newer(99))),
        "{report:?}"
    );
}

#[tokio::test]
async fn a_pool_of_another_repository_is_left_alone() {
    let mut scene = Scene::made().await;
    // Both repositories' default pool is `acme-web-site`.
    scene.settings.github_url = "https://github.com/acme/web.site".into();
    let report = scene.run().await;
    assert_eq!(report.planned, []);
    assert!(
        matches!(report.refused, Some(Refused::Others { .. })),
        "{report:?}"
    );
}

#[tokio::test]
async fn new_content_makes_a_version_and_ends_idle_machines_of_the_old_one() {
    let mut scene = Scene::made().await;
    scene.instance(1, State::Idle, |_| ()).await;
    scene
        .instance(2, State::Running, |record| {
            record.label = Some("9".parse().unwrap());
        })
        .await;
    scene.settings.template.image = "ami-2".into();
    let steps = scene.settles().await;
    let line = steps[0].to_string();
    assert!(line.contains("version 1 → new version"), "{line}");
    assert!(line.ends_with(": ami ami-1 → ami-2"), "{line}");
    let old = Because::OldTemplate {
        version: 1,
        generation: 4,
    };
    assert_eq!(
        steps[1],
        Step::Terminate {
            arn: arn(1),
            because: old
        }
    );
    assert_eq!(scene.config().await.launch_template.unwrap().version, 2);
    assert_eq!(scene.state(1).await, State::Terminated);
    assert!(!scene.is_alive(1) && scene.is_alive(2));
}

#[tokio::test]
async fn the_newest_ten_versions_are_kept_and_an_old_one_can_be_taken_up_again() {
    let mut scene = Scene::made().await;
    for n in 2..=13 {
        scene.settings.template.image = format!("ami-{n}");
        scene.settles().await;
    }
    let versions = |scene: &Scene| {
        scene.fakes.with(|world| {
            let template = world.template.as_ref().unwrap();
            template.versions.keys().copied().collect::<Vec<_>>()
        })
    };
    assert_eq!(versions(&scene), (4..=13).collect::<Vec<_>>());
    scene.settings.template.image = "ami-5".into();
    let steps = lines(&scene.settles().await);
    assert!(steps[0].contains("→ version 5 ("), "{steps:?}");
    assert_eq!(versions(&scene).len(), 10);
    assert_eq!(scene.config().await.launch_template.unwrap().version, 5);
}

#[tokio::test]
async fn a_version_that_a_dead_refresh_made_is_adopted() {
    let mut scene = Scene::made().await;
    scene.settings.template.image = "ami-2".into();
    // Made, but neither the default yet nor recorded.
    let image = scene.fakes.image("ami-2").await.unwrap().unwrap();
    let hash = crate::refresh::content_hash(&scene.settings.template.with_image(image));
    scene.fakes.with(|world| {
        let template = world.template.as_mut().unwrap();
        template.versions.insert(2, Some(hash));
    });
    scene.settles().await;
    scene.fakes.with(|world| {
        let template = world.template.as_ref().unwrap();
        assert_eq!((template.version, template.versions.len()), (2, 2));
    });
    // The default, but not recorded.
    let mut old = scene.config().await.launch_template.unwrap();
    old.version = 1;
    scene
        .table
        .put_config(&ConfigItem::LaunchTemplate(old))
        .await
        .unwrap();
    let steps = lines(&scene.settles().await);
    assert_eq!(
        steps,
        ["~ launch template in use: lt-1 version 1 → lt-1 version 2"]
    );
}

#[tokio::test]
async fn an_image_is_looked_at_once_and_must_fit_before_anything_is_touched() {
    let mut scene = Scene::bare();
    scene.settings.template.image = "ami-gone".into();
    let refused = scene.run().await.refused.unwrap().to_string();
    assert!(refused.contains("no image ami-gone"), "{refused}");
    scene.fakes.with(|world| assert!(world.table.is_none()));

    let mut scene = Scene::made().await;
    scene.settles().await;
    scene.fakes.with(|world| assert_eq!(world.images_asked, 1));
    scene.settings.template.root_volume.size_gib = Some(4);
    let past = Time::from_millis(START - 1);
    scene
        .instance(1, State::Idle, |record| record.threshold = Some(past))
        .await;
    let report = scene.run().await;
    assert_eq!(report.planned, []);
    let refused = report.refused.unwrap().to_string();
    assert!(refused.contains("give 8 or more"), "{refused}");
    // A parameter may come to name another one at night: the machines are looked after.
    scene.settings.image_is_input = false;
    let report = scene.run().await;
    let (failed, error) = &report.failed[0];
    assert_eq!(*failed, Failed::Look("the image"));
    assert!(error.to_string().contains("give 8 or more"), "{error}");
    assert!(!scene.is_alive(1));
    scene.settings.template.root_volume.size_gib = Some(20);
    scene.settings.template.image = "ami-2".into();
    scene.settles().await;
    let template = scene.config().await.launch_template.unwrap();
    assert_eq!(template.image.unwrap().id, "ami-2");
}

#[tokio::test]
async fn a_queue_with_odd_attributes_is_set_right() {
    let scene = Scene::made().await;
    scene.fakes.with(|world| {
        let odd = ("VisibilityTimeout", "30", "60");
        world.odd_queue = Some((odd.0.into(), odd.1.into(), odd.2.into()));
    });
    let steps = lines(&scene.settles().await);
    assert_eq!(
        steps[0],
        "~ class large: its queue's VisibilityTimeout 30 → 60"
    );
}

#[tokio::test]
async fn classes_parameters_and_queues_follow_the_settings() {
    let mut scene = Scene::made().await;
    scene
        .instance(1, State::Idle, |record| {
            record.resource_class = "xlarge".parse().unwrap();
        })
        .await;
    scene.settings.classes = vec![class("large", 2, 8192)];
    scene.settings.parameters.idle_time_sec = 600;
    let steps = lines(&scene.settles().await);
    assert_eq!(
        steps,
        [
            "~ class large: 2 vCPU, 4096 MiB → 2 vCPU, 8192 MiB".to_owned(),
            "- class xlarge and its queue".to_owned(),
            "~ parameters: idleTimeSec 420 → 600".to_owned(),
            format!("- machine {} (idle, class xlarge is retired)", id(1)),
        ]
    );
    assert!(!scene.is_alive(1));

    scene.settings.parameters.metrics = true;
    scene.settings.parameters.max_jobs = Some(3);
    scene.settles().await;
    scene.settings.parameters.metrics = false;
    assert_eq!(
        lines(&scene.settles().await),
        ["~ parameters: metrics true → unset"]
    );

    scene.fakes.with(|world| world.queues.clear());
    assert_eq!(
        lines(&scene.settles().await),
        ["~ class large: its queue is gone → new queue"]
    );
}

#[tokio::test]
async fn tokens_are_renewed_when_half_over() {
    let scene = Scene::made().await;
    scene.fakes.with(|world| world.now += 29 * MINUTE);
    assert_eq!(scene.settles().await, []);
    scene.fakes.with(|world| world.now += MINUTE);
    let steps = scene.settles().await;
    assert!(
        matches!(
            steps[..],
            [Step::RenewTokens {
                ends_at: Some((_, false))
            }]
        ),
        "{steps:?}"
    );
    // Nobody refreshed for hours: provisions failed meanwhile.
    scene.fakes.with(|world| world.now += 300 * MINUTE);
    let lines = lines(&scene.settles().await);
    assert!(
        lines[0].contains("GitHub tokens: they ended at"),
        "{lines:?}"
    );
}

#[tokio::test]
async fn a_runner_that_takes_one_job_at_a_time_gets_each_new_token() {
    let mut scene = Scene::made().await;
    let running = |record: &mut InstanceRecord| {
        record.threshold = Some(Time::from_millis(START + 300 * MINUTE));
    };
    scene.instance(1, State::Running, running).await;
    scene.instance(2, State::Idle, running).await;
    let token = async |n: u8| scene_token(&scene.table, n).await;
    scene.fakes.with(|world| world.now += 30 * MINUTE);
    scene.run().await;
    assert_eq!(token(1).await, None, "these runners register once");
    scene.settings.ephemeral = true;
    scene.fakes.with(|world| world.now += 30 * MINUTE);
    let report = scene.run().await;
    let planned = lines(&report.planned).join("\n");
    assert!(planned.contains("for 1 running machines"), "{planned}");
    let tokens = scene.config().await.github_tokens.unwrap();
    assert_eq!(
        scene_token(&scene.table, 1).await,
        Some(tokens.registration)
    );
    assert_eq!(scene_token(&scene.table, 2).await, None);
}

async fn scene_token(table: &MemoryTable, n: u8) -> Option<proto::instance::Secret> {
    table.instance(&arn(n)).await.unwrap().unwrap().token
}

#[tokio::test]
async fn a_template_that_cannot_be_made_costs_no_warm_machine() {
    let mut scene = Scene::made().await;
    scene.instance(1, State::Idle, |_| ()).await;
    scene.settings.template.image = "ami-2".into();
    scene
        .fakes
        .with(|world| world.broken = Some("put_template"));
    let report = scene.run().await;
    assert_eq!(report.failed.len(), 1, "{:?}", report.failed);
    assert_eq!(scene.state(1).await, State::Idle);
    scene.fakes.with(|world| world.broken = None);
    scene.settles().await;
    assert_eq!(scene.state(1).await, State::Terminated);
}

#[tokio::test]
async fn a_class_is_retired_only_when_its_idle_machines_have_ended() {
    let mut scene = Scene::made().await;
    let xlarge = |record: &mut InstanceRecord| {
        record.resource_class = "xlarge".parse().unwrap();
    };
    scene.instance(1, State::Idle, xlarge).await;
    scene.settings.classes.retain(|spec| spec.cpu == 2);
    scene.fakes.with(|world| world.broken = Some("terminate"));
    let report = scene.run().await;
    let why: Vec<String> = report
        .failed
        .iter()
        .map(|(_, error)| error.to_string())
        .collect();
    assert!(
        why[1].contains("class xlarge still has idle machines"),
        "{why:?}"
    );
    let queue = "http://sqs/paddock-p-xlarge";
    assert!(scene.fakes.with(|world| world.queues.contains_key(queue)));
    assert_eq!(scene.config().await.resource_classes.len(), 2);

    scene.fakes.with(|world| world.broken = None);
    scene.settles().await;
    assert!(!scene.is_alive(1));
    assert!(!scene.fakes.with(|world| world.queues.contains_key(queue)));
    assert_eq!(scene.config().await.resource_classes.len(), 1);
}

#[tokio::test]
async fn a_lost_index_is_made_anew() {
    let scene = Scene::made().await;
    scene
        .fakes
        .with(|world| world.table.as_mut().unwrap().index = Setting::Off);
    // The table is looked at as often as tokens are renewed.
    scene.fakes.with(|world| world.now += 30 * MINUTE);
    let steps = lines(&scene.settles().await);
    assert_eq!(steps[0], "+ table: the index by-state");
}
