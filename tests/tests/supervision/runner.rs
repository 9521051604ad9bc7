//! Runners that update themselves, hang, or come over a line that breaks.

use std::{
    fs,
    net::SocketAddr,
    process::Command,
    sync::{Arc, Mutex},
    time::Duration,
};

use proto::{
    agent_config::{Download, Downloads, RunnerRelease},
    signal::Signal,
};
use sha2::{Digest, Sha256};
use tests::pool::Pool;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::machine;

/// What all of them do, the listener itself aside.
const SHORT: &str = r#"#!/bin/bash
home=$(dirname "$(dirname "$0")")
say() { echo "2026-11-21 04:05:06Z: $*"; }
wait_for() { until [ -e "$home/../$1" ]; do sleep 0.05; done; }
case "$1" in
--version) echo 2.336.0 ;;
configure) echo '{}' >"$home/.runner" ;;
remove) rm -f "$home/.runner" ;;
run)
trap 'exit 0' INT
"#;

pub(crate) fn runner(listener: &str) -> String {
    format!("{SHORT}{listener}\n;; esac\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runner_that_updates_itself_is_started_again_when_that_is_done() {
    let pool = Pool::new(Duration::ZERO).await;
    let mut machine = machine(&pool, |_, _| ()).await;
    machine.replace_runner(&runner(
        r#"if [ ! -e "$home/../updating" ]; then
             touch "$home/../updating"
             exit 3
           fi
           [ -e "$home/../updated" ] || touch "$home/../too-early"
           say Listening for Jobs
           while :; do sleep 0.1; done"#,
    ));
    machine.start(&[]);
    machine
        .until("the listener has ended", |machine| {
            machine.console().contains("the runner updates itself")
        })
        .await;
    // The update goes on without the listener, and takes its time.
    tokio::time::sleep(Duration::from_secs(1)).await;
    fs::write(machine.path("updated"), "").expect("written");
    fs::write(machine.path("runner/update.finished"), "").expect("written");
    machine
        .until_record(&pool, "registered", |record| record.says(Signal::RegOk))
        .await;
    assert!(!machine.path("too-early").exists());
    assert!(!machine.path("runner/update.finished").exists());
    pool.yard.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runner_that_hangs_is_reported_in_record_and_status() {
    let pool = Pool::new(Duration::ZERO).await;
    let mut machine = machine(&pool, |config, _| config.times.worker = 2.0).await;
    let worker = machine.path("runner/bin/Runner.Worker");
    fs::remove_file(&worker).expect("removed");
    fs::copy("/bin/sleep", &worker).expect("copied");
    machine.replace_runner(&runner(
        r#"say Listening for Jobs
           wait_for job
           say Running job: build
           wait_for worker
           say Job build completed with result: Succeeded
           "$home/bin/Runner.Worker" 600 &
           wait_for silence
           kill $!
           while :; do sleep 0.1; done"#,
    ));
    machine.start(&[]);
    machine
        .until_record(&pool, "registered", |record| record.says(Signal::RegOk))
        .await;
    let go = |step: &str| fs::write(machine.path(step), "").expect("written");
    let reported = async |reason: &str| {
        machine
            .until_record(&pool, reason, |record| {
                record.unhealthy().is_some_and(|told| told.contains(reason))
            })
            .await;
        let status = machine.run(&["status"]).await;
        assert_eq!(status.status.code(), Some(1), "{status:?}");
        let text = String::from_utf8_lossy(&status.stdout).into_owned();
        assert!(text.contains(reason), "{text}");
    };
    go("job");
    reported("took the job `build` and has no worker for it").await;
    go("worker");
    reported("worker outlives its job").await;
    go("silence");
    machine
        .until_record(&pool, "well", |record| record.unhealthy().is_none())
        .await;
    // What it last wrote is an hour old.
    let log = machine.path("state/listener.log");
    let touched = Command::new("touch")
        .args(["--date", "1 hour ago"])
        .arg(log)
        .status();
    assert!(touched.is_ok_and(|status| status.success()));
    reported("the listener is silent").await;
    pool.yard.stop().await;
}

/// Where each connection began to read.
type Begins = Arc<Mutex<Vec<usize>>>;

/// Serves bytes as a web server does whose connections break: each brings so many.
async fn broken_line(bytes: Vec<u8>, each: usize, begins: Begins) -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut question = vec![0; 4096];
            let length = stream.read(&mut question).await.unwrap_or_default();
            let question = String::from_utf8_lossy(&question[..length]).to_lowercase();
            let from = question
                .split_once("range: bytes=")
                .and_then(|(_, rest)| rest.split_once('-')?.0.parse().ok())
                .unwrap_or(0);
            begins.lock().expect("no panic").push(from);
            let rest = &bytes[from..];
            let all = bytes.len();
            let status = if from == 0 {
                "200 OK".to_owned()
            } else {
                let last = all - 1;
                format!("206 Partial Content\r\ncontent-range: bytes {from}-{last}/{all}")
            };
            let length = rest.len();
            let head = format!(
                "HTTP/1.1 {status}\r\netag: \"one\"\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n"
            );
            let _ = stream.write_all(head.as_bytes()).await;
            let _ = stream.write_all(&rest[..length.min(each)]).await;
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_boots_over_a_line_that_breaks_even_when_its_agent_is_killed_meanwhile() {
    let pool = Pool::new(Duration::ZERO).await;
    let folder = tempfile::tempdir().expect("a folder");
    let made = Command::new("sh")
        .current_dir(folder.path())
        .args(["-ec", "mkdir bin; printf '%s' \"$0\" >bin/Runner.Listener; chmod +x bin/Runner.Listener; head -c 3000000 /dev/urandom >bin/large; tar -czf all.tar.gz bin"])
        .arg(runner("say Listening for Jobs; while :; do sleep 0.1; done").replace("2.336.0", "2.337.0"))
        .status();
    assert!(made.is_ok_and(|status| status.success()));
    let archive = fs::read(folder.path().join("all.tar.gz")).expect("an archive");
    let sha256 = Sha256::digest(&archive)
        .iter()
        .fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
    let begins = Begins::default();
    let address = broken_line(archive, 400_000, Begins::clone(&begins)).await;
    let download = || Download {
        url: format!("http://{address}/runner.tar.gz"),
        sha256: sha256.clone(),
    };
    let mut machine = machine(&pool, |config, _| {
        config.runner = Some(RunnerRelease {
            version: "2.337.0".to_owned(),
            downloads: Downloads {
                x86_64: download(),
                aarch64: download(),
            },
        });
    })
    .await;
    machine.replace_runner(&runner("exit 1"));
    machine.start(&[]);
    machine
        .until("a part has arrived", |machine| {
            fs::metadata(machine.path("state/runner.tar.part"))
                .is_ok_and(|part| part.len() > 1_000_000)
        })
        .await;
    machine.kill().await;
    let before = fs::metadata(machine.path("state/runner.tar.part"))
        .expect("a part")
        .len();
    machine.start(&[]);
    machine
        .until_record(&pool, "registered", |record| {
            record.says(Signal::RegOk)
                && record
                    .runner
                    .as_ref()
                    .is_some_and(|runner| runner.version == "2.337.0")
        })
        .await;
    let console = machine.console();
    assert!(
        console.contains("the runner program: 2 of 3 MB"),
        "{console}"
    );
    // From the beginning only once; the second agent went on where the first one was killed.
    let begins = begins.lock().expect("no panic").clone();
    assert!(begins.len() >= 8, "{begins:?}");
    assert_eq!(begins.iter().filter(|begin| **begin == 0).count(), 1);
    assert!(
        begins.iter().any(|begin| *begin as u64 >= before),
        "{before}: {begins:?}"
    );
    pool.yard.stop().await;
}
