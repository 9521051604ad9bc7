//! One machine's life: the real loop, real processes, and a table in memory.
//!
//! All of it is one test, for the agent takes every descendant of its process for a job's.

mod kit;

use std::{fs, path::Path, time::Duration};

use agent::status::Snapshot;
use kit::{Life, claim, release};
use proto::{
    change::Change,
    ids::Label,
    instance::Secret,
    signal::Signal,
    state::{State, Terminate, Transition},
    table::{Outcome, Table},
    time::{Clock, SystemClock},
};
use tokio::time::Instant;

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

fn is_running(pid_file: &Path) -> bool {
    let pid = fs::read_to_string(pid_file).unwrap();
    fs::read_to_string(format!("/proc/{}/stat", pid.trim()))
        .is_ok_and(|stat| !stat.contains(") Z "))
}

fn listener_of(life: &Life) -> i32 {
    let file = fs::read(life.path("state/runner.json")).unwrap();
    let saved: serde_json::Value = serde_json::from_slice(&file).unwrap();
    i32::try_from(saved["listener"]["pid"].as_i64().unwrap()).unwrap()
}

fn status(life: &Life) -> Snapshot {
    serde_json::from_slice(&fs::read(life.path("run/status.json")).unwrap()).unwrap()
}

fn commit(label: &Label, generation: u64) -> Transition {
    Transition::Commit {
        label: label.clone(),
        generation,
        healthy_within: Duration::from_secs(15),
        max_runtime: Duration::from_mins(30),
    }
}

#[tokio::test]
async fn a_machine_boots_serves_two_runs_survives_its_agent_and_goes() {
    let life = Life::new(RUNNER);
    // As its unit protects the agent from memory shortage. Only root may.
    let protected = fs::write("/proc/self/oom_score_adj", "-500").is_ok();
    let (agent, stop) = life.start();
    life.pool().await;
    let first: Label = "77".parse().unwrap();
    let claimed = life.step(claim(&first)).await;
    life.until("registered", |r| r.says(Signal::RegOk)).await;
    life.until("rid of the token", |r| r.token.is_none()).await;
    let options = fs::read_to_string(life.path("runner/.runner")).unwrap();
    let named = format!("--name {}-3 --labels 77 --no-default-labels", life.arn.id());
    assert!(options.contains(&named), "{options}");
    assert!(!options.contains("--token"), "{options}");
    life.step(commit(&first, claimed.generation)).await;

    fs::write(life.path("runner/job"), "").unwrap();
    life.until("at work", |r| r.job.is_some()).await;

    if protected {
        let listener = listener_of(&life);
        let score = fs::read_to_string(format!("/proc/{listener}/oom_score_adj")).unwrap();
        assert_eq!(score, "0\n", "the job goes before the agent");
    }

    // A new agent finds the listener with its job.
    stop.send(()).unwrap();
    agent.await.unwrap();
    let (agent, stop) = life.start();
    life.step(release(&first, None)).await;
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
    let shown = status(&life);
    assert_eq!(
        (shown.state, shown.phase.as_str()),
        (Some(State::Claimed), "listening")
    );
    assert!(shown.is_running() && shown.ailment(SystemClock.now()).is_none());
    assert!(
        !fs::read_to_string(life.path("run/status.json"))
            .unwrap()
            .contains("register\"")
    );

    life.step(Transition::Terminate {
        reason: "enough".into(),
        only: Terminate::Of(second),
    })
    .await;
    let deadline = Instant::now() + kit::PATIENCE;
    while !life.path("off").exists() {
        assert!(Instant::now() < deadline, "the machine does not go off");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(status(&life).phase.contains("enough"));
    stop.send(()).unwrap();
    agent.await.unwrap();
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(listener_of(&life)),
        nix::sys::signal::Signal::SIGKILL,
    )
    .unwrap();
}
