//! One machine's life: the real loop, real processes, and a table in memory.
//!
//! All of it is one test, for the agent takes every descendant of its process for a job's.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, sync::Arc, time::Duration};

use agent::{
    host::{Machinery, make_private},
    imds::Imds,
    power::PowerProgram,
    run::{World, run},
    status::{Snapshot, StatusFile},
};
use proto::{
    agent_config::AgentConfig,
    change::Change,
    ids::{InstanceArn, Label},
    instance::{InstanceRecord, Secret},
    signal::Signal,
    state::{State, Terminate, Transition},
    table::{Outcome, Table, memory::MemoryTable},
    time::{Clock, SystemClock},
};
use tokio::{sync::oneshot, task::JoinHandle, time::Instant};

const ARN: &str = "arn:aws:ec2:us-east-1:123456789012:instance/i-0123456789abcdef0";

/// Behaves like the official runner, as far as this test needs: its job begins when `job` appears,
/// leaves a daemon behind, and harms the folder before it ends when `job` is gone.
const RUNNER: &str = r#"#!/bin/bash
home=$(dirname "$(dirname "$0")")
case "$1" in
--version) echo 2.336.0 ;;
configure)
  [ -f "$home/.runner" ] && { echo already configured >&2; exit 1; }
  [ "$ACTIONS_RUNNER_INPUT_TOKEN" = register ] || { echo bad token >&2; exit 1; }
  echo "$@" >"$home/.runner" ;;
remove)
  if [ "$2" != --local ]; then
    [ -f "$home/job" ] && { echo "422: it has a job" >&2; exit 1; }
    [ -f "$home/.runner" ] || { echo "its configuration is lost" >&2; exit 1; }
    kill -0 "$(cat "$home/../daemon")" 2>/dev/null && { echo "a daemon sees the token" >&2; exit 1; }
    [ "$ACTIONS_RUNNER_INPUT_TOKEN" = remove ] || { echo bad token >&2; exit 1; }
  fi
  rm -f "$home/.runner" ;;
run)
  [ -f "$home/.runner" ] || { echo not configured >&2; exit 1; }
  trap 'exit 0' INT
  say() { echo "2026-11-21 04:05:06Z: $*"; }
  say Listening for Jobs
  while :; do
    if [ -f "$home/job" ]; then
      say Running job: build
      mkdir -p "$home/_work/repository"
      (setsid bash -c 'echo $$ >"$0/../daemon"; exec sleep 600' "$home" &) >/dev/null
      while [ -f "$home/job" ]; do sleep 0.02; done
      rm "$home/.runner"
      echo BASH_ENV=harm >"$home/.env"
      say Job build completed with result: Succeeded
    fi
    sleep 0.02
  done ;;
esac
"#;

struct Life {
    folder: tempfile::TempDir,
    table: Arc<MemoryTable>,
    arn: InstanceArn,
}

type Agent = (JoinHandle<()>, oneshot::Sender<()>);

impl Life {
    fn new() -> Self {
        // Fails when there is one already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let folder = tempfile::tempdir().unwrap();
        let life = Self {
            folder,
            table: Arc::new(MemoryTable::default()),
            arn: InstanceArn::try_from(ARN.to_owned()).unwrap(),
        };
        fs::create_dir_all(life.path("runner/bin")).unwrap();
        life.program("runner/bin/Runner.Listener", RUNNER);
        let off = format!("#!/bin/sh\n: >{}\n", life.path("off").display());
        life.program("poweroff", &off);
        make_private(&life.path("state")).unwrap();
        life
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    fn program(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn start(&self) -> Agent {
        let marker = self.path("script-ran");
        let config: AgentConfig = serde_json::from_value(serde_json::json!({
            "v": 1, "pool": "p", "table": "t", "region": "r", "githubUrl": "https://github.com/a/b",
            "preRunnerScript": format!("echo ran >>{}", marker.display()),
            "times": { "heartbeat": 0.2, "look": 0.02 },
        }))
        .unwrap();
        let world = World {
            table: self.table.clone(),
            host: Arc::new(Machinery {
                state_dir: self.path("state"),
                runner_dir: self.path("runner"),
                runner_user: String::new(),
                instance: self.arn.id().clone(),
                docker: None,
            }),
            metadata: Arc::new(Imds::new("http://127.0.0.1:9").unwrap()),
            power: Arc::new(PowerProgram::new(self.path("poweroff"))),
            clock: Arc::new(SystemClock),
            machine_clock: Arc::new(SystemClock),
            started: Instant::now(),
        };
        let (stop, stopped) = oneshot::channel();
        let (arn, status) = (self.arn.clone(), StatusFile::of(&self.path("state")));
        let agent = tokio::spawn(async move {
            let stopped = async { drop(stopped.await) };
            run(world, config, arn, &status, stopped).await;
        });
        (agent, stop)
    }

    async fn insert(&self) {
        let now = SystemClock.now();
        let record = serde_json::from_value(serde_json::json!({
            "pk": ARN, "state": "created", "generation": 1, "since": now, "createdAt": now,
            "resourceClass": "large", "instanceType": "m6i.large", "zone": "us-east-1a",
            "usageClass": "on-demand", "cpu": 2, "mmem": 4096, "templateVersion": 1,
            "threshold": now + Duration::from_mins(5),
        }))
        .unwrap();
        self.table.insert_instance(&record).await.unwrap();
    }

    async fn step(&self, step: Transition) -> InstanceRecord {
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

    async fn record(&self) -> InstanceRecord {
        self.table.instance(&self.arn).await.unwrap().unwrap()
    }

    async fn until(&self, what: &str, reached: impl Fn(&InstanceRecord) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !reached(&self.record().await) {
            assert!(
                Instant::now() < deadline,
                "not {what}: {:?}",
                self.record().await
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn status(&self) -> Snapshot {
        serde_json::from_slice(&fs::read(self.path("state/status.json")).unwrap()).unwrap()
    }
}

fn claim(label: &Label) -> Transition {
    Transition::Claim {
        label: label.clone(),
        token: Secret::new("register"),
        timeout: Duration::from_secs(30),
    }
}

fn commit(label: &Label, generation: u64) -> Transition {
    Transition::Commit {
        label: label.clone(),
        generation,
        healthy_within: Duration::from_secs(15),
        max_runtime: Duration::from_mins(30),
    }
}

/// As a job runs, without the token.
fn release(label: &Label) -> Transition {
    Transition::Release {
        label: label.clone(),
        generation: None,
        token: None,
        idle_time: Duration::from_mins(7),
    }
}

fn is_running(pid_file: &Path) -> bool {
    let pid = fs::read_to_string(pid_file).unwrap();
    fs::read_to_string(format!("/proc/{}/stat", pid.trim()))
        .is_ok_and(|stat| !stat.contains(") Z "))
}

#[tokio::test]
async fn a_machine_boots_serves_two_runs_survives_its_agent_and_goes() {
    let life = Life::new();
    let (agent, stop) = life.start();
    life.insert().await;
    life.until("booted", |r| r.says(Signal::Ok)).await;
    life.step(Transition::Pool {
        generation: 1,
        healthy_within: Duration::from_secs(15),
        idle_time: Duration::from_mins(7),
    })
    .await;

    life.until("known to be clean", |r| r.says(Signal::RemoveRegOk))
        .await;
    let first: Label = "77".parse().unwrap();
    let claimed = life.step(claim(&first)).await;
    life.until("registered", |r| r.says(Signal::RegOk)).await;
    life.until("rid of the token", |r| r.token.is_none()).await;
    let options = fs::read_to_string(life.path("runner/.runner")).unwrap();
    assert!(options.contains("--name i-0123456789abcdef0-3 --labels 77 --no-default-labels"));
    assert!(!options.contains("--token"), "{options}");
    life.step(commit(&first, claimed.generation)).await;

    fs::write(life.path("runner/job"), "").unwrap();
    life.until("at work", |r| r.job.is_some()).await;

    // A new agent finds the listener with its job.
    stop.send(()).unwrap();
    agent.await.unwrap();
    let (agent, stop) = life.start();
    life.step(release(&first)).await;
    let seen = SystemClock.now();
    life.until("seen by the new agent", |r| r.heartbeat > Some(seen))
        .await;
    assert!(life.record().await.job.is_some());
    assert!(is_running(&life.path("daemon")));

    fs::remove_file(life.path("runner/job")).unwrap();
    life.until("its job is over", |r| r.job.is_none()).await;
    let generation = life.record().await.generation;
    let hand = Change::hand_token(generation, Secret::new("remove"));
    let handed = life.table.change_instance(&life.arn, &hand).await.unwrap();
    assert!(matches!(handed, Outcome::Applied(_)), "{handed:?}");
    life.until("clean", |r| r.says(Signal::RemoveRegOk)).await;
    assert!(!is_running(&life.path("daemon")));
    assert!(!life.path("runner/_work").exists() && !life.path("runner/.runner").exists());
    assert!(!life.path("runner/.env").exists());
    assert_eq!(life.record().await.job, None);
    assert_eq!(
        fs::read_to_string(life.path("script-ran")).unwrap(),
        "ran\n"
    );

    let second: Label = "78-gpu".parse().unwrap();
    life.step(claim(&second)).await;
    life.until("registered again", |r| r.says(Signal::RegOk))
        .await;
    let status = life.status();
    assert_eq!(
        (status.state, status.phase.as_str()),
        (Some(State::Claimed), "listening")
    );
    assert!(status.is_running() && status.ailment(SystemClock.now()).is_none());
    assert!(
        !fs::read_to_string(life.path("state/status.json"))
            .unwrap()
            .contains("register\"")
    );

    life.step(Transition::Terminate {
        reason: "enough".into(),
        only: Terminate::Of(second),
    })
    .await;
    let deadline = Instant::now() + Duration::from_secs(20);
    while !life.path("off").exists() {
        assert!(Instant::now() < deadline, "the machine does not go off");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(life.status().phase.contains("enough"));
    stop.send(()).unwrap();
    agent.await.unwrap();
    let listener: serde_json::Value =
        serde_json::from_slice(&fs::read(life.path("state/runner.json")).unwrap()).unwrap();
    let pid = i32::try_from(listener["listener"]["pid"].as_i64().unwrap()).unwrap();
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(pid),
        nix::sys::signal::Signal::SIGKILL,
    )
    .unwrap();
}
