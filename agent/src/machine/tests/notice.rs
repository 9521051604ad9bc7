//! What EC2 announces.

use super::super::Notices;
use super::*;

fn interruption(story: &Story) -> Event {
    Event::Noticed(Notices {
        interruption: Some(story.now().wall + Duration::from_mins(2)),
        rebalance: false,
    })
}

#[test]
fn an_interrupted_machine_that_is_idle_says_so_and_goes() {
    let mut story = Story::booted(record(State::Idle, None, 3));
    story.pass(10.0);
    story.happen(interruption(&story));
    story.pass(0.1);
    assert!(
        story.off().unwrap().contains("EC2 takes"),
        "{:?}",
        story.off()
    );
    let record = story.record.as_ref().unwrap();
    let report = record.report.as_ref().unwrap();
    assert_eq!((report.signal, report.generation), (Signal::Interrupted, 3));
    assert!(record.unhealthy().unwrap().contains("EC2 takes"));
}

#[test]
fn an_interrupted_machine_lets_its_job_run_until_twenty_seconds_before_the_end() {
    let mut story = Story::listening(record(State::Running, Some("77"), 5));
    story.say(Said::JobStarted("build".into()));
    story.happen(interruption(&story));
    story.pass(1.0);
    assert!(story.says(Signal::Interrupted));
    assert!(story.record.as_ref().unwrap().unhealthy().is_some());
    story.pass(98.0);
    assert_eq!(story.off(), None);
    story.pass(2.0);
    assert!(story.off().is_some());
}

#[test]
fn the_job_that_runs_is_the_last_and_the_machine_goes_with_its_listener() {
    let mut story = Story::listening(record(State::Running, Some("77"), 5));
    story.say(Said::JobStarted("build".into()));
    story.happen(interruption(&story));
    story.pass(4.0);
    assert_eq!(dismissals(&story), 0, "its worker may only start");
    story.pass(1.5);
    assert_eq!((dismissals(&story), story.off()), (1, None));
    story.pass(20.0);
    assert!(dismissals(&story) >= 20, "{}", dismissals(&story));
    assert_eq!(story.off(), None, "the job still runs");
    listener_ends(&mut story);
    story.pass(0.1);
    assert!(story.off().is_some());
}

#[test]
fn a_listener_between_two_jobs_is_left_alone_unless_the_end_is_near() {
    let mut story = Story::listening(record(State::Running, Some("77"), 5));
    story.happen(interruption(&story));
    for _ in 0..17 {
        story.say(Said::JobStarted("short".into()));
        story.pass(3.0);
        story.say(Said::JobEnded);
        story.pass(1.0);
        assert_eq!(dismissals(&story), 0);
    }
    story.say(Said::JobStarted("short".into()));
    story.pass(3.0);
    assert!(dismissals(&story) > 0);
}

fn dismissals(story: &Story) -> usize {
    story.count(|effect| matches!(effect, Effect::Dismiss(LISTENER)))
}

fn listener_ends(story: &mut Story) {
    let run = story.run();
    story.happen(Event::ListenerEnded(run, Ending::Code(0), String::new()));
}

#[test]
fn an_interrupted_machine_that_listens_takes_no_job_any_more_before_it_goes() {
    let mut story = Story::listening(record(State::Running, Some("77"), 5));
    story.pass(10.0);
    story.happen(interruption(&story));
    assert_eq!(dismissals(&story), 1);
    story.pass(1.0);
    assert_eq!(story.off(), None, "its listener still runs");
    listener_ends(&mut story);
    story.pass(0.1);
    assert!(story.off().is_some());
    assert!(story.says(Signal::Interrupted));
}

#[test]
fn a_job_that_comes_before_the_listener_stops_runs_until_shortly_before_the_end() {
    let mut story = Story::listening(record(State::Running, Some("77"), 5));
    story.happen(interruption(&story));
    story.say(Said::JobStarted("late".into()));
    story.pass(99.0);
    assert_eq!(story.off(), None);
    story.pass(2.0);
    assert!(story.off().is_some());
}

#[test]
fn a_listener_that_does_not_stop_holds_up_nothing_beyond_the_end() {
    let mut story = Story::listening(record(State::Running, Some("77"), 5));
    story.happen(interruption(&story));
    story.pass(99.0);
    assert_eq!(story.off(), None);
    assert!(dismissals(&story) >= 94, "{}", dismissals(&story));
    story.pass(2.0);
    assert!(story.off().is_some());
}

#[test]
fn a_listener_that_just_starts_is_stopped_too() {
    let mut story = Story::booted(record(State::Claimed, Some("77"), 5));
    story.pass(0.3);
    story.pass(10.0);
    story.happen(Event::Configured(Ok(())));
    story.happen(interruption(&story));
    story.pass(1.0);
    assert_eq!((dismissals(&story), story.off()), (0, None));
    let run = story.run();
    story.happen(Event::ListenerStarted(run, LISTENER));
    assert_eq!(dismissals(&story), 1);
    listener_ends(&mut story);
    story.pass(0.1);
    assert!(story.off().is_some());
}

#[test]
fn a_wall_clock_that_is_wrong_gives_no_more_than_two_minutes() {
    let mut story = Story::listening(record(State::Running, Some("77"), 5));
    story.say(Said::JobStarted("build".into()));
    story.happen(Event::Noticed(Notices {
        interruption: Some(story.now().wall + Duration::from_hours(1)),
        rebalance: false,
    }));
    story.pass(101.0);
    assert!(story.off().is_some());
}

#[test]
fn an_interrupted_machine_takes_no_label_any_more_even_if_the_table_is_slow() {
    let mut story = Story::booted(record(State::Idle, None, 3));
    story.pass(1.0);
    story.slow = true;
    story.pass(0.3);
    story.happen(interruption(&story));
    story.claim("77");
    story.answer();
    story.pass(6.0);
    assert_eq!(
        story.count(|effect| matches!(effect, Effect::Configure { .. })),
        0
    );
    assert!(story.off().is_some());
}

#[test]
fn a_machine_to_move_away_from_serves_its_run_and_is_not_handed_out_again() {
    let mut story = Story::listening(record(State::Running, Some("77"), 5));
    story.happen(Event::Noticed(Notices {
        interruption: None,
        rebalance: true,
    }));
    story.pass(300.0);
    assert_eq!(story.off(), None);
    let reason = story.record.as_ref().unwrap().unhealthy().unwrap();
    assert!(reason.contains("recommends"), "{reason}");
    assert!(!story.says(Signal::Interrupted));
}
