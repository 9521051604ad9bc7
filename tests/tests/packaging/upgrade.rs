//! An upgrade of the agent's package in a Debian of its own, while a job runs there.

use std::{fs, os::unix::fs::PermissionsExt};

use nix::sys::signal::Signal;
use tests::{
    pool::{PATIENCE, Pool},
    yard::github::{Conclusion, Job},
};

use crate::packages::{Debian, Stage, root};

/// The agent as systemd has it: the installed program, in that Debian.
const AGENT: &str = r#"#!/bin/sh
# A namespace of its own: what is mounted goes with it. No systemd runs there.
exec unshare --mount sh -ec '
    debian=$0 target=$1 && shift
    mkdir -p "$debian$target"
    mount --bind "$target" "$debian$target"
    mount -t proc proc "$debian/proc"
    mount -t tmpfs run "$debian/run"
    exec chroot "$debian" /opt/paddock/bin/agent "$@"
' '@DEBIAN@' '@TARGET@' "$@"
"#;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "two minutes, as root, with debootstrap: .ci/run does it"]
async fn a_job_outlives_an_upgrade_of_the_agents_package() {
    let debian = tokio::task::spawn_blocking(|| {
        let debian = Debian::new();
        debian.install(&Stage::new("1.0.0").deb());
        debian
    });
    let debian = debian.await.expect("a Debian");
    assert_eq!(debian.asked_of_systemd(), ["start"]);

    let agent = debian.at("/agent");
    // Machines have their folders in here, and the runner stand-in its program.
    let target = root().join("target").canonicalize().expect("there");
    let script = AGENT
        .replace("@DEBIAN@", &debian.at("/").display().to_string())
        .replace("@TARGET@", &target.display().to_string());
    fs::write(&agent, script).expect("written");
    fs::set_permissions(&agent, fs::Permissions::from_mode(0o755)).expect("set");
    let pool = Pool::with(|settings| settings.agent_binary = agent).await;
    let step = pool.provision(7, "1").await;
    assert_eq!(step.code, 0, "{}", step.log);
    let machine = step.machines().remove(0);

    let (begun, end) = ("/begun", "/end");
    let job = pool.yard.github.enqueue(Job {
        run_id: 7,
        labels: vec!["7".to_owned()],
        // In that Debian: there is an agent installed.
        steps: vec![format!(
            "test -x /opt/paddock/bin/agent; : > {begun}; \
             for _ in $(seq 600); do [ -e {end} ] && exit; sleep 0.1; done; exit 1"
        )],
        ..Job::default()
    });
    pool.until("the job runs", || debian.at(begun).exists())
        .await;

    let upgraded = tokio::task::spawn_blocking(|| {
        debian.install(&Stage::new("1.1.0").deb());
        debian
    });
    let debian = upgraded.await.expect("upgraded");
    assert_eq!(debian.asked_of_systemd(), ["restart"]);
    // What systemd does then, with KillMode=process.
    assert!(pool.yard.machines.kill_agent(&machine, Signal::SIGTERM));
    let restarted = pool.yard.machines.wait(PATIENCE, |all| {
        all.iter()
            .any(|machine| machine.restarts == 1 && machine.pid.is_some())
    });
    restarted.await.expect("the new agent runs");
    fs::write(debian.at(end), "").expect("written");
    let job = pool.yard.github.wait_job(job, PATIENCE).await;
    assert_eq!(job.expect("it ends").conclusion, Some(Conclusion::Success));
    let step = pool.run(7).step("release", &[]).await.expect("it runs");
    assert!(step.log.contains("1 back in the pool"), "{}", step.log);
    pool.until_alive(1).await;
    pool.yard.stop().await;
}
