//! A label appears: registering, and what comes between.

use super::*;

#[test]
fn a_claimed_machine_registers_reports_and_forgets_the_token() {
    let mut story = Story::booted(record(State::Idle, None, 3));
    story.claim("77");
    story.pass(0.3);
    let Some(Effect::Configure { tenant, token, .. }) = story.asked_last() else {
        panic!("{:?}", story.asked)
    };
    assert_eq!(tenant.name, "i-0123456789abcdef0-4");
    assert_eq!(token.expose(), "register");
    assert!(!story.says(Signal::RegOk));
    story.register();
    assert!(story.says(Signal::RegOk));
    let shown = story.record.clone().unwrap();
    assert_eq!(shown.runner.unwrap().name.unwrap(), "i-0123456789abcdef0-4");
    assert_eq!(shown.token, None);
}

#[test]
fn a_commit_changes_nothing_for_the_runner() {
    let mut story = Story::listening(record(State::Created, Some("77"), 1));
    let asked = story.asked.len();
    story.step(&Transition::Commit {
        label: label("77"),
        generation: 1,
        healthy_within: Duration::from_secs(15),
        max_runtime: Duration::from_mins(30),
    });
    story.pass(20.0);
    assert_eq!(story.asked.len(), asked);
    assert_eq!(story.record.unwrap().report.unwrap().generation, 1);
}

#[test]
fn a_label_that_changes_while_configuring_ends_in_the_right_registration() {
    let mut story = Story::booted(record(State::Idle, None, 3));
    story.claim("77");
    story.pass(0.3);
    story.release("77");
    story.pass(0.3);
    story.happen(Event::Configured(Ok(())));
    assert_eq!(
        story.asked_last(),
        Some(&Effect::Remove(Secret::new("remove"), None))
    );
    story.happen(Event::Removed(Ok(())));
    story.happen(Event::Retired(Ok(())));
    assert!(story.says(Signal::RemoveRegOk));
    story.claim("78");
    story.pass(0.3);
    story.register();
    assert!(story.says(Signal::RegOk));
    let name = story.record.unwrap().runner.unwrap().name.unwrap();
    assert_eq!(name, "i-0123456789abcdef0-6");
}

#[test]
fn registration_is_tried_again_and_then_its_failure_reported() {
    let mut story = Story::booted(record(State::Claimed, Some("77"), 4));
    for _ in 0..4 {
        story.pass(5.0);
        story.happen(Event::Configured(Err("404: no such repository".into())));
    }
    assert!(story.says(Signal::RegFailed));
    let detail = story.detail();
    assert!(detail.starts_with("404: no such repository\n"), "{detail}");
    assert!(detail.contains("`controller refresh`"), "{detail}");
    story.release("77");
    story.pass(0.3);
    // One of the tries may have reached GitHub all the same.
    assert_eq!(
        story.asked_last(),
        Some(&Effect::Remove(Secret::new("remove"), None))
    );
    story.happen(Event::Removed(Ok(())));
    assert_eq!(story.asked_last(), Some(&Effect::Retire(None)));
}

#[test]
fn a_listener_that_never_listens_is_a_failure() {
    let mut story = Story::booted(record(State::Claimed, Some("77"), 4));
    story.pass(0.3);
    story.happen(Event::Configured(Ok(())));
    story.pass(61.0);
    assert!(story.says(Signal::RegFailed));
    assert!(
        story.detail().contains("did not listen"),
        "{}",
        story.detail()
    );
}

#[test]
fn a_listener_that_ends_is_brought_back_by_its_exit_code() {
    let mut story = Story::listening(record(State::Running, Some("77"), 5));
    let run = story.run();
    story.happen(Event::ListenerEnded(run, Ending::Code(2), "trouble".into()));
    story.pass(1.0);
    assert!(matches!(story.asked_last(), Some(Effect::Listen(_))));
    // The end of the listener before this one is heard late.
    story.happen(Event::ListenerEnded(run, Ending::Code(5), String::new()));
    story.say(Said::Listening);
    assert_eq!(story.machine.phase(), "listening");
    let run = story.run();
    story.record.as_mut().unwrap().token = Some(Secret::new("again"));
    story.happen(Event::ListenerEnded(run, Ending::Code(1), "deleted".into()));
    story.pass(2.0);
    let Some(Effect::Configure { token, .. }) = story.asked_last() else {
        panic!("{:?}", story.asked)
    };
    // Not the first one, which is not kept beside a job.
    assert_eq!(token.expose(), "again");
    story.register();
    let run = story.run();
    story.happen(Event::ListenerEnded(
        run,
        Ending::Code(7),
        "deprecated".into(),
    ));
    assert!(story.machine.phase() == "registration failed");
}

#[test]
fn the_label_waits_for_the_boot() {
    let mut story = Story::new(Some(record(State::Created, Some("77"), 1)));
    story.pass(30.0);
    assert_eq!(story.asked, [Effect::Boot]);
    assert!(story.record.as_ref().unwrap().heartbeat.is_some());
    story.happen(Event::Booted(Ok("2.336.0".into())));
    assert!(matches!(story.asked_last(), Some(Effect::Configure { .. })));
}
