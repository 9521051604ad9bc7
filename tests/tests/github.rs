//! GitHub as a refresh meets it: logins of every kind, organisations, servers, limits.

use std::time::Duration;

use proto::{state::State, table::Table};
use reqwest::StatusCode;
use tests::{
    clients,
    pool::{PATIENCE, Pool},
    story::refresh_inputs,
    workflow::{REPOSITORY, Step, Workflow},
    yard::{
        aws::SecretKind,
        github::{App, Conclusion, Fault, Job, Status},
    },
};

const PKCS1: &str = include_str!("../keys/github-app.pkcs1.pem");
const PKCS8: &str = include_str!("../keys/github-app.pkcs8.pem");

/// A pool whose GitHub knows an app.
async fn pool() -> Pool {
    Pool::with(|settings| {
        settings.github.app = Some(App {
            id: "123456".to_owned(),
            key: PKCS1.to_owned(),
        });
    })
    .await
}

/// A refresh with these inputs in the place of the usual ones; an empty one is left out.
async fn refresh(pool: &Pool, other: &[(&'static str, &str)]) -> Step {
    refresh_in(pool.run(1), pool, other).await
}

async fn refresh_in(run: Workflow<'_>, pool: &Pool, other: &[(&'static str, &str)]) -> Step {
    let mut inputs = refresh_inputs(&pool.yard, "subnet-0a subnet-0b");
    inputs.extend(
        other
            .iter()
            .map(|(name, value)| (*name, (*value).to_owned())),
    );
    let inputs: Vec<(&str, &str)> = inputs
        .iter()
        .map(|(name, value)| (*name, &**value))
        .collect();
    run.step("refresh", &inputs).await.expect("refresh runs")
}

/// Makes the next refresh renew the tokens.
async fn forget_tokens(pool: &Pool) {
    let config = pool.table.config().await.expect("read");
    let mut tokens = config.github_tokens.expect("tokens");
    tokens.obtained_at = proto::time::Time::EPOCH;
    let item = proto::config::ConfigItem::GithubTokens(tokens);
    pool.table.put_config(&item).await.expect("written");
}

/// The log of a workflow has each token of the table once, as its mask.
async fn hides_tokens_of_the_table(pool: &Pool, step: &Step) {
    let config = pool.table.config().await.expect("read");
    let tokens = config.github_tokens.expect("tokens");
    for token in [tokens.registration, tokens.removal] {
        let mask = format!("::add-mask::{}", token.expose());
        assert!(step.log.contains(&mask), "hidden: {}", step.log);
        assert_eq!(step.log.matches(token.expose()).count(), 1, "{}", step.log);
    }
}

async fn set_time(pool: &Pool, machine: &str, name: &str, time: &str) {
    clients::set_time(&pool.yard.aws.url(), machine, name, time).await;
}

fn paths(pool: &Pool) -> Vec<String> {
    let calls = pool.yard.github.calls();
    calls.into_iter().map(|call| call.path).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_logs_in_with_either_form_of_its_key() {
    let pool = pool().await;
    for key in [PKCS1, PKCS8] {
        forget_tokens(&pool).await;
        let before = pool.yard.github.calls().len();
        let app = [
            ("github-token", ""),
            ("github-app-id", "123456"),
            ("github-app-private-key", key),
        ];
        let step = refresh(&pool, &app).await;
        assert_eq!(step.code, 0, "{}", step.log);
        assert!(step.log.contains("~ GitHub tokens"), "{}", step.log);
        let secret = key.lines().nth(2).expect("a line of the key");
        assert!(
            step.log.contains(&format!("::add-mask::{secret}")),
            "hidden"
        );
        assert_eq!(step.log.matches(secret).count(), 1, "{}", step.log);
        let asked = paths(&pool).split_off(before);
        assert_eq!(asked[0], format!("/repos/{REPOSITORY}/installation"));
        let logins = asked.iter().filter(|path| path.contains("access_tokens"));
        assert_eq!(logins.count(), 1, "one login for both tokens: {asked:?}");
        for start in ["::add-mask::ghs_", "::add-mask::eyJ"] {
            assert!(step.log.contains(start), "{start}: {}", step.log);
        }
        hides_tokens_of_the_table(&pool, &step).await;
    }
    for mode in ["status", "doctor", "destroy"] {
        let mut run = pool.run(1);
        run.flags
            .extend((mode == "destroy").then(|| "--dry-run".to_owned()));
        let step = run.step(mode, &[]).await.expect("it runs");
        hides_tokens_of_the_table(&pool, &step).await;
    }
    let step = pool.provision(11, "1").await;
    assert_eq!(step.code, 0, "{}", step.log);

    forget_tokens(&pool).await;
    let stranger = [
        ("github-token", ""),
        ("github-app-id", "654321"),
        ("github-app-private-key", PKCS8),
    ];
    let step = refresh(&pool, &stranger).await;
    assert_eq!(step.code, 3, "{}", step.log);
    let words = "GitHub refused the app's signature: Integration not found";
    assert!(step.log.contains(words), "{}", step.log);
    pool.yard.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_may_be_kept_at_aws() {
    let pool = pool().await;
    let keep = |kind, name, text: &str| {
        let arn = pool.yard.aws.keep_secret(kind, name, text);
        arn.expect("the yard keeps it")
    };
    let token = pool.yard.github.token();
    let secret = keep(
        SecretKind::Secret,
        "paddock-acme-widgets-pat",
        &format!("{token}\n"),
    );
    let parameter = keep(SecretKind::Parameter, "/paddock-acme-widgets/pat", &token);
    for source in [
        secret.as_str(),
        parameter.as_str(),
        "ssm:/paddock-acme-widgets/pat",
    ] {
        forget_tokens(&pool).await;
        let step = refresh(&pool, &[("github-token", source)]).await;
        assert_eq!(step.code, 0, "{source}: {}", step.log);
        assert!(step.log.contains("~ GitHub tokens"), "{}", step.log);
        assert!(
            step.log.contains(&format!("::add-mask::{token}")),
            "{}",
            step.log
        );
    }
    keep(SecretKind::Parameter, "/paddock-acme-widgets/key", PKCS8);
    forget_tokens(&pool).await;
    let app = [
        ("github-token", ""),
        ("github-app-id", "123456"),
        ("github-app-private-key", "ssm:/paddock-acme-widgets/key"),
    ];
    let step = refresh(&pool, &app).await;
    assert_eq!(step.code, 0, "{}", step.log);

    // What needs no GitHub is done all the same.
    let locked_out = [
        ("github-token", "ssm:/paddock-acme-widgets/nothing"),
        ("idle-time-sec", "601"),
    ];
    forget_tokens(&pool).await;
    let step = refresh(&pool, &locked_out).await;
    assert_eq!(step.code, 3, "{}", step.log);
    let config = pool.table.config().await.expect("read");
    assert_eq!(config.parameters.map(|it| it.idle_time_sec), Some(601));
    let words = "read the parameter /paddock-acme-widgets/nothing";
    assert!(step.log.contains(words), "{}", step.log);
    assert!(step.log.contains("ParameterNotFound"), "{}", step.log);

    // The role of a refresh reads its own pool's secrets alone.
    let step = refresh(&pool, &[("github-token", "ssm:/payroll/key")]).await;
    assert_eq!(step.code, 3, "{}", step.log);
    assert!(step.log.contains("AccessDeniedException"), "{}", step.log);
    pool.yard.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_organisation_shares_one_pool() {
    let pool = Pool::with(|settings| {
        settings.github.repositories = vec![REPOSITORY.to_owned(), "acme/gadgets".to_owned()];
    })
    .await;
    let scope = ("github-scope", "organisation");
    let step = refresh(&pool, &[scope]).await;
    assert_eq!(step.code, 0, "{}", step.log);
    assert!(
        step.log.contains("launch template paddock-acme "),
        "{}",
        step.log
    );

    let mut other = pool.run(21);
    other.repository = "acme/gadgets".to_owned();
    pool.yard.github.add_run(21, "acme/gadgets");
    let step = other.step("provision", &[scope]).await.expect("it runs");
    assert_eq!(step.code, 0, "{}", step.log);
    let runners = pool.yard.github.runners();
    assert_eq!(runners[0].scope, "acme", "{runners:?}");
    let job = pool.yard.github.enqueue(Job {
        run_id: 21,
        labels: vec!["21".to_owned()],
        steps: vec!["true".to_owned()],
        ..Job::default()
    });
    let done = pool
        .yard
        .github
        .wait_job(job, PATIENCE)
        .await
        .expect("done");
    assert_eq!(done.conclusion, Some(Conclusion::Success));
    let step = other.step("release", &[scope]).await.expect("it runs");
    assert!(step.log.contains("1 back in the pool"), "{}", step.log);

    // The machine is the next repository's now.
    let step = pool.run(22).step("provision", &[scope]).await;
    let step = step.expect("it runs");
    assert_eq!(step.number("reused"), Some(1), "{}", step.log);

    // A pool is one organisation's or one repository's.
    let wrong = [("pool-name", "acme")];
    let step = refresh(&pool, &wrong).await;
    assert_eq!(step.code, 2, "{}", step.log);
    assert!(step.log.contains("pool acme serves"), "{}", step.log);
    pool.yard.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_are_waited_for_and_other_refusals_are_not() {
    let pool = Pool::new(Duration::ZERO).await;
    let limited = |status, headers, message| Fault {
        status,
        headers,
        message,
    };
    forget_tokens(&pool).await;
    pool.yard.github.fail_next_with(limited(
        StatusCode::TOO_MANY_REQUESTS,
        vec![("retry-after", "1".to_owned())],
        None,
    ));
    let now = tests::yard::clock::now().as_second();
    pool.yard.github.fail_next_with(limited(
        StatusCode::FORBIDDEN,
        vec![
            ("x-ratelimit-remaining", "0".to_owned()),
            ("x-ratelimit-reset", (now + 1).to_string()),
        ],
        Some("API rate limit exceeded for user ID 1."),
    ));
    let step = refresh(&pool, &[]).await;
    assert_eq!(step.code, 0, "{}", step.log);
    assert!(step.took >= Duration::from_secs(1), "{:?}", step.took);
    assert!(step.log.contains("~ GitHub tokens"), "{}", step.log);

    // A limit that ends in an hour is said; the rest of the refresh is done.
    forget_tokens(&pool).await;
    let hour = || {
        limited(
            StatusCode::FORBIDDEN,
            vec![
                ("x-ratelimit-remaining", "0".to_owned()),
                ("x-ratelimit-reset", (now + 3600).to_string()),
            ],
            Some("API rate limit exceeded for user ID 1."),
        )
    };
    pool.yard.github.fail_next_with(hour());
    pool.yard.github.fail_next_with(hour());
    let step = refresh(&pool, &[("idle-time-sec", "77")]).await;
    assert_eq!(step.code, 3, "{}", step.log);
    assert!(step.log.contains("rate limit is used up"), "{}", step.log);
    let parameters = pool.table.config().await.expect("read").parameters;
    assert_eq!(parameters.map(|p| p.idle_time_sec), Some(77));

    // A token without the permission is told which one.
    let forbidden = || {
        limited(
            StatusCode::FORBIDDEN,
            vec![],
            Some("Resource not accessible"),
        )
    };
    pool.yard.github.fail_next_with(forbidden());
    pool.yard.github.fail_next_with(forbidden());
    let step = refresh(&pool, &[]).await;
    assert_eq!(step.code, 3, "{}", step.log);
    assert!(step.log.contains("Administration: write"), "{}", step.log);
    pool.yard.github.set_token("ghp_new");
    let step = refresh(&pool, &[("github-token", "ghp_old")]).await;
    assert!(step.log.contains("has not expired"), "{}", step.log);
    pool.yard.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_apps_claims_of_another_time_are_blamed_on_the_clock() {
    let pool = pool().await;
    let app = [
        ("github-token", ""),
        ("github-app-id", "123456"),
        ("github-app-private-key", PKCS1),
    ];
    for (ahead, off) in [
        (3690, "1h 1m behind GitHub"),
        (-3690, "1h 1m ahead of GitHub"),
    ] {
        forget_tokens(&pool).await;
        pool.yard.github.set_ahead(ahead);
        let step = refresh(&pool, &app).await;
        assert_eq!(step.code, 3, "{}", step.log);
        let named = format!("this machine's clock is {off}: set it");
        assert!(step.log.contains(&named), "{}", step.log);
    }
    pool.yard.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_of_ones_own_has_its_api_under_a_path() {
    let pool = Pool::new(Duration::ZERO).await;
    let mut run = pool.run(31);
    let api = format!("{}/api/v3", pool.yard.github.url());
    run.environment = vec![("GITHUB_API_URL".to_owned(), api)];
    let own = ("pool-name", "server");
    let step = refresh_in(run, &pool, &[own]).await;
    assert_eq!(step.code, 0, "{}", step.log);
    let path = format!("/api/v3/repos/{REPOSITORY}/actions/runners/registration-token");
    assert!(paths(&pool).contains(&path), "{:?}", paths(&pool));
    let step = pool.provision_with(32, &[own]).await;
    assert_eq!(step.code, 0, "{}", step.log);
    pool.yard.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_machines_of_a_run_that_is_over_come_back() {
    let pool = Pool::new(Duration::ZERO).await;
    pool.yard.github.add_run(41, REPOSITORY);
    let step = pool.provision(41, "2").await;
    assert_eq!(step.code, 0, "{}", step.log);
    for machine in step.machines() {
        set_time(&pool, &machine, "since", "2026-01-01T00:00:00.000Z").await;
    }
    // The run goes on: it keeps them, however long.
    let step = pool.refresh().await;
    assert!(step.log.contains("nothing to do"), "{}", step.log);

    let cancelled = Some(Conclusion::Cancelled);
    pool.yard.github.set_run(41, Status::Completed, cancelled);
    let step = pool.refresh().await;
    assert_eq!(step.code, 0, "{}", step.log);
    let words = "- 2 machines of run 41 (it is over and did not release them)";
    assert!(step.log.contains(words), "{}", step.log);
    assert_eq!(pool.records(State::Idle).await, 2);
    let step = pool.refresh().await;
    assert!(step.log.contains("nothing to do"), "{}", step.log);
    let step = pool.provision(42, "2").await;
    assert_eq!(step.number("reused"), Some(2), "{}", step.log);
    pool.yard.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runner_whose_machine_is_gone_is_deleted() {
    let pool = Pool::with(|settings| {
        settings.github.offline_after = Duration::from_millis(500);
    })
    .await;
    let step = pool.provision(51, "2").await;
    let [gone, stays] = &*step.machines() else {
        panic!("two machines: {}", step.log)
    };
    // Just over: its own agent gives refresh a minute to act.
    let over = proto::time::Time::from(tests::yard::clock::now()).to_string();
    set_time(&pool, gone, "threshold", &over).await;
    let step = pool.refresh().await;
    assert_eq!(step.code, 0, "{}", step.log);
    assert!(step.log.contains("running past"), "{}", step.log);
    pool.until_alive(1).await;
    let offline = |runners: &[tests::yard::github::RunnerView]| {
        let lost = runners
            .iter()
            .find(|runner| runner.name.starts_with(gone.as_str()));
        lost.is_some_and(|runner| !runner.online)
    };
    let seen = pool.yard.github.wait_runners(PATIENCE, offline).await;
    seen.expect("it is offline, and still registered");

    let step = pool.refresh().await;
    assert_eq!(step.code, 0, "{}", step.log);
    let words = format!("- runner {gone}-");
    assert!(step.log.contains(&words), "{}", step.log);
    let runners = pool.yard.github.runners();
    assert_eq!(runners.len(), 1, "{runners:?}");
    assert!(runners[0].name.starts_with(stays.as_str()), "{runners:?}");
    pool.yard.stop().await;
}
