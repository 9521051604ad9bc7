//! The script, really run by a shell.

use std::{
    fmt::Write as _,
    fs,
    io::{BufRead, BufReader, Write as _},
    net::TcpListener,
    path::Path,
    process::{Command, Output, Stdio},
};

use proto::agent_config::{AgentConfig, Download, Downloads};
use sha2::{Digest, Sha256};
use userdata::render;

const AGENT: &str = "#!/bin/sh\necho \"agent $*\"\n";

fn config() -> AgentConfig {
    let text = r#"{"v":1,"pool":"p","table":"t","region":"r","githubUrl":"u",
        "preRunnerScript":"echo harm\nPADDOCK_CONFIGURATION\necho harm; exit 3\n"}"#;
    serde_json::from_str(text).unwrap()
}

/// Serves one file to everybody, for as long as the test runs.
fn serve() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/agent", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let lines = BufReader::new(stream.try_clone().unwrap()).lines();
            for line in lines {
                if line.unwrap().is_empty() {
                    break;
                }
            }
            let length = AGENT.len();
            write!(
                stream,
                "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{AGENT}"
            )
            .unwrap();
        }
    });
    url
}

fn download(sha256: &str) -> Downloads {
    let download = Download {
        url: serve(),
        sha256: sha256.to_owned(),
    };
    Downloads {
        x86_64: download.clone(),
        aarch64: download,
    }
}

fn right_sum() -> String {
    let sum = Sha256::digest(AGENT.as_bytes());
    sum.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

fn run(shell: &str, home: &Path, agent: Option<&Downloads>, option: &str) -> Output {
    let script = home.join("user-data");
    fs::write(&script, render(&config(), agent).unwrap()).unwrap();
    Command::new(shell)
        .args((!option.is_empty()).then_some(option))
        .arg(&script)
        .env("PADDOCK_HOME", home)
        .env("no_proxy", "127.0.0.1")
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_bare_image_fetches_checks_and_starts_the_agent() {
    for shell in ["sh", "bash"] {
        let home = tempfile::tempdir().unwrap();
        let agent = download(&right_sum());
        for _ in ["fetched", "there already"] {
            let output = run(shell, home.path(), Some(&agent), "");
            assert_eq!(
                String::from_utf8_lossy(&output.stdout),
                "agent run\n",
                "{shell}: {}",
                stderr(&output)
            );
        }
        assert_eq!(fs::read_dir(home.path().join("bin")).unwrap().count(), 1);
    }
}

#[test]
fn an_agent_with_the_wrong_sum_is_never_started() {
    let home = tempfile::tempdir().unwrap();
    let output = run("sh", home.path(), Some(&download(&"0".repeat(64))), "");
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty());
    assert!(stderr(&output).contains("SHA-256"), "{}", stderr(&output));
    assert_eq!(fs::read_dir(home.path().join("bin")).unwrap().count(), 0);
}

#[test]
fn an_agent_that_is_not_to_be_had_is_named() {
    let home = tempfile::tempdir().unwrap();
    let mut agent = download(&right_sum());
    for download in [&mut agent.x86_64, &mut agent.aarch64] {
        download.url = "file:///no/such/agent".to_owned();
    }
    let output = run("sh", home.path(), Some(&agent), "");
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("cannot fetch the agent from file:///no/such/agent"));
}

#[test]
fn without_a_download_a_bare_image_says_that_it_has_no_agent() {
    let home = tempfile::tempdir().unwrap();
    let output = run("sh", home.path(), None, "");
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("carries no agent"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn shells_can_read_it() {
    let home = tempfile::tempdir().unwrap();
    for shell in ["sh", "bash"] {
        for agent in [None, Some(&download("it's"))] {
            let output = run(shell, home.path(), agent, "-n");
            assert!(output.status.success(), "{shell}: {}", stderr(&output));
        }
    }
}
