//! The label is gone: deregistering and cleaning.

use super::*;

#[test]
fn a_machine_without_label_says_that_it_booted_and_once_pooled_that_it_is_clean() {
    let mut story = Story::booted(record(State::Created, None, 1));
    story.pass(1.0);
    assert!(story.says(Signal::Ok));
    story.step(&Transition::Pool {
        generation: 1,
        healthy_within: Duration::from_secs(15),
        idle_time: Duration::from_mins(7),
    });
    story.pass(1.0);
    assert!(story.says(Signal::RemoveRegOk));
}

#[test]
fn a_release_deregisters_cleans_and_reports() {
    let mut story = Story::listening(record(State::Claimed, Some("77"), 4));
    story.release("77");
    story.pass(0.3);
    assert_eq!(
        story.asked_last(),
        Some(&Effect::Remove(Secret::new("remove"), Some(LISTENER)))
    );
    story.happen(Event::Removed(Ok(())));
    assert_eq!(story.asked_last(), Some(&Effect::Retire(Some(LISTENER))));
    assert!(!story.says(Signal::RemoveRegOk));
    story.happen(Event::Retired(Ok(())));
    assert!(story.says(Signal::RemoveRegOk));
    assert_eq!(story.record.as_ref().unwrap().token, None);
    assert_eq!(story.asked.last(), Some(&Effect::Save(None)));
}

#[test]
fn a_release_waits_for_the_job() {
    let mut story = Story::listening(record(State::Running, Some("77"), 5));
    story.say(Said::JobStarted("build".into()));
    assert_eq!(
        story.record.as_ref().unwrap().job.as_ref().unwrap().name,
        "build"
    );
    story.release("77");
    story.pass(12.0);
    assert_eq!(
        story.count(|effect| matches!(effect, Effect::Remove(..))),
        0
    );
    story.say(Said::JobEnded);
    assert_eq!(story.record.as_ref().unwrap().job, None);
    story.pass(3.0);
    assert_eq!(
        story.count(|effect| matches!(effect, Effect::Remove(..))),
        0,
        "it has no token yet"
    );
    story.hand_token();
    story.pass(1.0);
    assert!(matches!(story.asked_last(), Some(Effect::Remove(..))));
}

#[test]
fn a_job_that_comes_before_the_deregistration_is_waited_for() {
    let mut story = Story::listening(record(State::Running, Some("77"), 5));
    story.release("77");
    story.pass(0.3);
    story.happen(Event::Removed(Err("422: it has a job".into())));
    story.say(Said::JobStarted("late".into()));
    story.pass(30.0);
    assert_eq!(
        story.record.as_ref().unwrap().token,
        None,
        "the job could read it"
    );
    assert_eq!(
        story.count(|effect| matches!(effect, Effect::Remove(..))),
        1
    );
    story.say(Said::JobEnded);
    story.hand_token();
    story.pass(1.0);
    assert_eq!(
        story.count(|effect| matches!(effect, Effect::Remove(..))),
        2
    );
}

#[test]
fn a_runner_that_github_will_not_let_go_is_reported() {
    let mut story = Story::listening(record(State::Running, Some("77"), 5));
    story.release("77");
    for _ in 0..20 {
        story.pass(6.0);
        if matches!(story.asked_last(), Some(Effect::Remove(..))) {
            story.happen(Event::Removed(Err("401: bad token".into())));
        }
    }
    assert!(story.says(Signal::RemoveRegFailed), "{:?}", story.record);
    assert_eq!(story.detail(), "401: bad token");
    assert_eq!(
        story.machine.health().unwrap().reason.unwrap(),
        "401: bad token"
    );
}

#[test]
fn a_release_that_was_never_noticed_as_a_claim_is_answered_too() {
    let mut story = Story::booted(record(State::Idle, None, 3));
    story.claim("77");
    story.release("77");
    story.pass(0.3);
    assert_eq!(
        story.count(|effect| matches!(effect, Effect::Configure { .. })),
        0
    );
    assert!(story.says(Signal::RemoveRegOk));
}
