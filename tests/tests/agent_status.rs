//! Systems Manager really runs `agent status` and `agent drain` on machines.

use std::time::{Duration, Instant};

use tests::{
    pool::{PATIENCE, Pool},
    tools::Tools,
};

/// The controller with flags, under the role that its command has.
async fn agent_status(pool: &Pool, flags: &[&str]) -> std::process::Output {
    tokio::process::Command::new(&pool.binaries.controller)
        .arg("agent-status")
        .args(flags)
        .env_clear()
        .envs(pool.yard.controller_env(1, tests::workflow::REPOSITORY))
        .env(
            "AWS_SESSION_TOKEN",
            tests::yard::aws::iam::session_of("agent-status"),
        )
        .output()
        .await
        .expect("it runs")
}

#[tokio::test(flavor = "multi_thread")]
async fn each_machine_of_the_pool_has_a_line() {
    let pool = Pool::new(Duration::ZERO).await;
    let none = agent_status(&pool, &[]).await;
    assert_eq!(none.status.code(), Some(0), "{none:?}");
    assert!(String::from_utf8_lossy(&none.stdout).contains("has no machine"));

    let step = pool.provision(7, "2").await;
    let machines = step.machines();
    let [one, other] = &*machines else {
        panic!("two machines: {}", step.log)
    };
    let all = agent_status(&pool, &[]).await;
    let text = String::from_utf8_lossy(&all.stdout).into_owned();
    assert_eq!(all.status.code(), Some(0), "{all:?}");
    assert_eq!(text.lines().count(), 3, "{text}");
    for id in &machines {
        let line = text.lines().find(|line| line.starts_with(id.as_str()));
        let cells: Vec<&str> = line.expect("a line").split_whitespace().collect();
        // The agent learns of its last transition with its next beat.
        assert!(["created", "running"].contains(&cells[1]), "{text}");
        assert_eq!(cells[2..4], ["7", "well"], "{text}");
    }

    // One alone; and one that Systems Manager does not know, which fails the command.
    let alone = agent_status(&pool, &["--instance", one]).await;
    let text = String::from_utf8_lossy(&alone.stdout).into_owned();
    assert!(text.contains(one) && !text.contains(other), "{text}");
    let absent = agent_status(&pool, &["--instance", "i-00000000000000000"]).await;
    let text = String::from_utf8_lossy(&absent.stdout).into_owned();
    assert_eq!(absent.status.code(), Some(1), "{absent:?}");
    assert!(text.contains("not known to Systems Manager"), "{text}");
    let error = String::from_utf8_lossy(&absent.stderr).into_owned();
    assert!(
        error.contains("1 of the machines did not answer"),
        "{error}"
    );
    pool.yard.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_that_cannot_be_one_is_bad_input() {
    let pool = Pool::new(Duration::ZERO).await;
    let output = agent_status(&pool, &["--instance", "web-1"]).await;
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("input `instance`: `web-1`"));
    pool.yard.stop().await;
}

/// The AWS CLI, as an operator has it; what it answers.
async fn aws(pool: &Pool, tools: &Tools, words: &[&str]) -> serde_json::Value {
    let output = tokio::process::Command::new(tools.program("aws"))
        .args(["--region", "us-east-1", "--output", "json", "ssm"])
        .args(words)
        .env_clear()
        .envs(pool.yard.controller_env(1, tests::workflow::REPOSITORY))
        .env("PATH", tools.path())
        .output()
        .await
        .expect("it runs");
    assert!(output.status.success(), "{words:?}: {output:?}");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// Sends `Paddock-AgentDrain` and waits for the machine's answer.
async fn drain(pool: &Pool, tools: &Tools, machine: &str, more: &[&str]) -> String {
    let mut words = vec!["send-command", "--document-name", "Paddock-AgentDrain"];
    words.extend(["--instance-ids", machine]);
    words.extend(more);
    let sent = aws(pool, tools, &words).await;
    let id = sent["Command"]["CommandId"].as_str().expect("an id");
    let list = ["list-command-invocations", "--details", "--command-id", id];
    let deadline = Instant::now() + PATIENCE;
    loop {
        let answer = aws(pool, tools, &list).await;
        let invocation = &answer["CommandInvocations"][0];
        match invocation["Status"].as_str() {
            Some("InProgress") => assert!(Instant::now() < deadline, "{answer}"),
            Some("Success") => {
                let output = &invocation["CommandPlugins"][0]["Output"];
                return output.as_str().expect("an output").to_owned();
            }
            _ => panic!("{answer}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drained_machine_is_not_handed_out_again() {
    let tools = tokio::task::spawn_blocking(Tools::packaging);
    let tools = tools.await.expect("not cancelled").expect("the AWS CLI");
    let pool = Pool::new(Duration::ZERO).await;
    let step = pool.provision(7, "2").await;
    let [drained, spared] = &*step.machines() else {
        panic!("two machines: {}", step.log)
    };
    for machine in [drained, spared] {
        let said = drain(&pool, &tools, machine, &[]).await;
        assert!(said.contains("takes no new run"), "{said}");
    }
    let said = drain(&pool, &tools, spared, &["--parameters", "Undo=true"]).await;
    assert!(said.contains("takes new runs again"), "{said}");

    let step = pool.run(7).step("release", &[]).await.expect("it runs");
    assert_eq!(step.code, 0, "{}", step.log);
    assert!(
        step.log.contains("1 back in the pool, 1 terminated"),
        "{}",
        step.log
    );
    assert!(
        step.log.contains("an operator drains this machine"),
        "{}",
        step.log
    );
    let step = pool.provision(8, "1").await;
    assert_eq!(
        step.machines(),
        std::slice::from_ref(spared),
        "{}",
        step.log
    );
    pool.yard.stop().await;
}
