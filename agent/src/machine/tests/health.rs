//! Machines that are not fit for a tenant, and runners that hang.

use super::super::Disk;
use super::*;

fn full() -> Vitals {
    Vitals {
        disks: vec![Disk {
            path: "/".into(),
            free: 0,
            files: None,
        }],
        ..Vitals::default()
    }
}

fn reason(story: &Story) -> Option<&str> {
    story.record.as_ref().unwrap().unhealthy()
}

#[test]
fn an_idle_machine_says_that_it_is_unfit_and_that_it_is_fit_again() {
    let mut story = Story::booted(record(State::Idle, None, 3));
    story.pass(1.0);
    assert_eq!(reason(&story), None);
    story.vitals = full();
    story.pass(11.0);
    assert!(reason(&story).unwrap().contains("MiB free"));
    assert!(story.machine.errors()[0].contains("not fit for a tenant"));
    story.vitals = Vitals::default();
    story.pass(11.0);
    assert_eq!(reason(&story), None);
}

#[test]
fn a_machine_says_that_it_is_clean_only_together_with_whether_it_is_fit() {
    let mut story = Story::listening(record(State::Running, Some("77"), 5));
    story.pass(20.0);
    story.vitals = full();
    story.pass(20.0);
    // The tenant's own affair.
    assert_eq!(reason(&story), None);
    story.release("77");
    story.pass(0.3);
    story.happen(Event::Removed(Ok(())));
    story.happen(Event::Retired(Ok(())));
    story.pass(0.1);
    assert!(story.says(Signal::RemoveRegOk));
    assert!(reason(&story).is_some());
}

#[test]
fn what_was_seen_before_the_machine_was_clean_does_not_count() {
    let mut story = Story::booted(record(State::Idle, None, 3));
    story.claim("77");
    story.pass(0.3);
    let effects = story.machine.on(Event::Retired(Ok(())), story.now());
    let looks = effects.iter().filter(|e| matches!(e, Effect::Examine(_)));
    assert_eq!(looks.count(), 1);
    // Another tenant came and went while that look was under way.
    let effects = story.machine.on(Event::Retired(Ok(())), story.now());
    assert!(!effects.iter().any(|e| matches!(e, Effect::Examine(_))));
    let effects = story.machine.on(Event::Examined(Ok(full())), story.now());
    assert!(effects.iter().any(|e| matches!(e, Effect::Examine(_))));
    assert_eq!(story.machine.health().unwrap().reason, None);
}

#[test]
fn a_job_without_worker_and_a_worker_without_job_are_noticed_after_two_minutes() {
    let mut story = Story::listening(record(State::Running, Some("77"), 5));
    let worker = |works| Vitals {
        worker: Some(works),
        ..Vitals::default()
    };
    story.vitals = worker(false);
    story.say(Said::JobStarted("build".into()));
    story.pass(115.0);
    assert_eq!(reason(&story), None);
    story.pass(20.0);
    assert!(
        reason(&story)
            .unwrap()
            .contains("`build` and has no worker")
    );
    story.vitals = worker(true);
    story.pass(15.0);
    assert_eq!(reason(&story), None);
    story.say(Said::JobEnded);
    story.pass(150.0);
    assert!(reason(&story).unwrap().contains("outlives"));
    assert_eq!(story.machine.errors().len(), 2);
}

#[test]
fn a_listener_that_falls_silent_is_noticed_and_a_busy_one_may_be() {
    let mut story = Story::listening(record(State::Running, Some("77"), 5));
    story.vitals.silent = Some(Duration::from_mins(34));
    story.pass(11.0);
    assert_eq!(reason(&story), None);
    story.vitals.silent = Some(Duration::from_mins(36));
    story.pass(11.0);
    assert!(reason(&story).unwrap().contains("silent"));
    story.vitals.worker = Some(true);
    story.say(Said::JobStarted("long".into()));
    story.pass(11.0);
    assert_eq!(reason(&story), None);
}

#[test]
fn an_unfit_machine_is_not_registered_for_a_tenant_that_it_was_given_all_the_same() {
    let mut story = Story::booted(record(State::Idle, None, 3));
    story.pass(35.0);
    assert_eq!(reason(&story), None);
    // It went wrong since the last look, and the claim comes before the next one.
    story.vitals = full();
    story.claim("77");
    story.pass(0.3);
    assert!(story.says(Signal::RegFailed), "{:?}", story.record);
    assert!(story.detail().contains("MiB free"), "{}", story.detail());
    assert_eq!(story.count(|e| matches!(e, Effect::Configure { .. })), 0);
    story.release("77");
    story.pass(0.3);
    // Nothing was registered: it is cleaned all the same, and says how it is.
    assert_eq!(story.count(|e| matches!(e, Effect::Remove(..))), 0);
    story.happen(Event::Retired(Ok(())));
    story.pass(0.3);
    assert!(story.says(Signal::RemoveRegOk));
    assert!(reason(&story).unwrap().contains("MiB free"));
}

#[test]
fn a_machine_that_has_just_booted_may_take_a_moment_to_become_fit() {
    let booting = |becomes_fit| {
        let mut story = Story::new(Some(record(State::Created, Some("77"), 1)));
        story.vitals.docker = Some("no such socket".into());
        story.happen(Event::Booted(Ok("2.336.0".into())));
        story.pass(15.0);
        assert_eq!(story.count(|e| matches!(e, Effect::Configure { .. })), 0);
        assert!(!story.says(Signal::RegFailed));
        if becomes_fit {
            story.vitals = Vitals::default();
        }
        story.pass(6.0);
        story
    };
    let story = booting(true);
    assert_eq!(story.count(|e| matches!(e, Effect::Configure { .. })), 1);
    let story = booting(false);
    assert!(story.says(Signal::RegFailed));
    assert!(story.detail().contains("Docker does not answer"));
    // Once it was fit there is nothing to wait for.
    let mut story = Story::booted(record(State::Idle, None, 3));
    story.pass(5.0);
    story.vitals.docker = Some("it died".into());
    story.claim("77");
    story.pass(0.3);
    assert!(story.says(Signal::RegFailed));
}

#[test]
fn a_drained_machine_takes_no_tenant_and_one_that_is_taken_back_does() {
    let mut story = Story::booted(record(State::Idle, None, 3));
    story.vitals.drained = true;
    story.pass(11.0);
    assert!(reason(&story).unwrap().contains("drains"));
    story.claim("77");
    story.pass(0.3);
    assert!(
        story.detail().contains("an operator drains"),
        "{}",
        story.detail()
    );
    story.release("77");
    story.pass(0.3);
    story.happen(Event::Retired(Ok(())));
    story.vitals.drained = false;
    story.pass(11.0);
    assert_eq!(reason(&story), None);
    story.claim("78");
    story.pass(0.3);
    assert_eq!(story.count(|e| matches!(e, Effect::Configure { .. })), 1);
}
