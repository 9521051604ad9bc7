//! The real program's command line.

use std::process::{Command, Output};

fn agent(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_agent"))
        .args(arguments)
        .output()
        .expect("the agent starts")
}

#[test]
fn status_says_that_no_agent_runs() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().to_str().unwrap();
    for arguments in [
        vec!["status", "--run-dir", run],
        vec!["status", "--json", "--run-dir", run],
    ] {
        let output = agent(&arguments);
        assert_eq!(output.status.code(), Some(3), "{output:?}");
        assert!(output.stdout.is_empty());
        assert!(String::from_utf8_lossy(&output.stderr).contains("no agent runs"));
    }
}

#[test]
fn what_makes_no_sense_is_a_usage_error() {
    for arguments in [vec!["run", "--no-such-flag"], vec!["dance"], vec![]] {
        assert_eq!(agent(&arguments).status.code(), Some(2), "{arguments:?}");
    }
}

#[test]
fn help_and_version_are_to_be_had() {
    let help = agent(&["--help"]);
    assert_eq!(help.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&help.stdout).contains("Exit codes"));
    let help = agent(&["run", "--help"]);
    assert!(String::from_utf8_lossy(&help.stdout).contains("PADDOCK_STATE_DIR"));
    let version = agent(&["version"]);
    assert_eq!(
        String::from_utf8_lossy(&version.stdout).trim(),
        env!("CARGO_PKG_VERSION")
    );
}

#[test]
fn every_field_of_status_is_documented_and_nothing_else_is() {
    let snapshot = agent::status::Snapshot::starting("waiting", None, None);
    let value = serde_json::to_value(snapshot).unwrap();
    let shown: std::collections::BTreeSet<&str> = value
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    let page = include_str!("../../docs/agent.md");
    let (_, table) = page.split_once("## `agent status --json`").unwrap();
    let (table, _) = table.split_once("\n## ").unwrap();
    let documented = table
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next())
        .collect();
    assert_eq!(shown, documented);
}

#[test]
fn drain_needs_a_running_agent() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    let output = agent(&["drain", "--state-dir", path, "--run-dir", path]);
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    assert!(!folder.path().join("drain").exists());
}
