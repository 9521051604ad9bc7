//! How machines end themselves.

use super::*;

#[test]
fn a_failed_boot_is_reported_as_soon_as_there_is_a_record_and_the_machine_goes() {
    let mut story = Story::new(None);
    story.happen(Event::Booted(Err("exit code 7".into())));
    story.pass(10.0);
    story.record = Some(record(State::Created, Some("77"), 1));
    story.pass(0.3);
    assert!(story.says(Signal::Failed));
    assert_eq!(story.detail(), "exit code 7");
    assert!(
        !story
            .record
            .as_ref()
            .unwrap()
            .health
            .as_ref()
            .unwrap()
            .healthy
    );
    assert!(matches!(story.machine.boot(), Boot::Failed { .. }));
    story.pass(55.0);
    assert_eq!(story.off(), None);
    story.pass(6.0);
    assert_eq!(story.off(), Some("boot failed"));
}

#[test]
fn after_its_threshold_and_the_grace_a_machine_says_why_and_goes() {
    let mut story = Story::listening(record(State::Running, Some("77"), 5));
    story.say(Said::JobStarted("endless".into()));
    story.pass(3600.0);
    assert_eq!(story.off(), None);
    story.pass(61.0);
    assert!(
        story.off().unwrap().contains("threshold"),
        "{:?}",
        story.off()
    );
    let gone = story.record.as_ref().unwrap();
    assert!(gone.unhealthy().unwrap().contains("threshold"), "{gone:?}");
    let offs = story.count(|effect| matches!(effect, Effect::PowerOff(_)));
    story.happen(Event::PowerOffFailed("no such program".into()));
    story.pass(21.0);
    assert!(story.count(|effect| matches!(effect, Effect::PowerOff(_))) > offs);
}

#[test]
fn a_machine_that_was_given_more_time_in_the_last_moment_stays() {
    let mut story = Story::booted(record(State::Idle, None, 3));
    story.pass(3655.0);
    story.slow = true;
    story.pass(4.9);
    if story.call.is_some() {
        story.answer();
    }
    story.record.as_mut().unwrap().threshold = Some(Time::from_millis(9_000_000));
    story.pass(0.2);
    story.slow = false;
    if story.call.is_some() {
        story.answer();
    }
    story.pass(30.0);
    assert_eq!(story.off(), None);
    // What it had said on its way out it takes back.
    assert_eq!(story.record.as_ref().unwrap().unhealthy(), None);
}

#[test]
fn a_table_that_is_down_at_the_end_holds_nobody_up() {
    let mut story = Story::booted(record(State::Idle, None, 3));
    story.pass(3600.0);
    story.down = true;
    story.pass(70.0);
    assert!(story.off().is_some());
}

#[test]
fn a_terminated_record_means_off() {
    let mut story = Story::listening(record(State::Running, Some("77"), 5));
    story.step(&Transition::Terminate {
        reason: "provision failed".into(),
        only: Terminate::Of(label("77")),
    });
    story.pass(0.3);
    assert!(story.off().unwrap().contains("provision failed"));
}

#[test]
fn nobody_wants_a_machine_without_record() {
    let mut story = Story::new(None);
    story.pass(599.0);
    assert_eq!(story.off(), None);
    story.pass(2.0);
    assert!(
        story
            .off()
            .unwrap()
            .contains("nobody wrote a record within 10m")
    );
}

#[test]
fn a_machine_that_cannot_reach_the_table_goes() {
    let mut story = Story::booted(record(State::Idle, None, 3));
    story.record.as_mut().unwrap().threshold = Some(Time::from_millis(100_000_000));
    story.pass(10.0);
    story.down = true;
    let before = story.calls;
    story.pass(890.0);
    assert_eq!(story.off(), None);
    assert!(story.calls - before < 200, "{} calls", story.calls - before);
    story.pass(20.0);
    assert!(story.off().unwrap().contains("out of reach"));
}

#[test]
fn an_agent_that_starts_while_the_table_is_out_of_reach_waits_as_long_as_the_one_before() {
    let mut story = Story::booted(record(State::Idle, None, 3));
    story.record.as_mut().unwrap().threshold = Some(Time::from_millis(100_000_000));
    story.pass(10.0);
    story.down = true;
    story.pass(270.0);
    let ages = story.machine.silences().ages(story.now());
    assert_eq!(ages.recordless, None);
    let arn = InstanceArn::try_from(ARN.to_owned()).unwrap();
    let machine = Machine::new(story.machine.config.clone(), arn, None);
    story.machine = machine.continuing(Some(ages), story.now());
    story.call = None;
    let effects = story.machine.start(story.now());
    story.take(effects);
    story.pass(620.0);
    assert_eq!(story.off(), None);
    story.pass(20.0);
    assert!(story.off().unwrap().contains("out of reach for 15m"));
}
