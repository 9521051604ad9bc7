//! The agent under systemd: what its unit says, what the watchdog hears, what the journal keeps; and
//! what it makes of a runner that does odd things.

mod keeps;
mod runner;

use std::{
    collections::BTreeSet,
    fs,
    os::unix::net::UnixDatagram,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use proto::{
    agent_config::AgentConfig,
    instance::{InstanceRecord, Secret},
};
use tests::{
    lone::Lone,
    pool::{PATIENCE, Pool},
    yard::aws::{Fault, FaultKind},
};

fn runs(program: &str, arguments: &[&str]) -> bool {
    let ran = Command::new(program).args(arguments).output();
    ran.is_ok_and(|output| output.status.success())
}

/// Sees to it that systemd can be asked.
fn need_systemd() {
    if !runs("systemd-analyze", &["--version"]) {
        assert!(
            runs("apt-get", &["update"])
                && runs(
                    "apt-get",
                    &["-o", "DPkg::Lock::Timeout=300", "install", "-y", "systemd"]
                ),
            "this test needs Debian's package systemd; root installs it"
        );
    }
}

#[test]
fn systemd_understands_the_unit() {
    need_systemd();
    let unit = include_str!("../../../packaging/systemd/paddock-agent.service");
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("paddock-agent.service");
    // The program is not installed here.
    fs::write(&path, unit.replace("/opt/paddock/bin/agent", "/bin/true")).expect("written");
    let output = Command::new("systemd-analyze")
        .args(["verify", "--man=no"])
        .arg(&path)
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    // What it does not know it only warns of.
    assert!(!said.contains("paddock-agent.service"), "{said}");
}

/// systemd's own audit: whatever it finds open is closed, or the unit says why not.
#[test]
fn what_the_unit_leaves_open_it_justifies() {
    need_systemd();
    let unit = include_str!("../../../packaging/systemd/paddock-agent.service");
    let reasons: String = unit.lines().filter(|line| line.starts_with('#')).collect();
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("paddock-agent.service");
    fs::write(&path, unit.replace("/opt/paddock/bin/agent", "/bin/true")).expect("written");
    let output = Command::new("systemd-analyze")
        .args(["security", "--offline=true", "--no-pager", "--json=short"])
        .arg(&path)
        .output()
        .expect("it runs");
    let found: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout).expect("JSON");
    let open = found.iter().filter(|item| item["set"] == false);
    let names: BTreeSet<&str> = open
        .filter_map(|item| item["name"].as_str()?.split_inclusive('=').next())
        .collect();
    assert!(names.contains("User="), "{found:?}");
    for name in names {
        assert!(reasons.contains(name), "the unit does not justify {name}");
    }
}

/// What systemd's end of a socket heard.
struct Heard(UnixDatagram);

impl Heard {
    fn at(path: &Path) -> Self {
        let socket = UnixDatagram::bind(path).expect("a socket");
        socket.set_nonblocking(true).expect("a mode");
        Self(socket)
    }

    fn all(&self) -> Vec<String> {
        let mut buffer = vec![0; 65_536];
        let mut heard = Vec::new();
        while let Ok(length) = self.0.recv(&mut buffer) {
            heard.push(String::from_utf8_lossy(&buffer[..length]).into_owned());
        }
        heard
    }

    async fn until(&self, what: &str, is: impl Fn(&str) -> bool) -> String {
        let deadline = Instant::now() + PATIENCE;
        let mut heard = Vec::new();
        loop {
            heard.extend(self.all());
            if let Some(found) = heard.iter().find(|text| is(text)) {
                return found.clone();
            }
            assert!(
                Instant::now() < deadline,
                "not heard: {what}; only {heard:?}"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// A machine of a pool, whose record bears a label.
async fn machine(pool: &Pool, change: impl FnOnce(&mut AgentConfig, &mut InstanceRecord)) -> Lone {
    Lone::of(pool, |config, record| {
        record.label = Some("77".parse().expect("a label"));
        record.token = Some(Secret::new("register"));
        record.generation = 3;
        change(config, record);
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_watchdog_hears_of_progress_alone() {
    let pool = Pool::new(Duration::ZERO).await;
    let mut machine = machine(&pool, |_, _| ()).await;
    let path = machine.path("notify");
    let systemd = Heard::at(&path);
    let notify = path.display().to_string();
    machine.start(&[("NOTIFY_SOCKET", &notify), ("WATCHDOG_USEC", "2000000")]);
    systemd
        .until("ready", |text| text.contains("READY=1"))
        .await;
    systemd
        .until("a status", |text| text.contains("STATUS="))
        .await;
    for _ in 0..3 {
        systemd
            .until("fed", |text| text.contains("WATCHDOG=1"))
            .await;
    }
    // The table is gone: the loop turns, and that is not enough.
    let gone = FaultKind::Error {
        status: 400,
        code: "ResourceNotFoundException".to_owned(),
    };
    pool.yard
        .aws
        .inject(Fault::new("dynamodb", "*", gone).times(u32::MAX));
    tokio::time::sleep(Duration::from_secs(2)).await;
    systemd.all();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let heard = systemd.all();
    assert!(
        !heard.iter().any(|text| text.contains("WATCHDOG")),
        "{heard:?}"
    );
    pool.yard.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_line_in_the_journal_tells_whose_machine_it_is() {
    if !runs("unshare", &["--mount", "true"]) {
        eprintln!("skipped: this user may not give the agent a /run of its own");
        return;
    }
    let pool = Pool::new(Duration::ZERO).await;
    let machine = machine(&pool, |_, record| record.token = None).await;
    let path = machine.path("journal");
    let journal = Heard::at(&path);
    // The address of the journal is fixed, so the agent gets another /run.
    let script = "mount -t tmpfs tmpfs /run && mkdir -p /run/systemd/journal \
         && ln -s \"$0\" /run/systemd/journal/socket && exec \"$@\"";
    let agent = machine.command(&["run"]);
    let agent = agent.as_std();
    let mut inside = tokio::process::Command::new("unshare");
    inside
        .args(["--mount", "sh", "-c", script])
        .arg(&path)
        .arg(agent.get_program())
        .args(agent.get_args())
        .env_clear()
        .envs(
            agent
                .get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        )
        .env("JOURNAL_STREAM", "8:1")
        .kill_on_drop(true);
    let _running = inside.spawn().expect("it starts");
    let line = journal
        .until("registering", |text| {
            text.contains("the runner is not registered")
        })
        .await;
    for (name, value) in [
        ("INSTANCE", machine.arn().id().as_str()),
        ("LABEL", "77"),
        ("GENERATION", "3"),
        ("SYSLOG_IDENTIFIER", "paddock-agent"),
    ] {
        // Name, length as a number of eight bytes, value.
        let length = char::from(u8::try_from(value.len()).expect("short"));
        let field = format!("{name}\n{length}\0\0\0\0\0\0\0{value}\n");
        assert!(line.contains(&field), "{name} in {line:?}");
    }
    pool.yard.stop().await;
}
