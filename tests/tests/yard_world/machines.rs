//! Machines with shell scripts in place of the agent.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nix::sys::signal::Signal;
use tempfile::TempDir;
use tests::yard::aws::{Launch, MachineEvent};
use tests::yard::imds::{access_key_of, instance_of};
use tests::yard::machines::{Cloud, MachineView, Machines, Phase, Settings};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use crate::kit::{PATIENCE, eventually, http, read};

const ID: &str = "i-0123456789abcdef0";

/// Notes what it is told.
#[derive(Default)]
struct Notes(Mutex<Vec<String>>);

impl Cloud for Notes {
    fn machine_running(&self, id: &str) {
        self.0.lock().unwrap().push(format!("running {id}"));
    }

    fn machine_stopped(&self, id: &str) {
        self.0.lock().unwrap().push(format!("stopped {id}"));
    }
}

/// Machines alone, with a script as agent.
struct World {
    machines: Machines,
    events: UnboundedSender<MachineEvent>,
    notes: Arc<Notes>,
    folder: TempDir,
}

impl World {
    fn new(agent: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let agent_binary = folder.path().join("agent");
        std::fs::write(&agent_binary, format!("#!/bin/bash\n{agent}\n")).unwrap();
        std::fs::set_permissions(&agent_binary, PermissionsExt::from_mode(0o755)).unwrap();
        let notes = Arc::<Notes>::default();
        let (events, received) = unbounded_channel();
        let settings = Settings {
            world: folder.path().to_owned(),
            world_id: folder.path().display().to_string(),
            aws_url: "http://127.0.0.1:1".to_owned(),
            hollow: false,
            boot: Duration::from_millis(50),
            configure: Duration::from_millis(7),
            deregister: Duration::ZERO,
            agent_binary,
            runner_binary: PathBuf::from(env!("CARGO_BIN_EXE_runner-standin")),
        };
        Self {
            machines: Machines::start(settings, Arc::<Notes>::clone(&notes), received),
            events,
            notes,
            folder,
        }
    }

    fn launch(&self, change: impl FnOnce(&mut Launch)) {
        // Tests share a computer, and the id is what a machine's processes are found by.
        let mut launch = launch(self.id());
        change(&mut launch);
        self.events.send(MachineEvent::Launched(launch)).unwrap();
    }

    fn id(&self) -> String {
        let name = self.folder.path().file_name().unwrap().to_string_lossy();
        format!("i-{}", name.trim_start_matches('.'))
    }

    fn terminate(&self) {
        let id = self.id();
        self.events.send(MachineEvent::Terminated { id }).unwrap();
    }

    async fn reaches(&self, reached: impl Fn(&MachineView) -> bool) -> MachineView {
        let all = self
            .machines
            .wait(PATIENCE, |all| all.iter().any(&reached))
            .await
            .unwrap();
        all.into_iter().next().unwrap()
    }

    async fn file(&self, name: &str) -> String {
        let path = self.machines.get(&self.id()).unwrap().folder.join(name);
        eventually(name, || read(&path).ends_with('\n')).await;
        read(&path)
    }

    fn assert_gone(&self) {
        assert_eq!(self.machines.processes(&self.id()), []);
        let id = self.id();
        assert_eq!(
            *self.notes.0.lock().unwrap(),
            [format!("running {id}"), format!("stopped {id}")]
        );
    }
}

impl Drop for World {
    fn drop(&mut self) {
        tests::yard::kill_world(&self.folder.path().display().to_string());
    }
}

fn launch(id: String) -> Launch {
    Launch {
        arn: format!("arn:aws:ec2:eu-central-1:123456789012:instance/{id}"),
        id,
        region: "eu-central-1".to_owned(),
        account: "123456789012".to_owned(),
        zone: "eu-central-1a".to_owned(),
        instance_type: "m6i.large".to_owned(),
        image_id: "ami-baked".to_owned(),
        spot: true,
        user_data: b"{}".to_vec(),
        tags: BTreeMap::from([("paddock:pool".to_owned(), "acme-widgets".to_owned())]),
        instance_profile: Some("arn:aws:iam::123456789012:instance-profile/machine".to_owned()),
    }
}

#[tokio::test]
async fn a_machine_lives_until_it_powers_off() {
    let world = World::new(
        "echo \"$@\"; env > environment; echo >> environment; \
         until [ -e gate ]; do sleep 0.02; done; $PADDOCK_POWEROFF; sleep 1000",
    );
    world.launch(|_| {});
    let up = world.reaches(|machine| machine.pid.is_some()).await;
    assert!(up.alive());
    let environment = world.file("environment").await;
    assert!(environment.contains("PADDOCK_YARD_CONFIGURE_MS=7\n"));
    assert!(environment.contains("AWS_ENDPOINT_URL=http://127.0.0.1:1\n"));
    assert!(environment.contains(&format!("http://127.0.0.1:{}\n", up.imds_port)));
    assert!(!environment.contains("CARGO"), "{environment}");
    assert!(up.folder.join("runner/bin/Runner.Worker").exists());
    std::fs::write(up.folder.join("gate"), "").unwrap();
    let off = world
        .reaches(|machine| machine.phase == Phase::PoweredOff)
        .await;
    assert!(!off.alive());
    assert_eq!(world.machines.console(&world.id()), "run\n");
    eventually("the cloud knows", || {
        world.notes.0.lock().unwrap().len() == 2
    })
    .await;
    world.assert_gone();
}

#[tokio::test]
async fn termination_finds_daemons() {
    let world = World::new(
        "(setsid bash -c 'setsid sleep 1000 & setsid env -i sleep 1000 & wait' &)\n\
         echo ready > ready; exec sleep 1000",
    );
    world.launch(|_| {});
    world.reaches(|machine| machine.pid.is_some()).await;
    world.file("ready").await;
    eventually("all four run", || {
        world.machines.processes(&world.id()).len() == 4
    })
    .await;
    world.terminate();
    world
        .reaches(|machine| machine.phase == Phase::Terminated)
        .await;
    eventually("the cloud knows", || {
        world.notes.0.lock().unwrap().len() == 2
    })
    .await;
    world.assert_gone();
}

#[tokio::test]
async fn a_crashed_agent_is_started_again() {
    let world = World::new("echo started; exec sleep 1000");
    world.launch(|_| {});
    let first = world.reaches(|machine| machine.pid.is_some()).await;
    assert!(world.machines.kill_agent(&world.id(), Signal::SIGKILL));
    let second = world
        .reaches(|machine| machine.restarts == 1 && machine.pid.is_some())
        .await;
    assert_ne!(first.pid, second.pid);
    world.machines.stop().await;
    assert_eq!(world.machines.processes(&world.id()), []);
    assert!(!world.machines.kill_agent(&world.id(), Signal::SIGKILL));
}

#[tokio::test]
async fn a_bare_image_runs_its_user_data() {
    let world = World::new("echo never");
    world.launch(|launch| {
        launch.image_id = "ami-bare-1".to_owned();
        launch.user_data = b"echo $PADDOCK_HOME; exec sleep 1000".to_vec();
    });
    let up = world.reaches(|machine| machine.pid.is_some()).await;
    let home = format!("{}\n", up.folder.join("opt").display());
    assert_eq!(world.file("console.log").await, home);
    assert!(up.folder.join("runner/bin/Runner.Listener").exists());
    world.machines.stop().await;
}

#[tokio::test]
async fn a_machine_has_metadata() {
    let world = World::new("exec sleep 1000");
    world.launch(|_| {});
    let up = world.reaches(|machine| machine.pid.is_some()).await;
    let base = format!("http://127.0.0.1:{}/latest", up.imds_port);
    let client = http();
    let refused = client
        .get(format!("{base}/user-data"))
        .send()
        .await
        .unwrap();
    assert_eq!(refused.status(), 401);
    let no_ttl = client
        .put(format!("{base}/api/token"))
        .send()
        .await
        .unwrap();
    assert_eq!(no_ttl.status(), 400);
    let token = client
        .put(format!("{base}/api/token"))
        .header("X-aws-ec2-metadata-token-ttl-seconds", "60")
        .send()
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    let get = async |path: &str| {
        let response = client
            .get(format!("{base}/{path}"))
            .header("X-aws-ec2-metadata-token", &token)
            .send()
            .await
            .unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    };
    assert_eq!(get("meta-data/instance-id").await, (200, world.id()));
    assert_eq!(get("user-data").await, (200, "{}".to_owned()));
    assert_eq!(
        get("meta-data/tags/instance/paddock:pool").await,
        (200, "acme-widgets".to_owned())
    );
    assert_eq!(get("meta-data/tags/instance/other").await.0, 404);
    let document = get("dynamic/instance-identity/document").await.1;
    let document: serde_json::Value = serde_json::from_str(&document).unwrap();
    assert_eq!(document["accountId"], "123456789012");
    let roles = "meta-data/iam/security-credentials";
    assert_eq!(get(&format!("{roles}/")).await, (200, "machine".to_owned()));
    let credentials = get(&format!("{roles}/machine")).await.1;
    assert!(credentials.contains(&access_key_of(&world.id())));

    for (path, announce) in [
        (
            "meta-data/spot/instance-action",
            Machines::interrupt_spot as fn(&Machines, &str) -> bool,
        ),
        (
            "meta-data/events/recommendations/rebalance",
            Machines::rebalance,
        ),
    ] {
        assert_eq!(get(path).await.0, 404);
        assert!(announce(&world.machines, &world.id()));
        assert_eq!(get(path).await.0, 200);
    }
    world.machines.stop().await;
}

#[test]
fn an_access_key_tells_the_machine() {
    assert_eq!(access_key_of(ID), "ASIA0123456789ABCDEF0");
    assert_eq!(instance_of(&access_key_of(ID)).as_deref(), Some(ID));
    assert_eq!(instance_of("AKIAYARD"), None);
}
