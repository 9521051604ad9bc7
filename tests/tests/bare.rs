//! A bare image: its user data, run as cloud-init runs it, fetches the agent, checks it, starts it.

use std::{process::Command, sync::Arc, time::Duration};

use axum::{Router, routing::get};
use tests::{
    binaries::Binaries,
    story::refresh_inputs,
    workflow::{Step, Workflow},
    yard::{Settings, Yard},
};

/// Serves the agent's program on a free port; its address.
async fn serve(agent: &std::path::Path) -> String {
    let program: Arc<[u8]> = std::fs::read(agent).expect("the agent's program").into();
    let routes = Router::new().route("/agent", get(move || async move { program.to_vec() }));
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0))
        .await
        .expect("a port");
    let url = format!(
        "http://{}/agent",
        listener.local_addr().expect("an address")
    );
    tokio::spawn(async move { axum::serve(listener, routes).await });
    url
}

fn sha256(path: &std::path::Path) -> String {
    let output = Command::new("sha256sum")
        .arg(path)
        .output()
        .expect("sha256sum runs");
    let text = String::from_utf8(output.stdout).expect("text");
    text.split_whitespace().next().expect("a sum").to_owned()
}

async fn provision(sum: Option<String>, script: &str) -> (Step, String) {
    let binaries = Binaries::build().expect("the programs build");
    let settings = Settings::new(&binaries.agent, &binaries.runner);
    let yard = Yard::start(settings).await.expect("the yard starts");
    let url = serve(&binaries.agent).await;
    let sum = sum.unwrap_or_else(|| sha256(&binaries.agent));
    let mut inputs = refresh_inputs(&yard, "subnet-0a");
    inputs.extend([
        ("ami", "ami-bare0123456789".to_owned()),
        ("agent-url", url),
        ("agent-sha256", format!("{sum} {sum}")),
        ("pre-runner-script", script.to_owned()),
    ]);
    let inputs: Vec<(&str, &str)> = inputs
        .iter()
        .map(|(name, value)| (*name, &**value))
        .collect();
    let step = Workflow::new(&yard, &binaries, 1)
        .step("refresh", &inputs)
        .await
        .expect("it runs");
    assert_eq!(step.code, 0, "{}", step.log);
    let run = Workflow::new(&yard, &binaries, 2);
    let running = run.start("provision", &[]).expect("it starts");
    let console = if sum.starts_with("0000") {
        // The machine never gets an agent: see what it says instead of waiting for the timeout.
        let says = |machine: &tests::yard::machines::MachineView| {
            yard.machines
                .console(&machine.id)
                .contains("has not the SHA-256")
        };
        let found = yard
            .machines
            .wait(Duration::from_secs(30), |all| all.iter().any(says))
            .await;
        assert!(found.is_ok(), "no machine said why");
        nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(running.pid().expect("it runs").cast_signed()),
            nix::sys::signal::Signal::SIGINT,
        )
        .expect("a signal");
        yard.machines
            .list()
            .iter()
            .map(|machine| yard.machines.console(&machine.id))
            .collect()
    } else {
        String::new()
    };
    let step = running.finish().await.expect("it ends");
    yard.stop().await;
    (step, console)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bare_image_fetches_its_agent() {
    let (step, _) = provision(None, "echo prepared\n").await;
    assert_eq!(
        (step.code, step.number("created")),
        (0, Some(1)),
        "{}",
        step.log
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_script_reaches_the_machine_compressed() {
    let script = format!(
        "#!/bin/sh\n{}exit 0\n",
        "echo the same words again and again\n".repeat(1000)
    );
    let (step, _) = provision(None, &script).await;
    assert_eq!(
        (step.code, step.number("created")),
        (0, Some(1)),
        "{}",
        step.log
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_with_another_checksum_is_not_started() {
    let (step, console) = provision(Some("0".repeat(64)), "").await;
    assert_eq!(step.code, 130, "{}", step.log);
    assert!(console.contains("it was not started"), "{console}");
}
