//! One machine: the real loop, real processes, and a table in memory.

use std::{fs, os::unix::fs::PermissionsExt, sync::Arc, time::Duration};

use agent::{
    host::{Machinery, System, make_private},
    imds::Imds,
    power::PowerProgram,
    run::{World, run},
    status::StatusFile,
};
use proto::{
    agent_config::{AgentConfig, JobRules},
    ids::{InstanceArn, Label},
    instance::{InstanceRecord, Secret},
    signal::Signal,
    state::Transition,
    table::{Outcome, Table, memory::MemoryTable},
    time::{Clock, SystemClock},
};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::oneshot,
    task::JoinHandle,
    time::Instant,
};

/// How long anything may take here: these tests clean the computer they run on, which may be busy
/// and have very many files.
pub(crate) const PATIENCE: Duration = Duration::from_mins(2);

/// A machine in a folder, with a runner that the test brings.
pub(crate) struct Life {
    folder: tempfile::TempDir,
    pub(crate) table: Arc<MemoryTable>,
    pub(crate) arn: InstanceArn,
    pub(crate) user: String,
    pub(crate) system: System,
    pub(crate) jobs: JobRules,
}

impl Drop for Life {
    /// A machine that is gone takes its kernel's memory along; this one's kernel is the test's.
    fn drop(&mut self) {
        // What a test that failed has left running.
        let mark = format!("PADDOCK_MACHINE={}", self.arn.id());
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let environment = fs::read(entry.path().join("environ")).unwrap_or_default();
            let marked = environment
                .split(|byte| *byte == 0)
                .any(|entry| entry == mark.as_bytes());
            if let Some(pid) = entry.file_name().to_str().filter(|_| marked) {
                let _ = std::process::Command::new("kill")
                    .args(["-KILL", pid])
                    .status();
            }
        }
        let slice = format!("paddock_{}.slice", self.arn.id().as_str().replace('-', ""));
        for root in ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"] {
            // There is none unless the agent could make one.
            let _ = fs::remove_dir(std::path::Path::new(root).join(&slice));
        }
    }
}

pub(crate) type Agent = (JoinHandle<()>, oneshot::Sender<()>);

impl Life {
    pub(crate) fn new(runner: &str) -> Self {
        // Fails when there is one already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        // As the agent's program does. Else the runner would inherit that SIGINT is ignored where
        // these tests run in the background of a shell, and not stop when asked to.
        drop(signal(SignalKind::interrupt()).unwrap());
        let folder = tempfile::tempdir().unwrap();
        // Nobody else's: what the agent does to its machine's processes is done by this name.
        let id = std::process::id();
        let arn = format!("arn:aws:ec2:us-east-1:123456789012:instance/i-{id:017x}");
        let life = Self {
            folder,
            table: Arc::new(MemoryTable::default()),
            arn: InstanceArn::try_from(arn).unwrap(),
            user: String::new(),
            system: System {
                // Not this computer's own.
                sudoers: "/no/such/folder".into(),
                ..System::default()
            },
            jobs: JobRules::default(),
        };
        fs::create_dir_all(life.path("runner/bin")).unwrap();
        fs::create_dir(life.path("run")).unwrap();
        life.program("runner/bin/Runner.Listener", runner);
        let off = format!("#!/bin/sh\n: >{}\n", life.path("off").display());
        life.program("poweroff", &off);
        make_private(&life.path("state")).unwrap();
        life
    }

    pub(crate) fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn program(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o755)).unwrap();
    }

    pub(crate) fn start(&self) -> Agent {
        let marker = self.path("script-ran");
        let config: AgentConfig = serde_json::from_value(serde_json::json!({
            "v": 1, "pool": "p", "table": "t", "region": "r", "githubUrl": "https://github.com/a/b",
            "jobs": self.jobs, "preRunnerScript": format!("echo ran >>{}", marker.display()),
            "times": { "heartbeat": 0.2, "look": 0.02 },
        }))
        .unwrap();
        let world = World {
            table: self.table.clone(),
            host: Arc::new(Machinery {
                state_dir: self.path("state"),
                runner_dir: self.path("runner"),
                runner_user: self.user.clone(),
                system: self.system.clone(),
                instance: self.arn.id().clone(),
                docker: None,
                jobs_may_use_role: false,
                jobs: self.jobs.clone(),
                post_release_within: Duration::from_secs(10),
            }),
            metadata: Arc::new(Imds::new("http://127.0.0.1:9").unwrap()),
            power: Arc::new(PowerProgram::new(self.path("poweroff"))),
            clock: Arc::new(SystemClock),
            machine_clock: Arc::new(SystemClock),
            started: Instant::now(),
        };
        let (stop, stopped) = oneshot::channel();
        let (arn, status) = (self.arn.clone(), StatusFile::of(&self.path("run")));
        let agent = tokio::spawn(async move {
            let stopped = async { drop(stopped.await) };
            run(world, config, arn, &status, stopped).await;
        });
        (agent, stop)
    }

    pub(crate) async fn insert(&self) {
        let now = SystemClock.now();
        let record = serde_json::from_value(serde_json::json!({
            "pk": self.arn, "state": "created", "generation": 1, "since": now, "createdAt": now,
            "resourceClass": "large", "instanceType": "m6i.large", "zone": "us-east-1a",
            "usageClass": "on-demand", "cpu": 2, "mmem": 4096, "templateVersion": 1,
            "threshold": now + Duration::from_mins(5),
        }))
        .unwrap();
        self.table.insert_instance(&record).await.unwrap();
    }

    /// Lets the machine boot and be pooled.
    pub(crate) async fn pool(&self) {
        self.insert().await;
        self.until("booted", |r| r.says(Signal::Ok)).await;
        self.step(Transition::Pool {
            generation: 1,
            healthy_within: Duration::from_secs(15),
            idle_time: Duration::from_mins(7),
        })
        .await;
        self.until("known to be clean", |r| r.says(Signal::RemoveRegOk))
            .await;
    }

    pub(crate) async fn step(&self, step: Transition) -> InstanceRecord {
        let change = step.change(SystemClock.now());
        match self
            .table
            .change_instance(&self.arn, &change)
            .await
            .unwrap()
        {
            Outcome::Applied(record) => record,
            Outcome::Conflict(record) => panic!("{step:?} of {record:?}"),
        }
    }

    pub(crate) async fn record(&self) -> InstanceRecord {
        self.table.instance(&self.arn).await.unwrap().unwrap()
    }

    pub(crate) async fn until(&self, what: &str, reached: impl Fn(&InstanceRecord) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !reached(&self.record().await) {
            assert!(
                Instant::now() < deadline,
                "not {what}: {:?}",
                self.record().await
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

pub(crate) fn claim(label: &Label) -> Transition {
    Transition::Claim {
        label: label.clone(),
        token: Secret::new("register"),
        timeout: Duration::from_secs(30),
    }
}

/// While a job runs there is no token to see.
pub(crate) fn release(label: &Label, token: Option<&str>) -> Transition {
    Transition::Release {
        label: label.clone(),
        generation: None,
        token: token.map(Secret::new),
        idle_time: Duration::from_mins(7),
    }
}
