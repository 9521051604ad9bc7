//! A bare image: its user data, run as cloud-init runs it, fetches the agent, checks it, starts it.

use std::{fmt::Write as _, sync::Arc, time::Duration};

use axum::{Router, routing::get};
use nix::sys::signal::Signal;
use sha2::{Digest, Sha256};
use tests::{
    pool::{PATIENCE, Pool},
    yard::machines::MachineView,
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
    let sum = Sha256::digest(std::fs::read(path).expect("the agent's program"));
    sum.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// A pool of bare images, whose agent has this checksum, if not its own.
async fn pool(sum: Option<String>, script: &str) -> Pool {
    let pool = Pool::new(Duration::ZERO).await;
    let agent = &pool.binaries.agent;
    let sum = sum.unwrap_or_else(|| sha256(agent));
    let bare = [
        ("ami", "ami-bare0123456789".to_owned()),
        ("agent-url", serve(agent).await),
        ("agent-sha256", format!("{sum} {sum}")),
        ("pre-runner-script", script.to_owned()),
    ];
    let step = pool.refresh_with(bare).await;
    assert_eq!(step.code, 0, "{}", step.log);
    pool
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bare_image_fetches_its_agent() {
    let pool = pool(None, "echo prepared\n").await;
    let step = pool.provision(2, "1").await;
    assert_eq!(step.code, 0, "{}", step.log);
    assert_eq!(step.number("created"), Some(1), "{}", step.log);
    pool.yard.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_script_reaches_the_machine_compressed() {
    let script = format!(
        "#!/bin/sh\n{}exit 0\n",
        "echo the same words again and again\n".repeat(1000)
    );
    let pool = pool(None, &script).await;
    let step = pool.provision(2, "1").await;
    assert_eq!(step.code, 0, "{}", step.log);
    pool.yard.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_with_another_checksum_is_not_started() {
    let pool = pool(Some("0".repeat(64)), "").await;
    let step = pool.run(2).start("provision", &[]).expect("it starts");
    // The machine never gets an agent: see what it says instead of waiting for the timeout.
    let machines = &pool.yard.machines;
    let says = |what: &'static str| {
        move |machine: &MachineView| machines.console(&machine.id).contains(what)
    };
    let says_why = says("has not the SHA-256");
    let found = machines
        .wait(PATIENCE, |all| all.iter().any(&says_why))
        .await;
    assert!(found.is_ok(), "no machine said why");
    assert!(machines.list().iter().any(says("it was not started")));
    step.signal(Signal::SIGINT).expect("it runs");
    let step = step.finish().await.expect("it ends");
    assert_eq!(step.code, 130, "{}", step.log);
    pool.yard.stop().await;
}
