//! What Paddock says to AWS and GitHub, and what the yard answers, held against what AWS and
//! GitHub publish: see `tests::truth`. All that a pool ever calls at AWS is in
//! `packaging/iam.rs`; here is GitHub, and what the judge sees.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use proto::time::Time;
use serde_json::{Value, json};
use tests::{
    clients,
    pool::{PATIENCE, Pool},
    story::refresh_inputs,
    truth::{Judge, Verdict},
    workflow::{REPOSITORY, Step},
    yard::{
        Recorder, clock,
        github::{App, RunnerView, Status},
    },
};

const KEY: &str = include_str!("../keys/github-app.pkcs8.pem");

async fn judge(recorded: Vec<PathBuf>) -> Verdict {
    let judged = tokio::task::spawn_blocking(move || Judge::install()?.judge(&recorded));
    judged.await.expect("not cancelled").expect("it judges")
}

/// A refresh that logs in as an app and looks the runner program up.
async fn refresh(pool: &Pool, scope: &'static str) -> Step {
    let mut inputs = refresh_inputs(&pool.yard, "subnet-0a subnet-0b");
    inputs.retain(|(name, _)| *name != "github-token");
    inputs.extend(
        [
            ("github-app-id", "123456"),
            ("github-app-private-key", KEY),
            ("actions-runner-version", "latest"),
            ("github-scope", scope),
        ]
        .map(|(name, value)| (name, value.to_owned())),
    );
    inputs.push(("runner-releases-url", pool.yard.github.url()));
    let inputs: Vec<(&str, &str)> = inputs
        .iter()
        .map(|(name, value)| (*name, &**value))
        .collect();
    let step = pool.run(1).step("refresh", &inputs).await;
    step.expect("refresh runs")
}

#[tokio::test(flavor = "multi_thread")]
async fn all_that_is_said_to_github_fits_its_description() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("exchanges.jsonl");
    let recorder = Recorder::to(&file).expect("a file");
    let pool = Pool::with(|settings| {
        settings.recorder = recorder;
        settings.github.offline_after = Duration::from_millis(500);
        settings.github.app = Some(App {
            id: "123456".to_owned(),
            key: KEY.to_owned(),
        });
    })
    .await;
    let github = &pool.yard.github;
    for scope in ["organisation", "repository"] {
        let step = refresh(&pool, scope).await;
        assert_eq!(step.code, 0, "{}", step.log);
    }
    let token = github.token();
    let run = pool.run(1);
    let step = run.step("doctor", &[("github-token", &token)]).await;
    assert_eq!(step.expect("it runs").code, 0);
    // A run that ends without a release, and a machine that is gone while its runner is not.
    github.add_run(41, REPOSITORY);
    let step = pool.provision(41, "2").await;
    let [gone, stays] = &*step.machines() else {
        panic!("two machines: {}", step.log)
    };
    let now = Time::from(clock::now()).to_string();
    let url = pool.yard.aws.url();
    clients::set_time(&url, gone, "threshold", &now).await;
    assert_eq!(pool.refresh().await.code, 0);
    let offline = |runners: &[RunnerView]| runners.iter().any(|runner| !runner.online);
    let seen = github.wait_runners(PATIENCE, offline).await;
    seen.expect("it is offline, and still registered");
    clients::set_time(&url, stays, "since", "2026-01-01T00:00:00.000Z").await;
    github.set_run(41, Status::Completed, None);
    let step = pool.refresh().await;
    assert!(step.log.contains("- runner "), "{}", step.log);
    assert!(step.log.contains("machines of run 41"), "{}", step.log);
    // What GitHub does not know it says in a form of its own.
    let wrong = [("github-token", "another".to_owned())];
    assert_ne!(pool.refresh_with(wrong).await.code, 0);
    pool.yard.stop().await;

    let verdict = judge(vec![file]).await;
    assert!(verdict.wrong.is_empty(), "{}", verdict.complaints());
    let mut wanted = vec![
        "POST /app/installations/{installation_id}/access_tokens".to_owned(),
        "GET /repos/{owner}/{repo}/actions/runs/{run_id}".to_owned(),
        "GET /repos/{owner}/{repo}/releases".to_owned(),
        "DELETE /repos/{owner}/{repo}/actions/runners/{runner_id}".to_owned(),
    ];
    for scope in ["/repos/{owner}/{repo}", "/orgs/{org}"] {
        wanted.push(format!("GET {scope}/installation"));
        wanted.push(format!("GET {scope}/actions/runners"));
        for token in ["registration-token", "remove-token"] {
            wanted.push(format!("POST {scope}/actions/runners/{token}"));
        }
    }
    for operation in wanted {
        let seen = verdict.operations.contains_key(&operation);
        assert!(seen, "never called: {operation}; {:?}", verdict.operations);
    }
}

async fn judge_text(exchanges: &str) -> Verdict {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("exchanges.jsonl");
    std::fs::write(&file, exchanges).expect("written");
    judge(vec![file]).await
}

/// An exchange with some of its fields replaced.
fn with(exchange: &Value, fields: &Value) -> Value {
    let mut exchange = exchange.clone();
    for (name, value) in fields.as_object().expect("an object") {
        exchange[name] = value.clone();
    }
    exchange
}

/// `TerminateInstances` as it is called, and as EC2 answers it.
const FORM: &str = "Action=TerminateInstances&Version=2016-11-15&InstanceId.1=i-0";
const XML: &str = "<TerminateInstancesResponse xmlns='http://ec2.amazonaws.com/doc/2016-11-15/'>\
    <instancesSet><item><instanceId>i-0</instanceId><currentState><code>32</code>\
    <name>shutting-down</name></currentState></item></instancesSet>\
    </TerminateInstancesResponse>";

/// An exchange as it must be, of each kind: AWS's JSON, AWS's forms and XML, GitHub.
fn exchanges() -> [Value; 3] {
    let json = json!({
        "host": "aws", "service": "sqs", "action": "SendMessage", "target": "AmazonSQS.SendMessage",
        "method": "POST", "path": "/", "content_type": "application/x-amz-json-1.0",
        "user_agent": "paddock", "status": 200, "answer_type": "application/x-amz-json-1.0",
        "body": r#"{"QueueUrl": "http://q", "MessageBody": "x"}"#, "answer": "{}",
    });
    let query = with(
        &json,
        &json!({
            "service": "ec2", "action": "TerminateInstances", "target": "",
            "content_type": "application/x-www-form-urlencoded", "answer_type": "text/xml",
            "body": FORM, "answer": XML,
        }),
    );
    let github = json!({
        "host": "github", "service": "", "action": "", "target": "", "method": "POST",
        "path": "/repos/acme/widgets/actions/runners/registration-token", "content_type": "",
        "user_agent": "paddock", "status": 201, "answer_type": "application/json", "body": "",
        "answer": r#"{"token": "A", "expires_at": "2026-01-01T00:00:00Z"}"#,
    });
    [json, query, github]
}

#[tokio::test(flavor = "multi_thread")]
async fn the_judge_sees_what_does_not_fit() {
    let [json, query, github] = exchanges();
    let body = |body: &str| json!({ "body": body });
    let token = |until, more| format!("{{\"token\": \"A\", \"expires_at\": \"{until}\"{more}}}");
    let answer_of = |answer: &str| json!({ "answer": answer });
    let cases = [
        (&json, json!({}), ""),
        (&json, json!({ "action": "Send" }), "no such operation"),
        (
            &json,
            json!({ "target": "AmazonSQS.Send" }),
            "the target is",
        ),
        (
            &json,
            body(r#"{"QueueUrl": "q"}"#),
            "MessageBody is missing",
        ),
        (
            &json,
            body(r#"{"QueueUrl": "q", "MessageBody": "x", "Delay": 1}"#),
            "no member Delay",
        ),
        (
            &json,
            body(r#"{"QueueUrl": "q", "MessageBody": "x", "DelaySeconds": "1"}"#),
            "is no integer",
        ),
        (&json, answer_of(r#"{"Id": "1"}"#), "no member Id"),
        (
            &json,
            json!({ "status": 400, "answer": r#"{"__type": "a#Oops"}"# }),
            "no error 'Oops'",
        ),
        (&query, json!({}), ""),
        (
            &query,
            body(&FORM.replace("2016", "2015")),
            "version 2015-11-15",
        ),
        (
            &query,
            body(&format!("{FORM}&InstanceID.2=i-1")),
            "no parameter InstanceID.N",
        ),
        // A list without its second entry.
        (
            &query,
            body(&format!("{FORM}&InstanceId.3=i-1")),
            "no parameter InstanceId.N",
        ),
        (
            &query,
            body(&format!("{FORM}&DryRun=yes")),
            "neither true nor false",
        ),
        (
            &query,
            answer_of(&XML.replace("instanceId", "id")),
            "no element id",
        ),
        (
            &query,
            answer_of(&XML.replace("shutting", "going")),
            "is none of",
        ),
        (&github, json!({}), ""),
        (
            &github,
            json!({ "path": "/repos/acme/widgets/runners" }),
            "no such operation",
        ),
        (&github, body(r#"{"a": 1}"#), "a body that nobody asked for"),
        (&github, json!({ "user_agent": "" }), "no user agent"),
        (&github, json!({ "status": 200 }), "it has no status 200"),
        (
            &github,
            answer_of(r#"{"token": "A"}"#),
            "'expires_at' is a required",
        ),
        (
            &github,
            answer_of(&token("soon", "")),
            "is not a 'date-time'",
        ),
        (
            &github,
            answer_of(&token("2026-01-01T00:00:00Z", ", \"x\": 1")),
            "no property 'x'",
        ),
    ];
    let cases = cases.map(|(right, change, expected)| (with(right, &change).to_string(), expected));
    let lines = cases.iter().map(|(line, _)| line.clone() + "\n");
    let verdict = judge_text(&lines.collect::<String>()).await;
    for (line, expected) in cases {
        let of_it = verdict.wrong.iter().filter(|wrong| wrong.exchange == line);
        let words: Vec<&str> = of_it.map(|wrong| &*wrong.what).collect();
        let words = words.join("\n");
        assert_eq!(words.is_empty(), expected.is_empty(), "{line}: {words}");
        assert!(words.contains(expected), "{line}: {words}");
    }
}

/// After a run of all tests with `PADDOCK_RECORD`, which names the folder: see CONTRIBUTING.md.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs what other tests recorded"]
async fn all_that_was_recorded_fits() {
    let folder = std::env::var_os("PADDOCK_RECORD").expect("PADDOCK_RECORD names a folder");
    let files: Vec<PathBuf> = std::fs::read_dir(Path::new(&folder))
        .expect("what was recorded")
        .map(|entry| entry.expect("readable").path())
        .collect();
    assert!(!files.is_empty(), "nothing was recorded");
    let verdict = judge(files).await;
    let exchanges: u64 = verdict.operations.values().sum();
    println!(
        "{exchanges} exchanges of {} operations",
        verdict.operations.len()
    );
    assert!(verdict.wrong.is_empty(), "{}", verdict.complaints());
}
