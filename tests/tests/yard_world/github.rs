//! The REST API, without any runner process.

use std::time::Duration;

use reqwest::StatusCode;
use serde_json::json;
use tests::yard::github::wire::{OpenSession, Register, Registered, SessionOpened};
use tests::yard::github::{Conclusion, GitHub, Settings, Status};

use crate::kit::{PATIENCE, REPOSITORY, github, http, job, registration_token, rest, rest_with};

async fn register(github: &GitHub, name: &str) -> Registered {
    let request = Register {
        scope: REPOSITORY.to_owned(),
        token: registration_token(github).await,
        name: name.to_owned(),
        labels: vec!["x".to_owned()],
        replace: false,
        ephemeral: false,
        version: "2.336.0".to_owned(),
    };
    let url = format!("{}/_runner/register", github.url());
    let response = http().post(url).json(&request).send().await.unwrap();
    response.json().await.unwrap()
}

#[tokio::test]
async fn what_a_token_cannot_reach_does_not_exist() {
    let github = github().await;
    let tokens = format!("/repos/{REPOSITORY}/actions/runners/registration-token");
    let (status, body) = rest_with(&github, "POST", &tokens, None).await;
    assert_eq!(
        (status, &body["message"]),
        (401, &json!("Requires authentication"))
    );
    let (status, body) = rest_with(&github, "POST", &tokens, Some("ghp_other")).await;
    assert_eq!((status, &body["message"]), (401, &json!("Bad credentials")));
    let elsewhere = "/repos/acme/secret/actions/runners";
    assert_eq!(rest(&github, "GET", elsewhere).await.0, 404);
    let (status, body) = rest(&github, "POST", &tokens).await;
    assert_eq!(status, 201);
    assert!(body["expires_at"].as_str().unwrap().ends_with('Z'));
    let (status, _) = rest(&github, "POST", "/orgs/acme/actions/runners/remove-token").await;
    assert_eq!(status, 201);
    assert_eq!(github.calls().len(), 5);
    assert_eq!(github.calls()[0].status, 401);
}

#[tokio::test]
async fn the_list_of_runners_has_pages() {
    let github = github().await;
    for number in 0..5 {
        register(&github, &format!("runner-{number}")).await;
    }
    let path = format!("/repos/{REPOSITORY}/actions/runners");
    let (_, page) = rest(&github, "GET", &format!("{path}?per_page=2&page=3")).await;
    assert_eq!(page["total_count"], 5);
    assert_eq!(page["runners"].as_array().unwrap().len(), 1);
    let last = &page["runners"][0];
    assert_eq!(last["name"], "runner-4");
    assert_eq!(last["status"], "offline");
    assert_eq!(last["labels"][0]["name"], "x");
    let own = format!("{path}/{}", last["id"]);
    assert_eq!(rest(&github, "GET", &own).await.1["name"], "runner-4");
    assert_eq!(rest(&github, "DELETE", &own).await.0, 204);
    assert_eq!(rest(&github, "DELETE", &own).await.0, 404);
    assert_eq!(rest(&github, "GET", &own).await.0, 404);
}

#[tokio::test]
async fn runs_have_a_status() {
    let github = github().await;
    let path = format!("/repos/{REPOSITORY}/actions/runs/7");
    assert_eq!(rest(&github, "GET", &path).await.0, 404);
    github.add_run(7, REPOSITORY);
    let (_, run) = rest(&github, "GET", &path).await;
    assert_eq!(run["status"], "in_progress");
    assert_eq!(run["conclusion"], json!(null));
    github.set_run(7, Status::Completed, Some(Conclusion::Cancelled));
    let (_, run) = rest(&github, "GET", &path).await;
    assert_eq!(run["conclusion"], "cancelled");
}

#[tokio::test]
async fn faults_come_on_demand() {
    let github = github().await;
    github.add_run(7, REPOSITORY);
    let path = format!("/repos/{REPOSITORY}/actions/runs/7");
    github.fail_next(&[StatusCode::BAD_GATEWAY, StatusCode::FORBIDDEN]);
    let mut seen = Vec::new();
    for _ in 0..3 {
        seen.push(rest(&github, "GET", &path).await.0);
    }
    assert_eq!(seen, [502, 403, 200]);
}

#[tokio::test]
async fn a_job_that_nobody_confirms_is_queued_again() {
    let github = GitHub::start(Settings {
        pickup: Duration::from_millis(200),
        ..Settings::default()
    })
    .await
    .unwrap();
    let registered = register(&github, "a").await;
    let base = format!("{}/_runner/sessions", github.url());
    let open = OpenSession {
        runner_id: registered.runner_id,
        credential: registered.credential,
    };
    let opened = http().post(&base).json(&open).send().await.unwrap();
    let opened: SessionOpened = opened.json().await.unwrap();
    let second = http().post(&base).json(&open).send().await.unwrap();
    assert_eq!(
        second.status(),
        StatusCode::CONFLICT,
        "one session a runner"
    );

    let id = github.enqueue(job("x", &["true"]));
    for assignments in 1..=2 {
        let poll = format!("{base}/{}/message", opened.session_id);
        let polled = http().get(poll).send().await.unwrap();
        assert_eq!(polled.status(), StatusCode::OK);
        assert_eq!(github.job(id).unwrap().assignments, assignments);
        assert!(github.runners()[0].busy);
        let back = github
            .wait_job_until(id, PATIENCE, |job| job.runner.is_none())
            .await
            .unwrap();
        assert_eq!(back.status, Status::Queued);
        assert!(!github.runners()[0].busy);
    }
}

#[tokio::test]
async fn the_runner_can_be_downloaded() {
    let github = GitHub::start(Settings {
        runner_binary: Some(env!("CARGO_BIN_EXE_runner-standin").into()),
        ..Settings::default()
    })
    .await
    .unwrap();
    let path = format!("/repos/{REPOSITORY}/actions/runners/downloads");
    let (status, list) = rest(&github, "GET", &path).await;
    assert_eq!(status, 200, "{list}");
    let (_, release) = rest_with(
        &github,
        "GET",
        "/repos/actions/runner/releases/latest",
        None,
    )
    .await;
    assert_eq!(release["tag_name"], "v2.336.0");
    let digest = format!("sha256:{}", list[0]["sha256_checksum"].as_str().unwrap());
    assert_eq!(release["assets"][0]["digest"], digest);

    let url = list[0]["download_url"].as_str().unwrap();
    let bytes = http().get(url).send().await.unwrap().bytes().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let archive = folder.path().join("runner.tar.gz");
    std::fs::write(&archive, bytes).unwrap();
    let run = |program: &str, arguments: &[&str]| {
        std::process::Command::new(program)
            .args(arguments)
            .current_dir(folder.path())
            .output()
            .unwrap()
    };
    assert!(run("tar", &["-xzf", "runner.tar.gz"]).status.success());
    let version = run("bin/Runner.Listener", &["--version"]);
    assert_eq!(version.stdout, b"2.336.0\n");
    assert!(folder.path().join("bin/Runner.Worker").exists());
}
