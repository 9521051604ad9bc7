//! The traffic with the table.

use super::*;

#[test]
fn what_the_table_did_not_take_is_said_again() {
    let mut story = Story::listening(record(State::Running, Some("77"), 5));
    story.down = true;
    story.say(Said::JobStarted("build".into()));
    story.pass(1.0);
    story.down = false;
    story.pass(1.0);
    assert_eq!(
        story.record.as_ref().unwrap().job.as_ref().unwrap().name,
        "build"
    );
}

#[test]
fn a_slow_table_gets_one_call_at_a_time_and_its_late_answer_is_taken() {
    let mut story = Story::booted(record(State::Idle, None, 3));
    story.pass(1.0);
    story.slow = true;
    story.pass(30.0);
    story.claim("77");
    assert!(story.call.is_some());
    story.slow = false;
    story.answer();
    story.pass(0.3);
    assert!(matches!(story.asked_last(), Some(Effect::Configure { .. })));
}

#[test]
fn beats_and_looks_keep_their_times() {
    let mut story = Story::listening(record(State::Running, Some("77"), 5));
    let before = story.calls;
    story.pass(60.0);
    let calls = story.calls - before;
    assert!((195..=215).contains(&calls), "{calls} calls while idle");
    story.say(Said::JobStarted("build".into()));
    let before = story.calls;
    story.pass(60.0);
    assert!(
        (11..=14).contains(&(story.calls - before)),
        "only beats while a job runs"
    );
}

#[test]
fn a_pause_is_another_one_on_each_machine_and_the_same_in_each_replay() {
    let mut machine = Story::booted(record(State::Idle, None, 3)).machine;
    let pauses = |machine: &Machine| -> Vec<Duration> {
        (1..=100)
            .map(|tries| machine.about(Duration::from_secs(4), tries))
            .collect()
    };
    let first = pauses(&machine);
    assert_eq!(pauses(&machine), first);
    let range = Duration::from_secs(3)..=Duration::from_secs(5);
    assert!(first.iter().all(|pause| range.contains(pause)), "{first:?}");
    machine.arn = ARN.replace("abcdef0", "abcdef1").try_into().unwrap();
    assert_ne!(pauses(&machine), first);
}
