//! Machines that have to end.

use proto::{instance::Job, state::Transition};

use super::*;
use crate::refresh::bounds::Rule;

#[tokio::test]
async fn expired_machines_of_every_live_state_end() {
    let scene = Scene::made().await;
    for (n, state) in (1..).zip(State::LIVE) {
        let past = Time::from_millis(START - 1);
        scene
            .instance(n, state, |record| record.threshold = Some(past))
            .await;
    }
    assert_eq!(scene.settles().await.len(), 4);
    for n in 1..=4 {
        assert_eq!(scene.state(n).await, State::Terminated);
        assert!(!scene.is_alive(n));
    }
}

#[tokio::test]
async fn a_dead_controllers_provision_is_undone() {
    let scene = Scene::made().await;
    let label = || Some("7".parse().unwrap());
    // Claimed; given back meanwhile; launched; launched without record; launched, not journaled.
    scene
        .instance(1, State::Claimed, |record| record.label = label())
        .await;
    scene
        .instance(2, State::Running, |record| {
            record.label = Some("8".parse().unwrap());
        })
        .await;
    scene
        .instance(3, State::Created, |record| record.label = label())
        .await;
    scene.machine(4, 1, None);
    scene.machine(5, 1, Some("token.1"));
    scene
        .provision(START - 2 * MINUTE, |record| {
            record.claimed = vec![id(1), id(2)];
            record.launched = vec![id(3), id(4)];
        })
        .await;
    let steps = scene.settles().await;
    assert!(
        matches!(&steps[..], [Step::Undo { machines, .. }] if machines.len() == 5),
        "{steps:?}"
    );
    assert_eq!(
        [1, 2, 3, 4, 5].map(|n| scene.is_alive(n)),
        [false, true, false, false, false]
    );
    assert_eq!(scene.state(2).await, State::Running);
    let run = "7".parse().unwrap();
    let closed = scene.table.provisions_of(&run).await.unwrap().remove(0);
    assert_eq!((closed.phase, closed.revision), (Phase::RolledBack, 3));
    assert!(closed.error.is_some() && closed.expires_at.is_some());
}

#[tokio::test]
async fn a_provision_at_work_is_left_alone() {
    let scene = Scene::made().await;
    scene
        .instance(1, State::Claimed, |record| {
            record.label = Some("7".parse().unwrap());
        })
        .await;
    scene
        .provision(START - 30 * SECOND, |record| record.claimed = vec![id(1)])
        .await;
    assert_eq!(scene.settles().await, []);
}

#[tokio::test]
async fn strays_end_after_the_grace_and_records_without_a_machine_are_closed() {
    let scene = Scene::made().await;
    scene.machine(1, 6, None);
    scene.machine(2, 4, None);
    scene.instance(3, State::Terminated, |_| ()).await;
    scene.instance(4, State::Running, |_| ()).await;
    scene
        .instance(5, State::Created, |record| {
            record.created_at = Time::from_millis(START);
        })
        .await;
    scene
        .fakes
        .with(|world| world.machines.retain(|m| m.id != id(4) && m.id != id(5)));
    assert_eq!(
        scene.settles().await,
        [
            Step::Close {
                arn: arn(4),
                state: State::Running,
                generation: 4,
            },
            Step::TerminateStray {
                id: id(1),
                because: Stray::NoRecord
            },
            Step::TerminateStray {
                id: id(3),
                because: Stray::Terminated
            },
        ]
    );
    assert_eq!([1, 2, 3].map(|n| scene.is_alive(n)), [false, true, false]);
    assert_eq!(scene.state(4).await, State::Terminated);
    assert_eq!(scene.state(5).await, State::Created);
}

#[tokio::test]
async fn a_machine_whose_record_has_no_threshold_ends_and_so_does_its_record() {
    let scene = Scene::made().await;
    // The index does not list it.
    scene
        .instance(1, State::Running, |record| record.threshold = None)
        .await;
    assert_eq!(
        scene.settles().await,
        [Step::Terminate {
            arn: arn(1),
            because: Because::Endless { generation: 4 }
        }]
    );
    assert!(!scene.is_alive(1));
    let record = scene.table.instance(&arn(1)).await.unwrap().unwrap();
    assert_eq!(record.state, State::Terminated);
    assert!(record.expires_at.is_some());
}

#[tokio::test]
async fn a_record_that_changed_since_the_look_is_not_closed() {
    let scene = Scene::made().await;
    scene.instance(1, State::Running, |_| ()).await;
    let close = |generation| Step::Close {
        arn: arn(1),
        state: State::Running,
        generation,
    };
    let ports = scene.fakes.ports(scene.table.clone());
    let home = Home::of_arn(TABLE_ARN).unwrap();
    let mut said = Vec::new();
    let mut out = |line: &str| said.push(line.to_owned());
    let failed = ending::end(&ports, &home, &[&close(3)], &mut out).await;
    assert!(failed.is_empty(), "{failed:?}");
    assert_eq!(scene.state(1).await, State::Running);
    assert_eq!(said, [format!("  left alone: {} is running by now", id(1))]);
    ending::end(&ports, &home, &[&close(4)], &mut |_| ()).await;
    assert_eq!(scene.state(1).await, State::Terminated);
}

#[tokio::test]
async fn a_machine_that_cannot_be_terminated_fails_its_step_and_ends_next_time() {
    let scene = Scene::made().await;
    let past = Time::from_millis(START - 1);
    scene
        .instance(1, State::Running, |record| record.threshold = Some(past))
        .await;
    scene.fakes.with(|world| world.broken = Some("terminate"));
    let report = scene.run().await;
    assert!(matches!(&report.failed[0].0, Failed::Step(step) if **step == report.planned[0]));
    scene.fakes.with(|world| world.broken = None);
    let stray = Step::TerminateStray {
        id: id(1),
        because: Stray::Terminated,
    };
    assert_eq!(scene.settles().await, [stray]);
}

#[tokio::test]
async fn a_machine_whose_last_job_still_runs_is_left_to_its_release() {
    let mut scene = Scene::made().await;
    for n in [1, 2] {
        scene
            .instance(n, State::Idle, |record| {
                record.template_version = 0;
                record.job = (n == 1).then(|| Job {
                    name: "build".into(),
                    since: Time::from_millis(START - MINUTE),
                });
            })
            .await;
    }
    scene.settings.idle.max = vec![Rule {
        kind: ("large".parse().unwrap(), UsageClass::OnDemand),
        count: 0,
        hours: None,
    }];
    scene
        .settings
        .classes
        .retain(|class| class.name.as_str() != "large");
    scene.run().await;
    assert_eq!([1, 2].map(|n| scene.is_alive(n)), [true, false]);
    // Its job began after the look.
    let end = Transition::Terminate {
        reason: "old".into(),
        only: Because::OldTemplate {
            version: 0,
            generation: 4,
        }
        .lock(),
    };
    let change = end.change(Time::from_millis(START));
    let refused = scene.table.change_instance(&arn(1), &change).await.unwrap();
    assert!(matches!(refused, Outcome::Conflict(Some(_))), "{refused:?}");
}

#[tokio::test]
async fn a_machine_whose_release_died_before_its_job_ended_gets_the_removal_token() {
    let scene = Scene::made().await;
    let removal = scene.config().await.github_tokens.unwrap().removal;
    let serving = |record: &mut InstanceRecord| {
        record.report.as_mut().unwrap().signal = Signal::RegOk;
        record.report.as_mut().unwrap().generation = 3;
    };
    scene.instance(1, State::Idle, serving).await;
    // Its release looks at it this very moment.
    scene
        .instance(2, State::Idle, |record| {
            serving(record);
            record.since = Time::from_millis(START - 5 * SECOND);
        })
        .await;
    // Its job still runs, and could read the token.
    scene
        .instance(3, State::Idle, |record| {
            serving(record);
            record.job = Some(Job {
                name: "build".into(),
                since: Time::from_millis(START - 3 * MINUTE),
            });
        })
        .await;
    // It has the token already.
    scene
        .instance(4, State::Idle, |record| {
            serving(record);
            record.token = Some(proto::instance::Secret::new("t"));
        })
        .await;
    let planned = lines(&scene.settles().await);
    let hand = "~ the removal token for 1 idle machines, whose release ended before their jobs";
    assert_eq!(planned, [hand]);
    let mut tokens = Vec::new();
    for n in 1..=4 {
        let record = scene.table.instance(&arn(n)).await.unwrap().unwrap();
        tokens.push(record.token.map(|token| token.expose().to_owned()));
    }
    let handed = Some(removal.expose().to_owned());
    assert_eq!(tokens, [handed, None, None, Some("t".into())]);
}
