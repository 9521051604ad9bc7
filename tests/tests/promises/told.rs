//! What people are told: one clear line, and nothing twice.

use std::time::Duration;

use nix::sys::signal::Signal;
use tests::{
    pool::Pool,
    workflow::Step,
    yard::aws::{Fault, FaultKind},
};

use super::{errors, refused};

/// A failed step has one annotation, which says `word`.
fn told_once<'a>(step: &'a Step, word: &str) -> &'a str {
    let [error] = errors(step)[..] else {
        panic!("not one error: {}", step.log);
    };
    assert!(error.contains(word), "{word}: {error}");
    error
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_input_is_one_line_and_touches_nothing() {
    let pool = Pool::new(Duration::ZERO).await;
    let provisions: [(&[(&str, &str)], &str); 9] = [
        (&[("instance-count", "0")], "from 1 to 1000"),
        (&[("resource-class", "huge")], "allowed: 12xlarge"),
        (&[("usage-class", "free")], "on-demand, spot"),
        (&[("max-price", "0.1")], "`usage-class: spot`"),
        (&[("fallback", "on-demand")], "`usage-class: spot`"),
        (&[("allocation-strategy", "best")], "lowest-price"),
        (&[("name", "a b")], "letters, digits"),
        (&[("allowed-instance-types", "c5;rm")], "c* m6i.*"),
        (&[("max-runtime-min", "x")], "from 1 to 43200"),
    ];
    let before = pool.calls("*");
    for (inputs, allowed) in provisions {
        let step = pool.provision_with(601, inputs).await;
        assert_eq!(step.code, 2, "{}", step.log);
        let error = told_once(&step, allowed);
        assert!(error.contains(inputs[0].0), "{error}");
        assert!(
            step.summary.contains("Nothing was touched."),
            "{}",
            step.summary
        );
        assert!(step.outputs.is_empty(), "{:?}", step.outputs);
    }
    let timeout = [("release-timeout-sec", "0")];
    let step = pool
        .run(601)
        .step("release", &timeout)
        .await
        .expect("it runs");
    assert_eq!(step.code, 2, "{}", step.log);
    told_once(&step, "from 1 to 86400");
    // The pool's classes stand in its table.
    assert_eq!(pool.calls("*") - before, 1, "calls");
    pool.yard.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_step_says_so_and_that_nothing_is_left() {
    let pool = Pool::new(Duration::from_hours(1)).await;
    let step = pool.run(611).start("provision", &[]).expect("it starts");
    pool.until_alive(1).await;
    step.signal(Signal::SIGTERM).expect("it runs");
    let step = step.finish().await.expect("it ends");
    assert_eq!(step.code, 130, "{}", step.log);
    told_once(&step, "cancelled");
    assert_eq!(
        step.summary,
        "### Paddock: cancelled\n\nNothing of it is left.\n"
    );
    pool.yard.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_of_aws_is_said_once_in_its_own_words() {
    let pool = Pool::new(Duration::ZERO).await;
    for (service, action, code) in [
        ("dynamodb", "PutItem", "AccessDeniedException"),
        ("ec2", "CreateFleet", "UnauthorizedOperation"),
    ] {
        pool.yard
            .aws
            .inject(Fault::new(service, action, refused(400, code)));
        let step = pool.provision(621, "1").await;
        assert_eq!(step.code, 1, "{}", step.log);
        let error = told_once(&step, "what to do:");
        assert_eq!(error.matches(code).count(), 1, "{error}");
        assert!(
            error.contains(&format!("{code}: a test asked for this error")),
            "{error}"
        );
    }
    pool.yard.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_that_could_not_be_done_leaves_its_machines_to_refresh() {
    let pool = Pool::new(Duration::ZERO).await;
    assert_eq!(pool.provision(631, "1").await.code, 0);
    for action in ["Query", "UpdateItem"] {
        let denied = Fault::new("dynamodb", action, refused(400, "AccessDeniedException"));
        pool.yard.aws.inject(denied.of_caller("AKIAYARD"));
        let step = pool.release(631).await;
        assert_eq!(step.code, 3, "{}", step.log);
        told_once(&step, "left for refresh: the machines of this run");
        assert!(
            step.summary.contains("**Left for the next refresh:**"),
            "{}",
            step.summary
        );
        assert!(!step.summary.contains("Nothing"), "{}", step.summary);
    }
    let step = pool.release(631).await;
    assert_eq!(step.code, 0, "{}", step.log);
    let id = "| back in the pool |";
    assert!(
        step.summary.contains("### Paddock: 1 machine released"),
        "{}",
        step.summary
    );
    assert!(step.summary.contains(id), "{}", step.summary);

    // Again: a clear line, and no more.
    let step = pool.release(631).await;
    assert_eq!((step.code, &*step.summary), (0, ""), "{}", step.log);
    assert!(
        step.log
            .ends_with("nothing to release: this run has no machines here\n"),
        "{}",
        step.log
    );
    pool.yard.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machines_last_words_are_shown_line_by_line_and_harmless() {
    let pool = Pool::new(Duration::ZERO).await;
    let script = "echo one\necho '::set-output name=label::evil'\necho the disk is full\nexit 3\n";
    let step = pool
        .refresh_with([("pre-runner-script", script.to_owned())])
        .await;
    assert_eq!(step.code, 0, "{}", step.log);
    let step = pool.provision(641, "1").await;
    assert_eq!(step.code, 1, "{}", step.log);
    let error = told_once(&step, "exit code 3; its last lines:%0A  | one%0A");
    assert!(error.contains("the disk is full%0Awhat to do: "), "{error}");
    let commands = step
        .log
        .lines()
        .filter(|line| line.starts_with("::set-output"));
    assert_eq!(commands.count(), 0, "{}", step.log);
    assert!(
        step.summary.contains("\nthe disk is full\n```"),
        "{}",
        step.summary
    );
    pool.yard.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_hangs_is_waited_for_aloud_and_repeated() {
    let pool = Pool::new(Duration::ZERO).await;
    pool.yard
        .aws
        .inject(Fault::new("ec2", "CreateFleet", FaultKind::Hang));
    let step = pool.provision(651, "1").await;
    assert_eq!(step.code, 0, "{}", step.log);
    assert!(
        step.log.contains("waiting for EC2 to launch 1 machine\n"),
        "{}",
        step.log
    );
    assert!(step.log.contains("asking again in"), "{}", step.log);
    assert_eq!(pool.alive(), 1);
    pool.yard.stop().await;
}
