//! Machines that are not fit for a tenant, or that an operator wants back, are not handed out.

use std::{
    path::Path,
    process::Output,
    time::{Duration, Instant},
};

use proto::{instance::InstanceRecord, table::Table};
use tests::{
    pool::{PATIENCE, Pool},
    workflow::Step,
    yard::{
        github::{Conclusion, Job},
        machines::MachineView,
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixListener,
};

/// Docker, as far as whoever asks whether it is there can tell.
fn docker(machine: &MachineView) {
    let listener = UnixListener::bind(machine.folder.join("docker.sock")).expect("a socket");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut question = [0; 128];
            let _ = stream.read(&mut question).await;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nOK").await;
        }
    });
}

fn machine(pool: &Pool, id: &str) -> MachineView {
    pool.yard.machines.get(id).expect("it is there")
}

/// A provision that launches a machine, on which Docker is a little late.
async fn provision_with_docker(pool: &Pool, run: u64) -> Step {
    let known = pool.yard.machines.list().len();
    let late = async {
        pool.until("a machine is launched", || {
            pool.yard.machines.list().len() > known
        })
        .await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        let all = pool.yard.machines.list();
        let new = all.iter().filter(|machine| machine.alive());
        for machine in new.filter(|machine| !machine.folder.join("docker.sock").exists()) {
            docker(machine);
        }
    };
    tokio::join!(pool.provision(run, "1"), late).0
}

async fn record(pool: &Pool, id: &str) -> InstanceRecord {
    let arn = format!("arn:aws:ec2:us-east-1:123456789012:instance/{id}");
    let arn = arn.try_into().expect("an ARN");
    let found = pool.table.instance(&arn).await.expect("read");
    found.expect("a record")
}

/// Waits until the record says why the machine is not to be handed out, or that it may be.
async fn until_health(pool: &Pool, id: &str, reason: Option<&str>) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let record = record(pool, id).await;
        let fits = match (record.unhealthy(), reason) {
            (Some(is), Some(wanted)) => is.contains(wanted),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        if fits {
            return;
        }
        assert!(Instant::now() < deadline, "not {reason:?}: {record:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_that_needs_docker_hands_out_only_machines_on_which_it_answers() {
    let pool = Pool::new(Duration::ZERO).await;
    let needs = [("requires-docker", "true".to_owned())];
    let step = pool.refresh_with(needs).await;
    assert_eq!(step.code, 0, "{}", step.log);
    pool.hurry(|parameters| parameters.idle_time_sec = 300)
        .await;

    // It may come up after the agent, but not never.
    let step = pool.provision(11, "1").await;
    assert_eq!(step.code, 1, "{}", step.log);
    assert!(
        step.log
            .contains("not fit for a tenant: Docker does not answer"),
        "{}",
        step.log
    );
    pool.until_alive(0).await;
    let step = provision_with_docker(&pool, 12).await;
    assert_eq!(step.code, 0, "{}", step.log);
    let first = step.machines().remove(0);

    // It is gone at the end of a run: this machine is not kept.
    std::fs::remove_file(machine(&pool, &first).folder.join("docker.sock")).expect("removed");
    let step = pool.release(12).await;
    assert!(step.log.contains("Docker does not answer"), "{}", step.log);
    pool.until_alive(0).await;

    // It goes while the machine waits: who would have got it gets another.
    let step = provision_with_docker(&pool, 13).await;
    let second = step.machines().remove(0);
    let step = pool.release(13).await;
    assert!(step.log.contains("back in the pool"), "{}", step.log);
    std::fs::remove_file(machine(&pool, &second).folder.join("docker.sock")).expect("removed");
    until_health(&pool, &second, Some("Docker does not answer")).await;
    let step = provision_with_docker(&pool, 14).await;
    assert_eq!((step.code, step.number("reused")), (0, Some(0)));
    let third = step.machines().remove(0);
    pool.until_alive(1).await;

    // It goes in the last moment, which the machine itself notices once it is claimed.
    let step = pool.release(14).await;
    assert!(step.log.contains("back in the pool"), "{}", step.log);
    tokio::time::sleep(Duration::from_secs(2)).await;
    std::fs::remove_file(machine(&pool, &third).folder.join("docker.sock")).expect("removed");
    assert_eq!(record(&pool, &third).await.unhealthy(), None);
    let step = provision_with_docker(&pool, 15).await;
    assert_eq!(
        (step.code, step.number("reused")),
        (0, Some(0)),
        "{}",
        step.log
    );
    let told = format!(
        "{third} could not register its runner: not fit for a tenant: Docker does not answer"
    );
    assert!(step.log.contains(&told), "{}", step.log);
    pool.until_alive(1).await;
    pool.yard.stop().await;
}

/// One of the agent's commands, as an operator runs it on the machine.
async fn agent(pool: &Pool, id: &str, arguments: &[&str]) -> Output {
    let mut command = tokio::process::Command::new(&pool.binaries.agent);
    let folder = &machine(pool, id).folder;
    command
        .args(arguments)
        .env("PADDOCK_STATE_DIR", folder.join("state"))
        .env("PADDOCK_RUN_DIR", folder.join("run"));
    command.output().await.expect("it runs")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drained_machine_ends_its_run_unharmed_and_is_not_handed_out_again() {
    let pool = Pool::new(Duration::ZERO).await;
    pool.hurry(|parameters| parameters.idle_time_sec = 300)
        .await;
    let step = pool.provision(21, "1").await;
    let first = step.machines().remove(0);
    let done = machine(&pool, &first).folder.join("done");
    let job = pool.yard.github.enqueue(Job {
        run_id: 21,
        name: "build".into(),
        labels: vec!["21".into()],
        steps: vec![waits_for(&done)],
        ..Job::default()
    });
    pool.until("the job runs", || {
        pool.yard.github.runners().iter().any(|runner| runner.busy)
    })
    .await;
    let output = agent(&pool, &first, &["drain"]).await;
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(said(&output).contains("takes no new run"), "{output:?}");
    until_health(&pool, &first, Some("an operator drains this machine")).await;
    let output = agent(&pool, &first, &["status"]).await;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(said(&output).contains("an operator drains"), "{output:?}");
    std::fs::write(&done, "").expect("written");
    let job = pool.yard.github.wait_job(job, PATIENCE).await;
    let job = job.expect("it ends");
    assert_eq!(job.conclusion, Some(Conclusion::Success), "{}", job.log);
    let step = pool.release(21).await;
    assert_eq!(step.code, 0, "{}", step.log);
    assert!(step.log.contains("an operator drains"), "{}", step.log);
    pool.until_alive(0).await;

    // One that waits for a run gets none. Taken back in time, it does.
    let step = pool.provision(22, "1").await;
    let second = step.machines().remove(0);
    let step = pool.release(22).await;
    assert!(step.log.contains("back in the pool"), "{}", step.log);
    agent(&pool, &second, &["drain"]).await;
    until_health(&pool, &second, Some("an operator drains")).await;
    let output = agent(&pool, &second, &["drain", "--undo"]).await;
    assert!(said(&output).contains("takes new runs"), "{output:?}");
    until_health(&pool, &second, None).await;
    let step = pool.provision(23, "1").await;
    assert_eq!(step.machines(), [second.as_str()], "{}", step.log);
    pool.release(23).await;
    agent(&pool, &second, &["drain"]).await;
    until_health(&pool, &second, Some("an operator drains")).await;
    let step = pool.provision(24, "1").await;
    assert_eq!(
        (step.code, step.number("reused")),
        (0, Some(0)),
        "{}",
        step.log
    );
    pool.until_alive(1).await;
    pool.yard.stop().await;
}

fn waits_for(file: &Path) -> String {
    format!("until [ -e '{}' ]; do sleep 0.1; done", file.display())
}
