//! Whole refreshes on the world in memory. Each ends with a second run that plans nothing.

mod config;
mod floor;
mod forge;
mod machines;
mod queues;

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
    ClassSpec, Failed, RefreshSettings, Refused, Report,
    bounds::IdleRules,
    ending,
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
            image_is_input: true,
            runner: None,
            ephemeral: false,
            classes: vec![class("large", 2, 4096), class("xlarge", 4, 8192)],
            parameters: Parameters {
                subnet_ids: vec!["subnet-1".into()],
                idle_time_sec: 420,
                keeps_idle: false,
                max_jobs: None,
                max_age_sec: None,
                max_runtime_sec: 1800,
                claim_timeout_sec: 30,
                fleet_timeout_sec: 180,
                release_timeout_sec: 120,
                healthy_within_sec: 15,
                metrics: false,
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
