//! The stand-in runner against the yard's GitHub, as real processes.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use nix::sys::signal::Signal;
use tests::yard::github::{Conclusion, GitHub, Settings, Status};

use crate::kit::{PATIENCE, REPOSITORY, Runner, github, job, read, registration_token, rest};

#[tokio::test]
async fn configure_run_work_remove() {
    let github = github().await;
    let runner = Runner::configured(&github, "i-1-1", "7").await;
    assert!(read(&runner.path(".runner")).starts_with("\u{feff}{"));
    let key = std::fs::metadata(runner.path(".credentials_rsaparams")).unwrap();
    assert_eq!(key.permissions().mode() & 0o777, 0o600);

    let mut listener = runner.run();
    listener.prints("Listening for Jobs").await;
    let gate = runner.path("gate");
    let wait = format!(
        "until [ -e {} ]; do sleep 0.02; done; echo two $GITHUB_RUN_ID",
        gate.display()
    );
    let id = github.enqueue(job("7", &["echo one $RUNNER_NAME; pwd", &wait]));
    listener.prints("Running job: build").await;
    let running = github
        .wait_job_until(id, PATIENCE, |job| job.log.contains("one i-1-1"))
        .await
        .unwrap();
    assert_eq!(running.status, Status::InProgress);
    assert_eq!(running.runner.as_deref(), Some("i-1-1"));

    // A runner with a job cannot be deleted, neither over REST nor by itself.
    let path = format!("/repos/{REPOSITORY}/actions/runners");
    let (_, list) = rest(&github, "GET", &path).await;
    assert_eq!(list["runners"][0]["busy"], true);
    let own = format!("{path}/{}", list["runners"][0]["id"]);
    assert_eq!(rest(&github, "DELETE", &own).await.0, 422);
    let token = registration_token(&github).await;
    let removal = runner
        .listener(&["remove", "--token", &token])
        .output()
        .await
        .unwrap();
    assert_eq!(removal.status.code(), Some(1));
    assert!(runner.path(".runner").exists());

    std::fs::write(&gate, "").unwrap();
    let done = github.wait_job(id, PATIENCE).await.unwrap();
    assert_eq!(done.conclusion, Some(Conclusion::Success), "{}", done.log);
    assert!(done.log.contains("/_work/widgets/widgets"), "{}", done.log);
    assert!(done.log.contains("two 7"), "{}", done.log);
    assert!(done.started_at < done.finished_at);
    listener
        .prints("Job build completed with result: Succeeded")
        .await;

    let removal = runner
        .listener(&["remove", "--token", &token])
        .output()
        .await
        .unwrap();
    assert!(removal.status.success(), "{removal:?}");
    assert!(!runner.path(".runner").exists());
    assert!(!runner.path(".credentials_rsaparams").exists());
    assert_eq!(github.runners(), []);
    // The listener notices by itself.
    assert_eq!(listener.ended().await.code(), Some(0));
}

#[tokio::test]
async fn a_second_configure_is_refused() {
    let github = github().await;
    let runner = Runner::configured(&github, "a", "x").await;
    let token = registration_token(&github).await;
    let again = runner.configure("b", "x", &token, &[]).await;
    assert_eq!(again.status.code(), Some(1));
    let printed = String::from_utf8_lossy(&again.stderr);
    assert!(printed.contains("already configured"), "{printed}");
    assert_eq!(github.runners().len(), 1);

    let local = runner.listener(&["remove", "--local"]).status().await;
    assert!(local.unwrap().success());
    assert!(!runner.path(".runner").exists());
    assert_eq!(github.runners().len(), 1, "GitHub was not asked");

    // The name is taken until `--replace` says otherwise.
    assert_eq!(
        runner.configure("a", "x", &token, &[]).await.status.code(),
        Some(1)
    );
    let replaced = runner.configure("a", "y", &token, &["--replace"]).await;
    assert!(replaced.status.success());
    assert_eq!(github.runners()[0].labels, ["y"]);
}

#[tokio::test]
async fn a_bad_token_registers_nothing() {
    let github = github().await;
    let runner = Runner::install(&github);
    let token = registration_token(&github).await;
    github.expire_runner_tokens();
    let output = runner.configure("a", "x", &token, &[]).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(!runner.path(".runner").exists());
    assert_eq!(github.runners(), []);
}

#[tokio::test]
async fn jobs_never_see_a_token() {
    let github = github().await;
    let runner = Runner::configured(&github, "a", "x").await;
    let token = registration_token(&github).await;
    let listener = runner.run_with(&[("ACTIONS_RUNNER_INPUT_TOKEN", &token)]);
    listener.prints("Listening for Jobs").await;
    let id = github.enqueue(job("x", &["env; cat /proc/*/cmdline | tr '\\0' ' '"]));
    let done = github.wait_job(id, PATIENCE).await.unwrap();
    assert_eq!(done.conclusion, Some(Conclusion::Success), "{}", done.log);
    assert!(done.log.contains("GITHUB_ACTIONS=true"));
    assert!(done.log.contains("Runner.Worker"));
    assert!(!done.log.contains(&token), "{}", done.log);
}

#[tokio::test]
async fn a_signal_to_the_listener_cancels_the_job() {
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let github = github().await;
        let runner = Runner::configured(&github, "a", "x").await;
        let mut listener = runner.run();
        let id = github.enqueue(job("x", &["echo begun; sleep 1000", "echo never"]));
        github
            .wait_job_until(id, PATIENCE, |job| job.log.contains("begun"))
            .await
            .unwrap();
        listener.signal(signal);
        let done = github.wait_job(id, PATIENCE).await.unwrap();
        assert_eq!(done.conclusion, Some(Conclusion::Cancelled), "{}", done.log);
        assert!(!done.log.contains("never\n"), "{}", done.log);
        assert_eq!(listener.ended().await.code(), Some(0));
        assert!(
            listener
                .printed()
                .contains("Job build completed with result: Canceled")
        );
        assert_eq!(runner.mark().processes(), []);
    }
}

#[tokio::test]
async fn cancelling_at_github_spares_the_listener() {
    let github = github().await;
    let runner = Runner::configured(&github, "a", "x").await;
    let mut listener = runner.run();
    let first = github.enqueue(job("x", &["sleep 1000"]));
    let waiting = github.enqueue(job("x", &["true"]));
    github
        .wait_job_until(first, PATIENCE, |job| job.status == Status::InProgress)
        .await
        .unwrap();
    github.cancel_job(first);
    let done = github.wait_job(first, PATIENCE).await.unwrap();
    assert_eq!(done.conclusion, Some(Conclusion::Cancelled));
    let next = github.wait_job(waiting, PATIENCE).await.unwrap();
    assert_eq!(next.conclusion, Some(Conclusion::Success));
    listener.signal(Signal::SIGINT);
    assert_eq!(listener.ended().await.code(), Some(0));
}

#[tokio::test]
async fn a_failed_step_ends_the_job_and_its_processes_end_with_it() {
    let github = github().await;
    let runner = Runner::configured(&github, "a", "x").await;
    let listener = runner.run();
    let id = github.enqueue(job(
        "x",
        &[
            "(setsid sleep 1000 >/dev/null 2>&1 &); exit 3",
            "echo never",
        ],
    ));
    let done = github.wait_job(id, PATIENCE).await.unwrap();
    assert_eq!(done.conclusion, Some(Conclusion::Failure));
    assert!(done.log.contains("exit code 3"), "{}", done.log);
    assert!(!done.log.contains("Run echo never"), "{}", done.log);
    listener
        .prints("Job build completed with result: Failed")
        .await;
    assert_eq!(runner.mark().processes().len(), 1, "only the listener");
}

#[tokio::test]
async fn jobs_go_where_their_labels_are() {
    let github = github().await;
    let runner = Runner::configured(&github, "a", "x,gpu").await;
    let _listener = runner.run();
    let elsewhere = github.enqueue(job("y", &["true"]));
    let both = github.enqueue(tests::yard::github::Job {
        labels: vec!["GPU".to_owned(), "x".to_owned()],
        ..job("x", &["true"])
    });
    let done = github.wait_job(both, PATIENCE).await.unwrap();
    assert_eq!(done.conclusion, Some(Conclusion::Success));
    assert_eq!(github.job(elsewhere).unwrap().status, Status::Queued);
}

#[tokio::test]
async fn exit_codes_tell_why_the_listener_ended() {
    let github = github().await;
    let runner = Runner::install(&github);
    assert_eq!(runner.run().ended().await.code(), Some(1), "unconfigured");

    let runner = Runner::configured(&github, "a", "x").await;
    let first = runner.run();
    first.prints("Listening for Jobs").await;
    let no_patience = [("PADDOCK_YARD_CONFLICT_MS", "0")];
    assert_eq!(
        runner.run_with(&no_patience).ended().await.code(),
        Some(5),
        "session conflict"
    );
    runner.mark().kill_all();

    github.set_down(true);
    assert_eq!(runner.run().ended().await.code(), Some(2), "server trouble");
    github.set_down(false);

    let id = github.runners()[0].id;
    let path = format!("/repos/{REPOSITORY}/actions/runners/{id}");
    assert_eq!(rest(&github, "DELETE", &path).await.0, 204);
    let mut deleted = runner.run();
    assert_eq!(deleted.ended().await.code(), Some(1), "deleted");
    assert!(deleted.printed().contains("registration has been deleted"));
}

#[tokio::test]
async fn an_ephemeral_runner_takes_one_job() {
    let github = github().await;
    let runner = Runner::install(&github);
    let token = registration_token(&github).await;
    let output = runner.configure("a", "x", &token, &["--ephemeral"]).await;
    assert!(output.status.success(), "{output:?}");
    let mut listener = runner.run();
    let id = github.enqueue(job("x", &["true"]));
    let second = github.enqueue(job("x", &["true"]));
    github.wait_job(id, PATIENCE).await.unwrap();
    assert_eq!(listener.ended().await.code(), Some(0));
    assert_eq!(github.runners(), []);
    assert_eq!(github.job(second).unwrap().status, Status::Queued);
}

#[tokio::test]
async fn a_killed_listener_goes_offline_and_its_job_fails() {
    let github = GitHub::start(Settings {
        offline_after: Duration::from_millis(500),
        silence: Duration::from_secs(2),
        ..Settings::default()
    })
    .await
    .unwrap();
    let runner = Runner::configured(&github, "a", "x").await;
    let _listener = runner.run();
    let id = github.enqueue(job("x", &["sleep 1000"]));
    github
        .wait_job_until(id, PATIENCE, |job| job.status == Status::InProgress)
        .await
        .unwrap();
    runner.mark().kill_all();
    let seen = github
        .wait_runners(PATIENCE, |all| all.iter().all(|r| !r.online))
        .await
        .unwrap();
    assert!(seen[0].busy, "GitHub still believes in the job");
    let done = github.wait_job(id, PATIENCE).await.unwrap();
    assert_eq!(done.conclusion, Some(Conclusion::Failure));
    assert!(done.log.contains("lost communication"), "{}", done.log);
    assert!(!github.runners()[0].busy);
}
