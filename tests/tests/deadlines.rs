//! A machine that cannot use its table ends itself, says why, and never loops without words.

use std::time::{Duration, Instant};

use futures::future::join_all;
use proto::agent_config::Times;
use tests::{
    binaries::Binaries,
    lone::{Answer, Lone, serve},
};

fn times() -> Times {
    Times {
        contact: 6.0,
        unclaimed: 6.5,
        ..Times::default()
    }
}

async fn machine(answer: Answer) -> Lone {
    let binaries = Binaries::build().expect("the programs build");
    let aws = serve(answer).await.expect("a port");
    let user_data = userdata::render(&Lone::config(times()), None).expect("it fits");
    Lone::new(&binaries.agent, &binaries.runner, user_data, &aws).await
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_wrong_with_the_table_the_machine_says_so_and_goes() {
    let cases = [
        (
            Answer::Error(400, "ResourceNotFoundException"),
            "ResourceNotFoundException",
        ),
        (
            Answer::Error(400, "ThrottlingException"),
            "ThrottlingException",
        ),
        (
            Answer::Error(400, "AccessDeniedException"),
            "AccessDeniedException",
        ),
        (
            Answer::Error(400, "ExpiredTokenException"),
            "ExpiredTokenException",
        ),
        (
            Answer::Error(500, "InternalServerError"),
            "InternalServerError",
        ),
        (Answer::Silence, "did not answer within"),
        (Answer::Nonsense, "cannot read an instance's record"),
    ];
    join_all(cases.map(|(answer, cause)| says_and_goes(answer, cause))).await;
}

async fn says_and_goes(answer: Answer, cause: &str) {
    let mut machine = machine(answer).await;
    machine.start(&[]);
    machine.until("off", Lone::is_off).await;
    let console = machine.console();
    assert!(console.contains(cause), "{answer:?}:\n{console}");
    assert!(
        console.contains("out of reach for 6"),
        "{answer:?}:\n{console}"
    );
    let status = machine.run(&["status"]).await;
    assert_eq!(status.status.code(), Some(1), "{status:?}");
    let text = String::from_utf8_lossy(&status.stdout).into_owned();
    assert!(
        text.contains(cause) && text.contains("out of reach"),
        "{text}"
    );
    // Each try has its line, and there is a pause between two.
    assert!(console.lines().count() < 60, "{console}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_is_killed_again_and_again_does_not_keep_its_machine_alive() {
    let mut machine = machine(Answer::Error(400, "ResourceNotFoundException")).await;
    let started = Instant::now();
    let patience = Duration::from_mins(1);
    while !machine.is_off() {
        assert!(started.elapsed() < patience, "{}", machine.console());
        machine.start(&[]);
        // Long enough to begin, too short for the deadline.
        tokio::time::sleep(Duration::from_millis(1500)).await;
        machine.kill().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn status_answers_at_once_when_the_table_does_not() {
    let mut machine = machine(Answer::Silence).await;
    machine.start(&[]);
    machine
        .until("running", |machine| {
            machine.path("run/status.json").exists()
        })
        .await;
    let mut quickest = Duration::MAX;
    for _ in 0..10 {
        let asked = Instant::now();
        let output = machine.run(&["status", "--json"]).await;
        quickest = quickest.min(asked.elapsed());
        let status: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
        assert_eq!(status["pool"], "lone");
    }
    println!("agent status took {quickest:?} while the table was silent");
    assert!(quickest < Duration::from_millis(50), "{quickest:?}");
}
