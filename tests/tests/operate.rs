//! What operators do with a pool: look at it, take it down.

use std::time::Duration;

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use proto::state::State;
use serde_json::Value;
use tests::{
    clients,
    pool::Pool,
    workflow::{Step, Terminal},
    yard::aws::{Fault, FaultKind},
};

fn json(step: &Step) -> Value {
    let line = step.log.lines().next().unwrap_or_default();
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {}", step.log))
}

/// Names of what is left at AWS.
async fn standing(pool: &Pool) -> Vec<String> {
    let url = pool.yard.aws.url();
    let tables = clients::dynamodb(&url).list_tables().send().await;
    let queues = clients::sqs(&url).list_queues().send().await;
    let ec2 = clients::ec2(&url);
    let templates = ec2.describe_launch_templates().send().await;
    let mut names = tables.expect("listed").table_names.unwrap_or_default();
    for url in queues.expect("listed").queue_urls.unwrap_or_default() {
        names.push(url.rsplit('/').next().unwrap_or_default().to_owned());
    }
    for template in templates
        .expect("listed")
        .launch_templates
        .unwrap_or_default()
    {
        names.push(template.launch_template_name.unwrap_or_default());
    }
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn status_shows_the_pool_as_it_is() {
    let pool = Pool::new(Duration::ZERO).await;
    let held = pool.provision(61, "1").await;
    let back = pool.provision(62, "1").await;
    assert_eq!((held.code, back.code), (0, 0), "{}{}", held.log, back.log);
    assert_eq!(pool.release(62).await.code, 0);

    let step = pool.operate("status", &[]).await;
    assert_eq!(step.code, 0, "{}", step.log);
    let line = |id: &str| {
        let found = step.log.lines().find(|line| line.starts_with(id));
        found
            .unwrap_or_else(|| panic!("no {id}: {}", step.log))
            .to_owned()
    };
    for (id, words) in [
        (&held.machines()[0], ["running", "61", "on-demand"]),
        (&back.machines()[0], ["idle", "-", "us-east-1"]),
    ] {
        assert!(
            words.iter().all(|word| line(id).contains(word)),
            "{}",
            line(id)
        );
    }
    let cells: Vec<String> = line("large")
        .split_whitespace()
        .map(str::to_owned)
        .collect();
    assert_eq!(cells[1..6], ["0", "1", "0", "1", "2"], "{}", step.log);
    assert!(!step.log.contains('\u{1b}'), "{}", step.log);

    let prices = pool.yard.folder().join("prices.json");
    std::fs::write(&prices, r#"{"c5.large": {"on-demand": 0.25}}"#).expect("written");
    let prices = prices.display().to_string();
    let step = pool
        .operate("status", &["--json", "--price-file", &prices])
        .await;
    let status = json(&step);
    assert_eq!(status["machines"].as_array().map(Vec::len), Some(2));
    let known = pool.yard.aws.instances();
    let known = known
        .iter()
        .filter(|view| view.instance_type == "c5.large")
        .count();
    let cost = status["cost"]["usdPerHour"].as_f64().expect("a number");
    assert!(
        (cost - 0.25 * f64::from(u8::try_from(known).expect("few"))).abs() < 1e-9,
        "{status}"
    );

    // An agent that hangs is seen.
    pool.yard
        .machines
        .kill_agent(&held.machines()[0], Signal::SIGSTOP);
    let step = pool.operate("status", &["--price-file", "/nowhere"]).await;
    assert_eq!(step.code, 2, "{}", step.log);
    assert!(step.log.contains("`price-file`"), "{}", step.log);

    let before = pool.calls("Scan");
    let mut watch = pool.run(1);
    watch.flags = vec!["--watch".to_owned(), "--json".to_owned()];
    let watch = watch.start("status", &[]).expect("it starts");
    pool.until("it has looked twice", || pool.calls("Scan") >= before + 2)
        .await;
    let pid = watch.pid().expect("it runs");
    kill(Pid::from_raw(pid.cast_signed()), Signal::SIGINT).expect("a signal");
    let step = watch.finish().await.expect("it ends");
    assert_eq!(step.code, 0, "{}", step.log);
    assert!(step.log.lines().count() >= 2, "{}", step.log);
    json(&step);
    pool.yard.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn status_that_watches_paints_anew_and_outlives_a_table_that_is_out_of_reach() {
    let pool = Pool::new(Duration::ZERO).await;
    let held = pool.provision(63, "1").await;
    assert_eq!(held.code, 0, "{}", held.log);
    let mut run = pool.run(1);
    run.flags = vec!["--watch".to_owned()];
    let terminal = run.at_terminal("status", &[]).expect("it starts");
    let painted = || terminal.screen().matches("\u{1b}[2J").count();
    pool.until("it is painted", || painted() >= 1).await;
    // More often than the SDK asks by itself.
    let cut = Fault::new("dynamodb", "Scan", FaultKind::CutBeforeApplying);
    pool.yard.aws.inject(cut.times(4));
    pool.until("the trouble is said", || {
        terminal.screen().contains("looking again")
    })
    .await;
    let before = painted();
    pool.until("it is painted again", || painted() > before)
        .await;
    terminal.interrupt().expect("it runs");
    let (code, screen) = terminal.finish().await.expect("it ends");
    assert_eq!(code, Some(0), "{screen}");
    let last = screen.rsplit("\u{1b}[2J").next().unwrap_or_default();
    assert!(last.contains(&held.machines()[0]), "{screen}");
    pool.yard.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn destroy_takes_down_all_and_nothing_else() {
    let pool = Pool::new(Duration::ZERO).await;
    let strange = "paddock-acme-widgets-gpu-large";
    let queues = clients::sqs(&pool.yard.aws.url());
    queues
        .create_queue()
        .queue_name(strange)
        .send()
        .await
        .expect("made");
    let held = pool.provision(71, "1").await;
    assert_eq!(held.code, 0, "{}", held.log);
    assert_eq!(pool.provision(72, "1").await.code, 0);
    assert_eq!(pool.release(72).await.code, 0);
    let whole = standing(&pool).await;

    // In use, not agreed to, only looked at: nothing happens.
    let step = pool.operate("destroy", &["--yes"]).await;
    assert_eq!(step.code, 1, "{}", step.log);
    assert!(step.log.contains("in use (71)"), "{}", step.log);
    let step = pool.operate("destroy", &["--dry-run"]).await;
    assert_eq!(step.code, 0, "{}", step.log);
    assert!(step.log.contains("in use (71)"), "{}", step.log);
    let step = pool.operate("destroy", &["--force"]).await;
    assert_eq!(step.code, 2, "{}", step.log);
    assert!(step.log.contains("input `confirm`"), "{}", step.log);
    let step = pool
        .operate("destroy", &["--force", "--confirm", "acme-widget"])
        .await;
    assert_eq!(step.code, 2, "{}", step.log);
    assert!(step.log.contains("not the pool's name"), "{}", step.log);
    let step = pool.operate("destroy", &["--force", "--dry-run"]).await;
    assert_eq!(step.code, 0, "{}", step.log);
    let machine = format!("- machine {} (running for 71)", held.machines()[0]);
    for words in [
        machine.as_str(),
        "- launch template lt-",
        "- queue paddock-acme-widgets-large",
        "- table paddock-acme-widgets and all in it",
        "- runner i-",
    ] {
        assert!(step.log.contains(words), "{words}: {}", step.log);
    }
    assert_eq!((pool.alive(), standing(&pool).await), (2, whole));

    // A queue that will not go: all else is gone, and the table stays for the next try.
    let denied = FaultKind::Error {
        status: 403,
        code: "AccessDeniedException".to_owned(),
    };
    let fault = Fault::new("sqs", "DeleteQueue", denied);
    pool.yard.aws.inject(fault);
    let step = pool.operate("destroy", &["--yes", "--force"]).await;
    assert_eq!(step.code, 3, "{}", step.log);
    assert!(
        step.log.contains("left: queue paddock-acme-widgets-"),
        "{}",
        step.log
    );
    pool.until_alive(0).await;
    assert_eq!(pool.records(State::Running).await, 1, "the table is there");

    let confirmed = ["--confirm", "acme-widgets", "--force"];
    let step = pool.operate("destroy", &confirmed).await;
    assert_eq!(step.code, 0, "{}", step.log);
    assert!(
        step.log.contains("pool acme-widgets is gone"),
        "{}",
        step.log
    );
    assert_eq!(standing(&pool).await, [strange]);
    assert_eq!(pool.yard.github.runners(), []);
    let step = pool.operate("destroy", &["--yes"]).await;
    assert_eq!(step.code, 0, "{}", step.log);
    assert!(
        step.log.contains("there is nothing of a pool"),
        "{}",
        step.log
    );
    pool.yard.stop().await;
}

/// Destroy at a terminal, up to its question.
async fn asked(pool: &Pool) -> Terminal {
    let token = pool.yard.github.token();
    let run = pool.run(1);
    let terminal = run.at_terminal("destroy", &[("github-token", &token)]);
    let terminal = terminal.expect("it starts");
    pool.until("it asks", || {
        terminal
            .screen()
            .ends_with("type acme-widgets to destroy all of it: ")
    })
    .await;
    terminal
}

#[tokio::test(flavor = "multi_thread")]
async fn destroy_asks_at_a_terminal_and_looks_again_after_the_answer() {
    let pool = Pool::new(Duration::ZERO).await;
    let whole = standing(&pool).await;

    // Anything but the pool's name, and the end of the input, is a no.
    for answer in [Some("yes"), Some(""), None] {
        let mut terminal = asked(&pool).await;
        match answer {
            Some(line) => terminal.type_line(line),
            None => terminal.end_input(),
        }
        .expect("typed");
        let (code, screen) = terminal.finish().await.expect("it ends");
        assert_eq!(code, Some(1), "{screen}");
        assert!(screen.contains("nothing is destroyed"), "{screen}");
    }
    assert_eq!(standing(&pool).await, whole);

    // A run gets machines while somebody thinks it over.
    let mut terminal = asked(&pool).await;
    let held = pool.provision(81, "1").await;
    assert_eq!(held.code, 0, "{}", held.log);
    terminal.type_line("acme-widgets").expect("typed");
    let (code, screen) = terminal.finish().await.expect("it ends");
    assert_eq!(code, Some(1), "{screen}");
    assert!(screen.contains("runs have begun meanwhile: 81"), "{screen}");
    assert_eq!((pool.alive(), standing(&pool).await), (1, whole.clone()));
    assert_eq!(pool.release(81).await.code, 0);

    // EC2 cannot be asked after the agreement: nothing is taken down, and refresh is let in.
    let denied = FaultKind::Error {
        status: 403,
        code: "UnauthorizedOperation".to_owned(),
    };
    let mut terminal = asked(&pool).await;
    let fault = Fault::new("ec2", "DescribeInstances", denied);
    pool.yard.aws.inject(fault.times(1));
    terminal.type_line("acme-widgets").expect("typed");
    let (code, screen) = terminal.finish().await.expect("it ends");
    assert_eq!(code, Some(1), "{screen}");
    assert_eq!(standing(&pool).await, whole);
    let step = pool.refresh().await;
    assert!(!step.log.contains("another refresh"), "{}", step.log);

    let mut terminal = asked(&pool).await;
    terminal.type_line("acme-widgets").expect("typed");
    let (code, screen) = terminal.finish().await.expect("it ends");
    assert_eq!(code, Some(0), "{screen}");
    assert!(screen.contains("pool acme-widgets is gone"), "{screen}");
    assert!(
        !screen.contains("::"),
        "no commands of a workflow: {screen}"
    );
    assert_eq!((pool.alive(), standing(&pool).await), (0, vec![]));
    pool.yard.stop().await;
}
