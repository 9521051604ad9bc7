//! A machine whose user data is no good says what is wrong with it, once, and does not spin.

use std::time::{Duration, Instant};

use futures::future::join_all;
use proto::{
    agent_config::{AgentConfig, Times},
    signal::Signal,
};
use tests::{
    binaries::Binaries,
    lone::{Answer, Lone, serve},
    pool::Pool,
};

fn good() -> String {
    let bytes = userdata::render(&Lone::config(Times::default()), None).expect("it fits");
    String::from_utf8(bytes).expect("text")
}

#[tokio::test(flavor = "multi_thread")]
async fn each_defect_of_the_user_data_is_named_once() {
    let binaries = Binaries::build().expect("the programs build");
    let aws = serve(Answer::Silence).await.expect("a port");
    let (head, _) = good()
        .split_once("githubUrl")
        .map(|(a, b)| (a.to_owned(), b.to_owned()))
        .expect("split");
    let cases = [
        (String::new(), "this machine has no user data"),
        ("#!/bin/sh\ntrue\n".to_owned(), "belongs to no pool"),
        (head, "it was cut"),
        (
            good().replace("\"pool\":\"lone\"", "\"pool\":7"),
            "cannot be read",
        ),
        (
            good().replace("\"v\":1", "\"v\":1,\"hartbeat\":3"),
            "unknown field `hartbeat`",
        ),
        (good().replace("\"v\":1", "\"v\":9"), "version 9"),
        (good().replace("\"table\"", "\"tabel\""), "`tabel`"),
    ];
    for (user_data, cause) in cases {
        let mut machine = Lone::new(
            &binaries.agent,
            &binaries.runner,
            user_data.into_bytes(),
            &aws,
        )
        .await;
        machine.start(&[]);
        machine
            .until("said", |machine| machine.console().contains(cause))
            .await;
        let status = machine.run(&["status"]).await;
        assert_eq!(status.status.code(), Some(1), "{status:?}");
        assert!(
            String::from_utf8_lossy(&status.stdout).contains(cause),
            "{status:?}"
        );
        // Asked again all the while, and not said again.
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(
            machine.console().matches(cause).count(),
            1,
            "{}",
            machine.console()
        );
        assert!(!machine.is_off());
    }
}

/// A file in the folder's place, and a place where nobody can make one, as on a disk that can only
/// be read.
#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_cannot_keep_its_state_says_so_takes_no_tenant_and_goes() {
    let pool = Pool::new(Duration::ZERO).await;
    join_all(["console", "/proc/paddock"].map(|state| keeps_nothing(&pool, state))).await;
    pool.yard.stop().await;
}

async fn keeps_nothing(pool: &Pool, state: &str) {
    let mut machine = Lone::of(pool, |_, _| {}).await;
    let state = machine.path(state);
    machine.start(&[("PADDOCK_STATE_DIR", &state.to_string_lossy())]);
    let record = machine
        .until_record(pool, "a report", |record| record.report.is_some())
        .await;
    let report = record.report.expect("a report");
    let detail = report.detail.unwrap_or_default();
    assert_eq!(report.signal, Signal::Failed, "{detail}");
    let cause = format!("cannot make the folder {}", state.display());
    assert!(detail.contains(&cause), "{detail}");
    let status = machine.run(&["status"]).await;
    assert_eq!(status.status.code(), Some(1), "{status:?}");
    let status = String::from_utf8_lossy(&status.stdout).into_owned();
    assert!(status.contains(&cause), "{status}");
    // First a minute passes in which the controller can read why.
    let deadline = Instant::now() + Duration::from_mins(2);
    while !machine.is_off() {
        assert!(Instant::now() < deadline, "{}", machine.console());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// What a machine reports whose configuration is `change`d.
async fn reported(change: impl FnOnce(&mut AgentConfig)) -> (Signal, String) {
    let pool = Pool::new(Duration::ZERO).await;
    let mut machine = Lone::of(&pool, |config, _| change(config)).await;
    machine.start(&[]);
    let record = machine
        .until_record(&pool, "a report", |record| record.report.is_some())
        .await;
    pool.yard.stop().await;
    let report = record.report.expect("a report");
    (report.signal, report.detail.unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_script_that_calls_what_is_not_there_fails_the_boot_with_its_words() {
    let script = |text: &str| {
        let text = text.to_owned();
        move |config: &mut AgentConfig| config.pre_runner_script = Some(text)
    };
    let (signal, detail) = reported(script("/opt/no/such/setup.sh\n")).await;
    assert_eq!(signal, Signal::Failed);
    assert!(
        detail.contains("exit code 127") && detail.contains("setup.sh"),
        "{detail}"
    );
    let (signal, detail) = reported(script("#!/no/such/shell\ntrue\n")).await;
    assert_eq!(signal, Signal::Failed);
    assert!(detail.contains("cannot be started"), "{detail}");
}
