//! Whole refreshes on the world in memory. Each ends with a second run that plans nothing.

mod floor;

use std::sync::Arc;

use proto::{
    config::{Config, ConfigItem, Parameters, RefreshJournal, Schema},
    ids::{Home, InstanceArn, InstanceId},
    instance::{InstanceRecord, UsageClass},
    message::PoolMessage,
    provision::{Phase, ProvisionRecord, Request},
    signal::{Report as Signalled, Signal},
    state::State,
    table::{Outcome, Table, memory::MemoryTable},
    time::Time,
};

use super::{
    ClassSpec, Failed, RefreshSettings, Report,
    bounds::IdleRules,
    fakes::{Fakes, TABLE_ARN},
    lease::{Lease, LeaseError},
    refresh,
    step::{Because, Step, Stray},
};
use crate::ports::{Fleet, ForgeRunner, Machine, RootVolume, TemplateContent};

const GITHUB_URL: &str = "https://github.com/acme/web-site";
const SECOND: i64 = 1000;
const MINUTE: i64 = 60 * SECOND;
/// The present at the start: late enough that things can have happened before.
const START: i64 = 24 * 60 * MINUTE;

struct Scene {
    settings: RefreshSettings,
    fakes: Fakes,
    table: Arc<MemoryTable>,
}

impl Scene {
    /// A pool that nobody has made yet.
    fn bare() -> Self {
        let fakes = Fakes::default();
        fakes.with(|world| world.now = START);
        let settings = RefreshSettings {
            pool: "p".parse().unwrap(),
            github_url: GITHUB_URL.into(),
            template: TemplateContent {
                image: "ami-1".into(),
                root_volume: RootVolume {
                    size_gib: None,
                    kind: "gp3".into(),
                },
                key_name: None,
                iam_instance_profile: "paddock".into(),
                security_group_ids: vec!["sg-1".into()],
                user_data: b"{}".to_vec(),
                tags: vec![("paddock:pool".into(), "p".into())],
            },
            runner: None,
            ephemeral: false,
            classes: vec![class("large", 2, 4096), class("xlarge", 4, 8192)],
            parameters: Parameters {
                subnet_ids: vec!["subnet-1".into()],
                idle_time_sec: 420,
                max_jobs: None,
                max_age_sec: None,
                max_runtime_sec: 1800,
                claim_timeout_sec: 30,
                fleet_timeout_sec: 180,
                release_timeout_sec: 120,
                healthy_within_sec: 15,
            },
            idle: IdleRules::default(),
            dry_run: false,
        };
        Self {
            settings,
            fakes,
            table: Arc::default(),
        }
    }

    /// A pool that was refreshed.
    async fn made() -> Self {
        let scene = Self::bare();
        scene.run().await;
        scene
    }

    async fn run(&self) -> Report {
        let ports = self.fakes.ports(self.table.clone());
        refresh(&self.settings, "me", &ports, &mut |_| ()).await
    }

    /// Runs once, expects no failure, and then nothing more to do; the steps of the first run.
    async fn settles(&self) -> Vec<Step> {
        let report = self.run().await;
        assert!(report.failed.is_empty(), "{:?}", report.failed);
        let again = self.run().await;
        assert_eq!(again.planned, [], "the second run plans something");
        assert!(again.failed.is_empty(), "{:?}", again.failed);
        report.planned
    }

    async fn config(&self) -> Config {
        self.table.config().await.unwrap()
    }

    async fn state(&self, n: u8) -> State {
        self.table.instance(&arn(n)).await.unwrap().unwrap().state
    }

    fn is_alive(&self, n: u8) -> bool {
        self.fakes
            .with(|world| world.machines.iter().any(|m| m.id == id(n) && m.alive))
    }

    /// A machine at EC2, launched so many minutes ago.
    fn machine(&self, n: u8, minutes: i64, fleet: Option<&str>) {
        self.fakes.with(|world| {
            world.machines.push(Machine {
                id: id(n),
                alive: true,
                launched_at: Time::from_millis(world.now - minutes * MINUTE),
                fleet: fleet.map(str::to_owned),
            });
        });
    }

    /// A machine with its record: ten minutes old, in its state for two.
    async fn instance(&self, n: u8, state: State, edit: impl FnOnce(&mut InstanceRecord)) {
        self.machine(n, 10, None);
        let mut record = record(n, state);
        edit(&mut record);
        let written = self.table.insert_instance(&record).await.unwrap();
        assert!(matches!(written, Outcome::Applied(_)));
    }

    async fn provision(&self, beat: i64, edit: impl FnOnce(&mut ProvisionRecord)) {
        let mut record = ProvisionRecord {
            run: "7".parse().unwrap(),
            label: "7".parse().unwrap(),
            revision: 1,
            attempt: 1,
            repository: None,
            request: Request {
                count: 2,
                resource_class: "large".parse().unwrap(),
                usage_class: UsageClass::OnDemand,
                allowed_instance_types: vec!["c*".into()],
                max_runtime_sec: 1800,
            },
            phase: Phase::Open,
            client_token: "token.1".into(),
            claimed: vec![],
            launched: vec![],
            generations: std::collections::BTreeMap::new(),
            started_at: Time::from_millis(START - 5 * MINUTE),
            beat: Time::from_millis(beat),
            error: None,
            expires_at: None,
        };
        edit(&mut record);
        self.table.put_provision(&record).await.unwrap();
    }
}

fn class(name: &str, cpu: u32, mmem: u32) -> ClassSpec {
    ClassSpec {
        name: name.parse().unwrap(),
        cpu,
        mmem,
    }
}

fn id(n: u8) -> InstanceId {
    format!("i-{n:017x}").parse().unwrap()
}

fn arn(n: u8) -> InstanceArn {
    InstanceArn::new(&Home::of_arn(TABLE_ARN).unwrap(), &id(n))
}

fn record(n: u8, state: State) -> InstanceRecord {
    InstanceRecord {
        arn: arn(n),
        state,
        label: None,
        threshold: (state != State::Terminated).then(|| Time::from_millis(START + 5 * MINUTE)),
        generation: 4,
        since: Time::from_millis(START - 2 * MINUTE),
        created_at: Time::from_millis(START - 10 * MINUTE),
        resource_class: "large".parse().unwrap(),
        instance_type: "m6i.large".into(),
        zone: "us-east-1a".into(),
        usage_class: UsageClass::OnDemand,
        cpu: 2,
        mmem: 4096,
        template_version: 1,
        token: None,
        reason: None,
        expires_at: None,
        heartbeat: None,
        report: Some(Signalled {
            signal: Signal::RemoveRegOk,
            generation: 4,
            at: Time::from_millis(START - MINUTE),
            detail: None,
        }),
        runner: None,
        job: None,
        jobs: 0,
        health: None,
    }
}

fn lines(steps: &[Step]) -> Vec<String> {
    steps.iter().map(ToString::to_string).collect()
}

#[tokio::test]
async fn a_bare_account_becomes_a_pool() {
    let scene = Scene::bare();
    let steps = lines(&scene.settles().await);
    assert_eq!(steps.len(), 9, "{steps:#?}");
    assert_eq!(steps[0], "+ table paddock-p");
    assert_eq!(steps[3], "+ schema 1");
    assert!(
        steps[4].starts_with("+ launch template paddock-p ("),
        "{}",
        steps[4]
    );
    assert_eq!(steps[5], "+ class large (2 vCPU, 4096 MiB) and its queue");
    assert_eq!(steps[8], "+ GitHub tokens");
    let config = scene.config().await;
    assert_eq!(config.schema.unwrap().table_arn, TABLE_ARN);
    assert_eq!(config.launch_template.unwrap().version, 1);
    assert_eq!(
        config.resource_classes[1].queue_url,
        "http://sqs/paddock-p-xlarge"
    );
    // The removal token ends first.
    let ends = config.github_tokens.unwrap().expires_at;
    assert_eq!(ends, Time::from_millis(START + 3_500_000));
}

#[tokio::test]
async fn a_dry_run_says_all_and_does_nothing() {
    let mut scene = Scene::bare();
    scene.settings.dry_run = true;
    let ports = scene.fakes.ports(scene.table.clone());
    let mut said = Vec::new();
    let report = refresh(&scene.settings, "me", &ports, &mut |line| {
        said.push(line.to_owned());
    })
    .await;
    assert_eq!(report.planned.len(), 9);
    assert_eq!(
        said.last().unwrap(),
        "plan: 9 to create, 0 to change, 0 to remove"
    );
    assert_eq!(scene.config().await, Config::default());
    scene.fakes.with(|world| {
        assert!(world.table.is_none() && world.template.is_none() && world.queues.is_empty());
    });
}

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
    let (failed, error) = &report.failed[0];
    assert_eq!(*failed, Failed::Look("the configuration"));
    assert!(error.to_string().contains("schema 99"), "{error}");
}

#[tokio::test]
async fn a_pool_of_another_repository_is_left_alone() {
    let mut scene = Scene::made().await;
    // Both repositories' default pool is `acme-web-site`.
    scene.settings.github_url = "https://github.com/acme/web.site".into();
    let report = scene.run().await;
    assert_eq!(report.planned, []);
    let (_, error) = &report.failed[0];
    assert!(error.to_string().contains("another `pool-name`"), "{error}");
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
    assert!(
        matches!(steps[0], Step::PutTemplate { old: Some(_), .. }),
        "{steps:?}"
    );
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
    let hash = super::content_hash(&scene.settings.template.with_image(image));
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
async fn an_image_is_looked_at_once_and_must_fit() {
    let mut scene = Scene::made().await;
    scene.settles().await;
    scene.fakes.with(|world| assert_eq!(world.images_asked, 1));
    scene.settings.template.root_volume.size_gib = Some(4);
    let report = scene.run().await;
    assert_eq!(report.planned, []);
    let (failed, error) = &report.failed[0];
    assert_eq!(*failed, Failed::Look("the image"));
    assert!(error.to_string().contains("give 8 or more"), "{error}");
    scene.settings.template.root_volume.size_gib = Some(20);
    scene.settings.template.image = "ami-gone".into();
    let report = scene.run().await;
    assert_eq!(report.planned, []);
    assert!(report.failed[0].1.to_string().contains("no image ami-gone"));
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
async fn a_refresh_leaves_the_pool_to_one_that_is_at_work() {
    let scene = Scene::made().await;
    let past = Time::from_millis(START - 1);
    scene
        .instance(1, State::Running, |record| record.threshold = Some(past))
        .await;
    let mine = scene.config().await.refresh.unwrap();
    assert_eq!(mine.until, None, "the first refresh gave its lease back");
    let others = RefreshJournal {
        revision: mine.revision + 1,
        holder: "another".into(),
        since: Time::from_millis(START),
        until: Some(Time::from_millis(START + 3 * MINUTE)),
        floor: vec![],
    };
    scene.table.put_refresh(&others).await.unwrap();
    let report = scene.run().await;
    assert_eq!(report.left_to, Some(others.since));
    assert!(report.planned.is_empty() && report.failed.is_empty());
    assert!(scene.is_alive(1));
    // One that died keeps nobody away for long.
    scene.fakes.with(|world| world.now += 3 * MINUTE);
    scene.settles().await;
    assert!(!scene.is_alive(1));
}

#[tokio::test]
async fn a_plan_made_while_another_refresh_acted_is_not_carried_out() {
    let scene = Scene::made().await;
    let past = Time::from_millis(START - 1);
    scene
        .instance(1, State::Running, |record| record.threshold = Some(past))
        .await;
    // The other one comes and goes between this one's look and its first step.
    let ports = scene.fakes.ports(scene.table.clone());
    let read = scene.config().await.refresh;
    let other = Lease::take(&ports, "another", read.as_ref(), vec![]).await;
    other.unwrap().give_back(vec![]).await.unwrap();
    let late = Lease::take(&ports, "me", read.as_ref(), vec![]).await;
    assert!(matches!(late, Err(LeaseError::Others(_))));
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
        matches!(steps[..], [Step::RenewTokens { ends_at: Some(_) }]),
        "{steps:?}"
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
async fn expired_machines_of_every_live_state_end() {
    let scene = Scene::made().await;
    for (n, state) in (1..).zip(State::LIVE) {
        let past = Time::from_millis(START - 1);
        scene
            .instance(n, state, |record| record.threshold = Some(past))
            .await;
    }
    assert_eq!(scene.settles().await.len(), 4);
    for n in 1..=4 {
        assert_eq!(scene.state(n).await, State::Terminated);
        assert!(!scene.is_alive(n));
    }
}

#[tokio::test]
async fn a_dead_controllers_provision_is_undone() {
    let scene = Scene::made().await;
    let label = || Some("7".parse().unwrap());
    // Claimed; given back meanwhile; launched; launched without record; launched, not journaled.
    scene
        .instance(1, State::Claimed, |record| record.label = label())
        .await;
    scene
        .instance(2, State::Running, |record| {
            record.label = Some("8".parse().unwrap());
        })
        .await;
    scene
        .instance(3, State::Created, |record| record.label = label())
        .await;
    scene.machine(4, 1, None);
    scene.machine(5, 1, Some("token.1"));
    scene
        .provision(START - 2 * MINUTE, |record| {
            record.claimed = vec![id(1), id(2)];
            record.launched = vec![id(3), id(4)];
        })
        .await;
    let steps = scene.settles().await;
    assert!(
        matches!(&steps[..], [Step::Undo { machines, .. }] if machines.len() == 5),
        "{steps:?}"
    );
    assert_eq!(
        [1, 2, 3, 4, 5].map(|n| scene.is_alive(n)),
        [false, true, false, false, false]
    );
    assert_eq!(scene.state(2).await, State::Running);
    let run = "7".parse().unwrap();
    let closed = scene.table.provisions_of(&run).await.unwrap().remove(0);
    assert_eq!((closed.phase, closed.revision), (Phase::RolledBack, 3));
    assert!(closed.error.is_some() && closed.expires_at.is_some());
}

#[tokio::test]
async fn a_provision_at_work_is_left_alone() {
    let scene = Scene::made().await;
    scene
        .instance(1, State::Claimed, |record| {
            record.label = Some("7".parse().unwrap());
        })
        .await;
    scene
        .provision(START - 30 * SECOND, |record| record.claimed = vec![id(1)])
        .await;
    assert_eq!(scene.settles().await, []);
}

#[tokio::test]
async fn strays_end_after_the_grace_and_records_without_a_machine_are_closed() {
    let scene = Scene::made().await;
    scene.machine(1, 6, None);
    scene.machine(2, 4, None);
    scene.instance(3, State::Terminated, |_| ()).await;
    scene.instance(4, State::Running, |_| ()).await;
    scene
        .instance(5, State::Created, |record| {
            record.created_at = Time::from_millis(START);
        })
        .await;
    scene
        .fakes
        .with(|world| world.machines.retain(|m| m.id != id(4) && m.id != id(5)));
    assert_eq!(
        scene.settles().await,
        [
            Step::Close {
                arn: arn(4),
                state: State::Running
            },
            Step::TerminateStray {
                id: id(1),
                because: Stray::NoRecord
            },
            Step::TerminateStray {
                id: id(3),
                because: Stray::Terminated
            },
        ]
    );
    assert_eq!([1, 2, 3].map(|n| scene.is_alive(n)), [false, true, false]);
    assert_eq!(scene.state(4).await, State::Terminated);
    assert_eq!(scene.state(5).await, State::Created);
}

#[tokio::test]
async fn idle_machines_that_the_queue_lost_are_listed_again() {
    let scene = Scene::made().await;
    scene.instance(1, State::Idle, |_| ()).await;
    scene
        .instance(2, State::Idle, |record| {
            record.since = Time::from_millis(START);
        })
        .await;
    scene
        .instance(3, State::Idle, |record| record.report = None)
        .await;
    let report = scene.run().await;
    let [Step::Resend { records, .. }] = &report.planned[..] else {
        panic!("{:?}", report.planned)
    };
    assert_eq!(records.len(), 1);
    // The release that pooled the second one sends its message.
    scene.fakes.with(|world| {
        let queue = world.queues.get_mut("http://sqs/paddock-p-large").unwrap();
        assert_eq!(queue[0].id, id(1));
        queue.push(queue[0].clone());
    });
    assert_eq!(scene.settles().await, []);
}

#[tokio::test]
async fn messages_of_machines_that_have_ended_are_swept() {
    let scene = Scene::made().await;
    let past = |record: &mut InstanceRecord| record.threshold = Some(Time::from_millis(START));
    scene.instance(1, State::Idle, past).await;
    let queue = "http://sqs/paddock-p-large";
    let record = scene.table.instance(&arn(1)).await.unwrap().unwrap();
    let message = PoolMessage::of(&record, Time::from_millis(START));
    scene.fakes.with(|world| {
        world.queues.insert(queue.into(), vec![message; 12]);
    });
    let report = scene.run().await;
    assert!(
        report
            .planned
            .iter()
            .any(|step| matches!(step, Step::Sweep { surplus: 12, .. }))
    );
    scene.fakes.with(|world| {
        assert_eq!(world.queues[queue], []);
        assert!(world.leased.is_empty());
    });
    assert_eq!(scene.settles().await, []);
}

#[tokio::test]
async fn a_sweep_keeps_one_message_of_each_idle_machine() {
    let scene = Scene::made().await;
    scene.instance(1, State::Idle, |_| ()).await;
    let queue = "http://sqs/paddock-p-large";
    let message = PoolMessage::of(
        &scene.table.instance(&arn(1)).await.unwrap().unwrap(),
        Time::from_millis(START),
    );
    scene.fakes.with(|world| {
        world.queues.insert(queue.into(), vec![message.clone(); 25]);
    });
    scene.run().await;
    scene
        .fakes
        .with(|world| assert_eq!(world.queues[queue], [message]));
    assert_eq!(scene.settles().await, []);
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
async fn each_step_fails_alone() {
    for (broken, failures) in [
        ("machines", 1),
        ("template", 1),
        ("image", 1),
        ("put_template", 1),
        ("ensure_queue", 2),
        ("registration_token", 1),
    ] {
        let scene = Scene::bare();
        scene.fakes.with(|world| world.broken = Some(broken));
        let report = scene.run().await;
        assert_eq!(
            report.failed.len(),
            failures,
            "{broken}: {:?}",
            report.failed
        );
        assert!(scene.config().await.parameters.is_some(), "{broken}");
        // What failed is made up for once the cause is gone.
        scene.fakes.with(|world| world.broken = None);
        scene.settles().await;
        assert!(scene.config().await.github_tokens.is_some());
    }
}

#[tokio::test]
async fn a_machine_that_cannot_be_terminated_fails_its_step_and_ends_next_time() {
    let scene = Scene::made().await;
    let past = Time::from_millis(START - 1);
    scene
        .instance(1, State::Running, |record| record.threshold = Some(past))
        .await;
    scene.fakes.with(|world| world.broken = Some("terminate"));
    let report = scene.run().await;
    assert!(matches!(&report.failed[0].0, Failed::Step(step) if **step == report.planned[0]));
    scene.fakes.with(|world| world.broken = None);
    let stray = Step::TerminateStray {
        id: id(1),
        because: Stray::Terminated,
    };
    assert_eq!(scene.settles().await, [stray]);
}

fn runner(id: u64, name: &str) -> ForgeRunner {
    ForgeRunner {
        id,
        name: name.to_owned(),
        online: false,
        busy: false,
    }
}

#[tokio::test]
async fn runners_go_whose_machine_is_gone_and_no_others() {
    let scene = Scene::made().await;
    scene.instance(1, State::Terminated, |_| ()).await;
    scene.instance(2, State::Running, |_| ()).await;
    scene.instance(3, State::Terminated, |_| ()).await;
    scene.fakes.with(|world| {
        // The first has ended, the third is about to be ended by this very refresh.
        world.machines[0].alive = false;
        world.runners = vec![
            runner(11, &format!("{}-4", id(1))),
            runner(12, &format!("{}-4", id(2))),
            runner(13, &format!("{}-4", id(3))),
            // Another pool's, and somebody's own.
            runner(14, &format!("{}-4", id(9))),
            runner(15, "build-server"),
            ForgeRunner {
                online: true,
                ..runner(16, &format!("{}-3", id(1)))
            },
            ForgeRunner {
                busy: true,
                ..runner(17, &format!("{}-2", id(1)))
            },
        ];
    });
    let report = scene.run().await;
    assert!(report.failed.is_empty(), "{:?}", report.failed);
    let gone = format!(
        "- runner {}-4 at GitHub (offline, its machine is gone)",
        id(1)
    );
    assert!(
        lines(&report.planned).contains(&gone),
        "{:?}",
        report.planned
    );
    let steps = scene.settles().await;
    assert_eq!(
        steps,
        [Step::DeleteRunner(runner(13, &format!("{}-4", id(3))))]
    );
    let left = scene.fakes.with(|world| {
        let left = world.runners.iter().map(|runner| runner.id);
        left.collect::<Vec<_>>()
    });
    assert_eq!(left, [12, 14, 15, 16, 17]);
}

#[tokio::test]
async fn without_ec2_or_github_no_runner_is_deleted() {
    let scene = Scene::made().await;
    scene.instance(1, State::Terminated, |_| ()).await;
    scene.fakes.with(|world| {
        world.machines.clear();
        world.runners = vec![runner(11, &format!("{}-4", id(1)))];
    });
    for source in ["machines", "runners"] {
        scene.fakes.with(|world| world.broken = Some(source));
        let report = scene.run().await;
        assert_eq!(report.planned, [], "{source}");
        assert_eq!(report.failed.len(), 1, "{source}");
    }
}
