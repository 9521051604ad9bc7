//! The workflows in what there is to read, as linters see them.

use std::{fs, path::PathBuf, process::Command};

use serde_json::Value;
use tests::tools::{Tools, run};

use crate::pages::{Block, blocks, root};

/// Every YAML in a page is a whole workflow that can be copied.
pub(crate) fn workflows() -> Vec<Block> {
    let blocks = blocks("yaml");
    for block in &blocks {
        assert!(
            block.text.starts_with("name: "),
            "{} is no workflow",
            block.place
        );
    }
    blocks
}

/// The name of a workflow.
pub(crate) fn name(block: &Block) -> &str {
    let first = block.text.lines().next().unwrap_or_default();
    first.trim_start_matches("name: ")
}

#[test]
fn actionlint_has_nothing_to_say() {
    let tools = Tools::packaging().expect("the tools");
    let folder = tempfile::tempdir().expect("a folder");
    // A repository with the action in it: its inputs and outputs are checked then, too.
    fs::create_dir_all(folder.path().join(".git")).expect("made");
    let workflows_folder = folder.path().join(".github/workflows");
    fs::create_dir_all(&workflows_folder).expect("made");
    fs::copy(root().join("action.yml"), folder.path().join("action.yml")).expect("copied");
    let files: Vec<PathBuf> = workflows()
        .iter()
        .map(|block| {
            let file = format!("{}.yml", block.place.replace(['/', ':'], "-"));
            let file = workflows_folder.join(file);
            let text = block.text.replace("paddock-runners/paddock@v0", "./");
            fs::write(&file, text).expect("written");
            file
        })
        .collect();
    let lint = |files: &[PathBuf]| {
        let mut lint = Command::new(tools.program("actionlint"));
        lint.env("PATH", tools.path()).current_dir(folder.path());
        run(lint.args(files))
    };
    lint(&files).expect("clean");

    // It would tell an input that there is not.
    let odd = fs::read_to_string(&files[0]).expect("readable");
    let odd = odd.replace("mode: release", "mood: release");
    let file = workflows_folder.join("odd.yml");
    fs::write(&file, odd).expect("written");
    lint(&[file]).expect_err("an unknown input");
}

/// The steps of Paddock's in a workflow: mode, then the other inputs.
pub(crate) fn steps(tools: &Tools, block: &Block) -> Vec<(String, Vec<(String, String)>)> {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("workflow.yml");
    fs::write(&file, &block.text).expect("written");
    let workflow = tools.read(&file).expect("YAML");
    let jobs = workflow["jobs"].as_object().expect("jobs").values();
    let steps = jobs.flat_map(|job| job["steps"].as_array().into_iter().flatten());
    let ours = steps.filter(|step| step["uses"] == "paddock-runners/paddock@v0");
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    ours.map(|step| {
        let with = step["with"].as_object().expect("inputs");
        let inputs = with.iter().filter(|(name, _)| *name != "mode");
        let inputs = inputs.map(|(name, value)| (name.clone(), text(value)));
        (text(&with["mode"]), inputs.collect())
    })
    .collect()
}
