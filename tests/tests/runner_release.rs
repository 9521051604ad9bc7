//! Which runner program machines get: looked up at GitHub, recorded, warned about.

use std::time::Duration;

use proto::table::Table;
use reqwest::StatusCode;
use tests::{pool::Pool, story::refresh_inputs, workflow::Step};

/// A refresh with these inputs besides the usual ones.
async fn refresh(pool: &Pool, more: &[(&'static str, &str)]) -> Step {
    let mut inputs = refresh_inputs(&pool.yard, "subnet-0a subnet-0b");
    inputs.push(("runner-releases-url", pool.yard.github.url()));
    inputs.extend(
        more.iter()
            .map(|(name, value)| (*name, (*value).to_owned())),
    );
    let inputs: Vec<(&str, &str)> = inputs
        .iter()
        .map(|(name, value)| (*name, &**value))
        .collect();
    let step = pool.run(1).step("refresh", &inputs).await;
    step.expect("refresh runs")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_latest_runner_is_looked_up_and_recorded() {
    let pool = Pool::new(Duration::ZERO).await;
    let latest = [("actions-runner-version", "latest")];
    let step = refresh(&pool, &latest).await;
    assert_eq!(step.code, 0, "{}", step.log);
    let again = refresh(&pool, &latest).await;
    assert!(again.log.contains("nothing to do"), "{}", again.log);

    let recorded = || async {
        let template = pool.table.config().await.expect("read").launch_template;
        template.expect("a template").runner
    };
    let release = recorded().await.expect("a release");
    assert_eq!(release.version, "2.336.0");
    let archive = &release.downloads.x86_64;
    assert_eq!(archive.sha256.len(), 64);
    let bytes = reqwest::get(&archive.url).await.expect("it is there");
    assert_eq!(bytes.status(), StatusCode::OK, "{}", archive.url);

    // It reaches the machines: they have that version and start.
    let step = pool.provision(11, "1").await;
    assert_eq!(step.code, 0, "{}", step.log);

    // GitHub is away: the release stays, and the rest of refresh is done.
    pool.yard.github.set_down(true);
    let step = refresh(&pool, &latest).await;
    assert_eq!(step.code, 3, "{}", step.log);
    assert!(
        step.log.contains("the machines keep runner 2.336.0"),
        "{}",
        step.log
    );
    assert!(step.log.contains("503"), "{}", step.log);
    assert_eq!(recorded().await, Some(release));
    pool.yard.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runner_that_github_refuses_is_warned_about_and_an_unknown_one_refused() {
    let pool = Pool::with(|settings| {
        settings.github.other_releases = vec![
            ("2.335.0".into(), "2026-06-01T00:00:00Z".into()),
            ("2.334.0".into(), "2026-05-01T00:00:00Z".into()),
        ];
    })
    .await;
    let before = pool.calls("*");
    let step = refresh(&pool, &[("actions-runner-version", "9.9.9")]).await;
    assert_eq!(step.code, 2, "{}", step.log);
    let words = "there is no runner 9.9.9; the newest is 2.336.0";
    assert!(step.log.contains(words), "{}", step.log);
    assert_eq!(pool.calls("*"), before, "nothing was touched");

    let step = refresh(&pool, &[("actions-runner-version", "2.334.0")]).await;
    assert_eq!(step.code, 0, "{}", step.log);
    let words = "::warning title=Paddock::GitHub gives a runner 2.334.0 no jobs: its successor \
                 2.335.0 is out since 2026-06-01";
    assert!(step.log.contains(words), "{}", step.log);
    let step = refresh(&pool, &[("actions-runner-version", "2.336.0")]).await;
    assert!(!step.log.contains("::warning"), "{}", step.log);
    pool.yard.stop().await;
}
