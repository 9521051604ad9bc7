//! What comes after a restart of the agent, and after the end of a listener.

use super::super::Saved;
use super::*;

impl Story {
    fn saved(&self) -> Saved {
        let saved = self.asked.iter().rev().find_map(|effect| match effect {
            Effect::Save(saved) => saved.clone(),
            _ => None,
        });
        saved.expect("something was saved")
    }

    /// Another agent starts, with what this one left.
    fn again(&mut self, saved: Option<Saved>) {
        self.asked.clear();
        self.call = None;
        self.machine = Machine::new(self.machine.config.clone(), ARN.parse_arn(), saved);
        let effects = self.machine.start(self.now());
        self.take(effects);
    }
}

trait ParseArn {
    fn parse_arn(&self) -> InstanceArn;
}

impl ParseArn for str {
    fn parse_arn(&self) -> InstanceArn {
        InstanceArn::try_from(self.to_owned()).unwrap()
    }
}

#[test]
fn a_new_agent_takes_a_living_listener_over_and_restarts_a_dead_one() {
    let mut story = Story::listening(record(State::Running, Some("77"), 5));
    story.say(Said::JobStarted("build".into()));
    let saved = story.saved();
    for alive in [true, false] {
        let listener = saved.listener.filter(|_| alive);
        story.again(Some(Saved {
            listener,
            ..saved.clone()
        }));
        story.pass(0.5);
        let job = story.record.as_ref().unwrap().job.is_some();
        if alive {
            assert!(story.asked.contains(&Effect::Adopt(0, LISTENER, 1)));
            assert!(job && story.machine.phase() == "running a job");
        } else {
            assert!(matches!(story.asked_last(), Some(Effect::Listen(_))));
            assert!(!job);
        }
        // What it runs is known, and not asked under a job.
        assert!(!story.asked.contains(&Effect::Boot));
        assert_eq!(story.machine.runner().unwrap().version, "2.336.0");
    }
}

#[test]
fn a_boot_check_that_fails_beside_a_living_job_ends_no_machine() {
    let mut story = Story::listening(record(State::Running, Some("77"), 5));
    story.say(Said::JobStarted("build".into()));
    let saved = Saved {
        version: None,
        ..story.saved()
    };
    story.again(Some(saved));
    assert!(story.asked.contains(&Effect::Boot));
    story.happen(Event::Booted(Err("no version".into())));
    story.pass(300.0);
    assert_eq!(story.off(), None);
    assert!(!story.says(Signal::Failed));
    assert!(!story.machine.health().unwrap().healthy);
}

#[test]
fn a_restart_during_the_registration_goes_on_with_it_but_not_before_it_saw_the_record() {
    let mut story = Story::booted(record(State::Claimed, Some("77"), 4));
    story.pass(0.3);
    let saved = story.saved();
    assert!(saved.registered && !saved.configured);
    story.slow = true;
    story.again(Some(saved.clone()));
    story.pass(3.0);
    assert_eq!(story.asked_last(), None);
    story.slow = false;
    story.answer();
    story.pass(0.1);
    let Some(Effect::Configure { within, .. }) = story.asked_last() else {
        panic!("{:?}", story.asked)
    };
    assert!(*within > Duration::from_secs(30), "{within:?}");
    story.happen(Event::Configured(Err("a passing thing".into())));
    story.pass(2.0);
    story.register();
    assert!(story.says(Signal::RegOk));

    // Released meanwhile: there is nothing to go on with.
    story.release("77");
    story.again(Some(saved));
    story.pass(0.5);
    let tried = |effect: &Effect| matches!(effect, Effect::Configure { .. } | Effect::Listen(_));
    assert_eq!(story.count(tried), 0);
    assert!(matches!(story.asked_last(), Some(Effect::Remove(..))));
}

#[test]
fn a_listener_whose_file_is_lost_keeps_its_registration() {
    let mut story = Story::listening(record(State::Running, Some("77"), 5));
    let mut saved = story.saved();
    saved.tenant.label = label("0");
    saved.version = None;
    saved.listening = false;
    story.again(Some(saved));
    story.happen(Event::ListenerSaid(0, Said::Listening, 9));
    story.happen(Event::Booted(Ok("2.336.0".into())));
    story.pass(90.0);
    assert_eq!(story.machine.phase(), "listening");
    story.happen(Event::ListenerEnded(0, Ending::Code(1), String::new()));
    story.record.as_mut().unwrap().token = Some(Secret::new("register"));
    story.pass(1.0);
    let Some(Effect::Configure { tenant, .. }) = story.asked_last() else {
        panic!("{:?}", story.asked)
    };
    assert_eq!(tenant.label, label("77"));
}

#[test]
fn an_old_file_is_read_as_far_as_it_goes() {
    let text = r#"{"tenant":{"label":"77","generation":4,"name":"n"},"gone":1}"#;
    let saved: Saved = serde_json::from_str(text).unwrap();
    assert!(saved.registered && !saved.configured);
}

#[test]
fn a_runner_that_ended_is_deregistered_all_the_same() {
    let mut story = Story::listening(record(State::Running, Some("77"), 5));
    story.release("77");
    let run = story.run();
    story.happen(Event::ListenerEnded(run, Ending::Code(1), "trouble".into()));
    story.pass(1.0);
    assert!(matches!(story.asked_last(), Some(Effect::Remove(_, None))));
    assert!(!story.says(Signal::RemoveRegOk));
}

#[test]
fn trouble_at_github_is_waited_out_and_what_listens_begins_to_count_anew() {
    let mut story = Story::listening(record(State::Running, Some("77"), 5));
    for round in 0..40 {
        let how = if round < 20 {
            Ending::Code(2)
        } else {
            Ending::Unknown
        };
        let run = story.run();
        story.happen(Event::ListenerEnded(run, how, "trouble".into()));
        story.pass(6.0);
        assert!(story.run() > run, "round {round}");
        if round >= 15 {
            story.say(Said::Listening);
        }
    }
    for _ in 0..6 {
        let run = story.run();
        story.happen(Event::ListenerEnded(run, Ending::Unknown, "killed".into()));
        story.pass(6.0);
    }
    assert_eq!(story.machine.phase(), "registration failed");
    assert!(!story.machine.health().unwrap().healthy);
}

#[test]
fn names_of_jobs_steer_no_terminal() {
    let mut story = Story::listening(record(State::Running, Some("77"), 5));
    story.say(Said::JobStarted(format!("\u{1b}[2J{}", "x".repeat(300))));
    let name = &story.machine.job().unwrap().name;
    assert!(name.starts_with("[2Jx") && name.len() == 200, "{name}");
}
