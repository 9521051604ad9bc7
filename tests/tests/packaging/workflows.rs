//! The repository's workflows and scripts, as linters see them.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;
use tests::tools::{Tools, run};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn files_in(folder: &str, end: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.to_string_lossy().ends_with(end) {
                found.push(path);
            }
        }
    }
    found.sort();
    assert!(!found.is_empty(), "no {end} in {folder}");
    found
}

fn actionlint(tools: &Tools, files: &[PathBuf]) {
    let mut lint = Command::new(tools.program("actionlint"));
    // With its own programs on the path it checks the scripts in the workflows, too.
    lint.env("PATH", tools.path())
        .current_dir(root())
        .args(files);
    run(&mut lint).expect("clean");
}

#[test]
fn actionlint_has_nothing_to_say_of_the_workflows() {
    let tools = Tools::packaging().expect("the tools");
    actionlint(&tools, &files_in(".github/workflows", ".yml"));
}

#[test]
fn zizmor_finds_nothing_dangerous() {
    let tools = Tools::packaging().expect("the tools");
    let mut audit = Command::new(tools.program("zizmor"));
    audit.args(["--offline", "--quiet"]).current_dir(root());
    run(audit.args([".github/workflows", "action.yml"])).expect("clean");
}

#[test]
fn shellcheck_has_nothing_to_say_of_the_scripts() {
    let tools = Tools::packaging().expect("the tools");
    let files = [files_in(".ci", ""), files_in("packaging", "")].concat();
    let is_script = |file: &PathBuf| {
        let text = fs::read(file).expect("readable");
        text.starts_with(b"#!")
    };
    let scripts: Vec<_> = files.into_iter().filter(is_script).collect();
    assert!(scripts.len() > 9, "{scripts:?}");
    let mut check = Command::new(tools.program("shellcheck"));
    check.current_dir(root()).arg("--external-sources");
    for script in scripts {
        let script = script.strip_prefix(root()).expect("below the root");
        check.arg(script);
    }
    run(&mut check).expect("clean");
}

/// Whoever moves a tag must not move what runs here; and nothing may do more than it must.
#[test]
fn workflows_pin_what_they_use_and_ask_for_few_permissions() {
    let tools = Tools::packaging().expect("the tools");
    for file in files_in(".github/workflows", ".yml") {
        let name = file.display();
        for line in fs::read_to_string(&file).expect("readable").lines() {
            let Some((_, used)) = line.split_once("uses: ") else {
                continue;
            };
            let (action, version) = used.split_once(" # v").unwrap_or((used, ""));
            let commit = action.split_once('@').map_or("", |(_, commit)| commit);
            let pinned = commit.len() == 40
                && commit.bytes().all(|byte| byte.is_ascii_hexdigit())
                && !version.is_empty();
            assert!(pinned || action.starts_with("./"), "{name}: {used}");
        }
        let workflow = tools.read(&file).expect("YAML");
        assert_eq!(workflow["permissions"], serde_json::json!({}), "{name}");
        for (job, steps) in workflow["jobs"].as_object().expect("jobs") {
            let permissions = steps["permissions"].as_object();
            let permissions = permissions.unwrap_or_else(|| panic!("{name}: {job}"));
            // An identity is good for what trusts it, and an environment says who may have it.
            let guarded = steps["environment"].is_string();
            let writes = permissions
                .iter()
                .any(|(what, value)| value == "write" && !(guarded && what == "id-token"));
            assert!(!writes || job == "publish", "{name}: {job}");
            let keeps = |step: &&Value| {
                let action = step["uses"].as_str().unwrap_or_default();
                action.starts_with("actions/checkout@")
                    && step["with"]["persist-credentials"] != "false"
            };
            let steps = steps["steps"].as_array().into_iter().flatten();
            let keepers = steps.filter(keeps).count();
            assert!(keepers == 0 || job == "publish", "{name}: {job}");
        }
    }
}

#[test]
fn a_release_tells_the_action_its_checksums() {
    let folder = tempfile::tempdir().expect("a folder");
    let script = folder.path().join("write-release.sh");
    fs::copy(root().join("packaging/action/write-release.sh"), &script).expect("copied");
    let sums = folder.path().join("SHA256SUMS");
    let write = || {
        run(Command::new(&script)
            .args(["acme/paddock", "1.2.3"])
            .arg(&sums))
    };
    let (one, two) = ("1".repeat(64), "2".repeat(64));
    let both = format!(
        "{one}  controller-x86_64-unknown-linux-musl\n{}  agent-x86_64-unknown-linux-musl\n\
         {two}  controller-aarch64-unknown-linux-musl\n",
        "3".repeat(64)
    );
    fs::write(&sums, &both).expect("written");
    write().expect("it writes");
    let written = fs::read_to_string(folder.path().join("release.env")).expect("written");
    let (_, values) = written.split_once('\n').expect("a comment first");
    assert_eq!(
        values,
        format!(
            "repository=acme/paddock\nversion=1.2.3\nsha256_x86_64={one}\nsha256_aarch64={two}\n"
        )
    );
    // One that is missing must not become an empty sum.
    fs::write(&sums, both.replace("controller-aarch64", "other")).expect("written");
    write().expect_err("it refuses");
}
