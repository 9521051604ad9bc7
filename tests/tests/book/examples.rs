//! The steps of every workflow in what there is to read, run in the yard.

use tests::{
    binaries::Binaries,
    tools::Tools,
    workflow::Workflow,
    yard::{Settings, Yard, aws::SecretKind, github::App},
};

use crate::{
    pages::Block,
    workflows::{name, steps, workflows},
};

const KEY: &str = include_str!("../../keys/github-app.pkcs8.pem");

/// What whoever copies a workflow puts in the place of what stands there.
pub(crate) fn adapted(text: &str, yard: &Yard) -> String {
    let replaced = [
        ("eu-central-1", "us-east-1"),
        (
            "subnet-0aaaaaaaaaaaaaaaa subnet-0bbbbbbbbbbbbbbbb",
            "subnet-0a subnet-0b",
        ),
        ("sg-0123456789abcdef0", "sg-1"),
        // Its machines are processes of this computer.
        ("apt-get ", "echo apt-get "),
        // The yard has an address of its own.
        (
            "actions-runner-version: latest",
            &format!(
                "actions-runner-version: latest\n          runner-releases-url: {}",
                yard.github.url()
            ),
        ),
    ];
    replaced
        .iter()
        .fold(text.to_owned(), |text, (theirs, ours)| {
            text.replace(theirs, ours)
        })
}

/// In the order of a pool's life.
fn order(mode: &str) -> usize {
    let modes = ["refresh", "provision", "release"];
    let found = modes.iter().position(|known| *known == mode);
    found.unwrap_or_else(|| panic!("the examples have no {mode} yet"))
}

#[tokio::test(flavor = "multi_thread")]
async fn every_step_of_paddock_in_a_workflow_runs() {
    let tools = tokio::task::spawn_blocking(Tools::packaging);
    let tools = tools.await.expect("not cancelled").expect("the tools");
    let binaries = Binaries::build().expect("the programs build");
    let mut settings = Settings::new(&binaries.agent, &binaries.runner);
    settings.github.app = Some(App {
        id: "123456".to_owned(),
        key: KEY.to_owned(),
    });
    let yard = Yard::start(settings).await.expect("the yard starts");
    let kept = yard
        .aws
        .keep_secret(SecretKind::Secret, "paddock-acme-app", KEY);
    kept.expect("the yard keeps it");

    // Refreshes first: whoever provisions needs a pool.
    let mut all: Vec<_> = Vec::new();
    for (number, block) in workflows().into_iter().enumerate() {
        let text = adapted(&block.text, &yard);
        let block = Block { text, ..block };
        for (mode, inputs) in steps(&tools, &block) {
            all.push((order(&mode), number, name(&block).to_owned(), mode, inputs));
        }
    }
    let (refreshes, others): (Vec<_>, Vec<_>) = all.into_iter().partition(|step| step.0 == 0);
    let mut others = others;
    others.sort_by_key(|step| (step.1, step.0));
    assert!(
        refreshes.len() >= 3 && others.len() >= 10,
        "{}",
        others.len()
    );
    for (_, number, name, mode, inputs) in refreshes.into_iter().chain(others) {
        let run = 100 + number as u64;
        let token = yard.github.token();
        let inputs: Vec<(&str, String)> = inputs
            .iter()
            .map(|(input, text)| {
                let text = text.replace("${{ secrets.PADDOCK_PAT }}", &token);
                assert!(!text.contains("${{"), "{name}: {input}: {text}");
                (input.as_str(), text)
            })
            .collect();
        let inputs: Vec<(&str, &str)> = inputs
            .iter()
            .map(|(input, text)| (*input, text.as_str()))
            .collect();
        let workflow = Workflow::new(&yard, &binaries, run);
        let step = workflow.step(&mode, &inputs).await.expect("it runs");
        assert_eq!(step.code, 0, "{name}: {mode} {inputs:?}: {}", step.log);
    }
    yard.stop().await;
}
