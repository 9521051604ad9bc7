//! The composed yard: what EC2 launches becomes a machine and ends as one.

use std::os::unix::fs::PermissionsExt;

use tests::yard::machines::Phase;
use tests::yard::machines::processes::Mark;
use tests::yard::{Settings, Yard};

use crate::kit::{PATIENCE, REPOSITORY, http};

/// EC2's query protocol, as far as a test needs it.
async fn ec2(yard: &Yard, action: &str, more: &str) {
    let body = format!("Action={action}&Version=2016-11-15&{more}");
    let response = http()
        .post(yard.aws.url())
        .header(
            "Authorization",
            "AWS4-HMAC-SHA256 Credential=AKIAYARD/20260101/us-east-1/ec2/aws4_request, \
             SignedHeaders=host, Signature=0",
        )
        .header("Content-Type", "application/x-www-form-urlencoded")
        .body(body)
        .send()
        .await
        .unwrap();
    let status = response.status();
    assert!(status.is_success(), "{}", response.text().await.unwrap());
}

#[tokio::test]
async fn ec2_launches_and_terminates_machines() {
    let scripts = tempfile::tempdir().unwrap();
    let agent = scripts.path().join("agent");
    std::fs::write(&agent, "#!/bin/bash\nexec sleep 1000\n").unwrap();
    std::fs::set_permissions(&agent, PermissionsExt::from_mode(0o755)).unwrap();
    let runner = env!("CARGO_BIN_EXE_runner-standin");
    let yard = Yard::start(Settings::new(agent, runner)).await.unwrap();
    let world = Mark::world(yard.id());
    let folder = yard.folder().to_owned();

    let launch = "ImageId=ami-baked&InstanceType=c5.large&MinCount=2&MaxCount=2";
    ec2(&yard, "RunInstances", launch).await;
    let up = yard
        .machines
        .wait(PATIENCE, |all| {
            all.len() == 2 && all.iter().all(|machine| machine.pid.is_some())
        })
        .await
        .unwrap();
    assert_eq!(world.processes().len(), 2);
    assert!(
        yard.aws
            .instances()
            .iter()
            .all(|i| i.state.name() == "running")
    );

    let first = &up[0].id;
    ec2(
        &yard,
        "TerminateInstances",
        &format!("InstanceId.1={first}"),
    )
    .await;
    yard.machines
        .wait(PATIENCE, |all| {
            all.iter()
                .any(|m| m.id == *first && m.phase == Phase::Terminated)
        })
        .await
        .unwrap();
    assert_eq!(world.processes().len(), 1);

    let environment = yard.controller_env(7, REPOSITORY);
    assert!(environment.contains(&("AWS_ENDPOINT_URL".to_owned(), yard.aws.url())));
    assert!(folder.exists());
    yard.stop().await;
    assert_eq!(world.processes(), []);
    assert!(!folder.exists());
}

/// A test that fails leaves without `stop`.
#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_yard_leaves_no_process() {
    let runner = env!("CARGO_BIN_EXE_runner-standin");
    // Ends at once and is started again and again: the hardest to catch.
    let yard = Yard::start(Settings::new("/bin/true", runner))
        .await
        .unwrap();
    let world = Mark::world(yard.id());
    let launch = "ImageId=ami-baked&InstanceType=c5.large&MinCount=3&MaxCount=3";
    ec2(&yard, "RunInstances", launch).await;
    yard.machines
        .wait(PATIENCE, |all| all.iter().any(|m| m.restarts > 0))
        .await
        .unwrap();
    drop(yard);
    assert_eq!(world.processes(), []);
    assert_eq!(world.kill_all(), 0);
}
