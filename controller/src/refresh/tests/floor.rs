//! The floor and the ceiling, in a world whose machines have agents.

use std::time::Duration;

use proto::{
    change::{Assign, Change},
    time::Clock,
};

use super::*;
use crate::refresh::bounds::Rule;

fn at_least(count: u32) -> Vec<Rule> {
    vec![Rule {
        kind: ("large".parse().unwrap(), UsageClass::OnDemand),
        count,
        hours: None,
    }]
}

/// What agents do: a machine that has a record boots, and says that it is clean once it is idle.
async fn agents(scene: &Scene) -> ! {
    loop {
        let records = scene.table.live().await.unwrap().instances;
        for record in records {
            let signal = match record.state {
                State::Created => Signal::Ok,
                State::Idle => Signal::RemoveRegOk,
                State::Claimed | State::Running | State::Terminated => continue,
            };
            let now = scene.fakes.now();
            let report = Signalled {
                signal,
                generation: record.generation,
                at: now,
                detail: None,
            };
            let said = record.fresh_report().is_some();
            let news = (!said).then_some(Assign::Report(report));
            let beat = Change::beat(now, news);
            scene
                .table
                .change_instance(&record.arn, &beat)
                .await
                .unwrap();
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A refresh in a world whose machines have agents.
async fn run_with_agents(scene: &Scene) -> Report {
    tokio::select! {
        report = scene.run() => report,
        never = agents(scene) => never,
    }
}

fn raises(report: &Report) -> Vec<u32> {
    let count = |step: &Step| match step {
        Step::Raise { count, .. } => Some(*count),
        _ => None,
    };
    report.planned.iter().filter_map(count).collect()
}

#[tokio::test]
async fn the_floor_is_raised_listed_and_kept() {
    let mut scene = Scene::made().await;
    scene.settings.idle.min = at_least(2);
    let report = run_with_agents(&scene).await;
    assert!(report.failed.is_empty(), "{:?}", report.failed);
    assert_eq!(raises(&report), [2]);
    let idle = scene.table.instances_in(State::Idle, None).await.unwrap();
    let ids: Vec<_> = idle.iter().map(|record| record.id().clone()).collect();
    assert_eq!((idle.len(), &report.raised), (2, &ids));
    let until = Time::from_millis(START + 60 * MINUTE);
    assert!(
        idle.iter()
            .all(|it| it.threshold == Some(until) && it.label.is_none())
    );
    scene.fakes.with(|world| {
        assert_eq!(world.queues["http://sqs/paddock-p-large"].len(), 2);
        assert!(
            world.launches[0]
                .tags
                .iter()
                .all(|(key, _)| key != "paddock:label")
        );
    });
    assert_eq!(run_with_agents(&scene).await.planned, []);

    // Half an hour later they are given another hour.
    scene.fakes.with(|world| world.now += 31 * MINUTE);
    let _ = tokio::time::timeout(Duration::from_millis(50), agents(&scene)).await;
    let report = run_with_agents(&scene).await;
    let kept = report.planned.iter().find_map(|step| match step {
        Step::Keep { records, .. } => Some(records.len()),
        _ => None,
    });
    assert_eq!((kept, raises(&report).len()), (Some(2), 0));
    let idle = scene.table.instances_in(State::Idle, None).await.unwrap();
    let until = Time::from_millis(START + 91 * MINUTE);
    assert!(idle.iter().all(|it| it.threshold == Some(until)));
}

#[tokio::test(start_paused = true)]
async fn machines_that_take_long_are_named_while_they_are_waited_for() {
    let mut scene = Scene::made().await;
    scene.settings.idle.min = at_least(1);
    let ports = scene.fakes.ports(scene.table.clone());
    let mut said = Vec::new();
    let mut out = |line: &str| said.push(line.to_owned());
    let boot = async {
        for _ in 0..25 {
            tokio::time::sleep(Duration::from_secs(1)).await;
            scene.fakes.with(|world| world.now += SECOND);
        }
        agents(&scene).await
    };
    let report = tokio::select! {
        report = refresh(&scene.settings, "me", &ports, &mut out) => report,
        never = boot => never,
    };
    assert!(report.failed.is_empty(), "{:?}", report.failed);
    let id = &report.raised[0];
    let launched = format!("  {id} launched (m6i.large, us-east-1a, on-demand)");
    let waiting = format!("  waiting for {id} to be idle");
    let idle = format!("  {id} is idle");
    let after_the_plan = said.iter().skip_while(|line| !line.starts_with("plan:"));
    let after_the_plan: Vec<&String> = after_the_plan.skip(1).collect();
    assert_eq!(after_the_plan, [&launched, &waiting, &waiting, &idle]);
}

#[tokio::test]
async fn a_floor_that_cannot_be_raised_is_tried_again_after_pauses_that_grow() {
    let mut scene = Scene::made().await;
    scene.settings.idle.min = at_least(2);
    scene.fakes.with(|world| world.capacity = Some(1));
    let report = run_with_agents(&scene).await;
    let (_, error) = &report.failed[0];
    assert!(error.to_string().contains("launched 1 of 2"), "{error}");
    assert_eq!(
        scene
            .table
            .instances_in(State::Idle, None)
            .await
            .unwrap()
            .len(),
        1
    );
    let mut pauses = Vec::new();
    for _ in 0..3 {
        let trouble = scene.config().await.refresh.unwrap().floor.remove(0);
        let pause = trouble.not_before.since(scene.fakes.now());
        pauses.push(pause.as_secs() / 60);
        assert_eq!(raises(&run_with_agents(&scene).await), [0; 0], "too early");
        scene
            .fakes
            .with(|world| world.now = trouble.not_before.as_millis());
        let _ = tokio::time::timeout(Duration::from_millis(50), agents(&scene)).await;
        assert_eq!(raises(&run_with_agents(&scene).await), [1]);
    }
    assert_eq!(pauses, [5, 10, 20]);
    let trouble = scene.config().await.refresh.unwrap().floor.remove(0);
    scene.fakes.with(|world| {
        world.capacity = None;
        world.now = trouble.not_before.as_millis();
    });
    let _ = tokio::time::timeout(Duration::from_millis(50), agents(&scene)).await;
    let report = run_with_agents(&scene).await;
    assert!(report.failed.is_empty(), "{:?}", report.failed);
    assert_eq!(scene.config().await.refresh.unwrap().floor, []);
}

#[tokio::test]
async fn above_the_ceiling_the_oldest_go() {
    let mut scene = Scene::made().await;
    for n in 1..=4 {
        scene
            .instance(n, State::Idle, |record| {
                record.created_at = Time::from_millis(START - i64::from(n) * MINUTE);
            })
            .await;
    }
    scene.settings.idle.max = at_least(2);
    let ended: Vec<String> = lines(&scene.run().await.planned)
        .into_iter()
        .filter(|line| line.starts_with("- machine"))
        .collect();
    let line = |n| format!("- machine {} (idle, max-idle is 2)", id(n));
    assert_eq!(ended, [line(4), line(3)]);
    assert_eq!(
        [1, 2, 3, 4].map(|n| scene.is_alive(n)),
        [true, true, false, false]
    );
}

#[tokio::test]
async fn what_a_dead_refresh_launched_is_pooled_or_ends_by_its_threshold() {
    let mut scene = Scene::made().await;
    scene.settings.idle.min = at_least(1);
    let signal = |signal| Signalled {
        signal,
        generation: 4,
        at: Time::from_millis(START),
        detail: Some("disk full".into()),
    };
    // Up in time; never up; failed; launched without a record.
    scene
        .instance(1, State::Created, |record| {
            record.report = Some(signal(Signal::Ok));
            record.heartbeat = Some(Time::from_millis(START));
        })
        .await;
    scene
        .instance(2, State::Created, |record| {
            record.report = None;
            record.threshold = Some(Time::from_millis(START));
        })
        .await;
    scene
        .instance(3, State::Created, |record| {
            record.report = Some(signal(Signal::Failed));
        })
        .await;
    scene.machine(4, 6, Some("dead.0"));
    let report = run_with_agents(&scene).await;
    assert!(report.failed.is_empty(), "{:?}", report.failed);
    assert_eq!(raises(&report), [0; 0]);
    let said = lines(&report.planned).join("\n");
    assert!(said.contains("did not come up: disk full"), "{said}");
    assert_eq!(scene.state(1).await, State::Idle);
    assert_eq!(
        [1, 2, 3, 4].map(|n| scene.is_alive(n)),
        [true, false, false, false]
    );
}

#[tokio::test]
async fn a_machine_of_the_floor_that_was_used_is_kept_and_those_too_many_go() {
    let mut scene = Scene::made().await;
    scene.settings.idle.min = at_least(1);
    scene.settings.parameters.keeps_idle = true;
    assert_eq!(scene.settings.parameters.stay(), Duration::from_hours(1));
    // Released eight minutes ago, longer than an idle machine may stay: the younger one is kept.
    for n in [1, 2] {
        scene
            .instance(n, State::Idle, |record| {
                record.created_at = Time::from_millis(START - i64::from(n) * 20 * MINUTE);
                record.since = Time::from_millis(START - 8 * MINUTE);
                record.threshold = Some(Time::from_millis(START + 52 * MINUTE));
                record.heartbeat = Some(Time::from_millis(START));
            })
            .await;
    }
    let report = scene.run().await;
    assert!(report.failed.is_empty(), "{:?}", report.failed);
    assert_eq!(raises(&report), [0; 0]);
    assert_eq!([1, 2].map(|n| scene.is_alive(n)), [true, false]);
    let said = lines(&report.planned).join("\n");
    assert!(said.contains("and not needed)"), "{said}");
    // Without a floor nobody needs the other one either.
    scene.settings.idle.min.clear();
    scene.run().await;
    assert!(!scene.is_alive(1));
}
