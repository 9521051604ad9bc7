//! One job a registration, and the ends of the listener that mean something.

use super::*;

fn end(story: &mut Story, code: i32) {
    let run = story.run();
    story.happen(Event::ListenerEnded(run, Ending::Code(code), "tail".into()));
}

fn registrations(story: &Story) -> usize {
    story.count(|effect| matches!(effect, Effect::Configure { .. }))
}

fn token_asked_with(story: &Story) -> &str {
    let tokens = story.asked.iter().rev().find_map(|effect| match effect {
        Effect::Configure { token, .. } => Some(token.expose()),
        _ => None,
    });
    tokens.expect("it registered")
}

fn ephemeral() -> Story {
    let mut story = Story::booted_with(record(State::Running, Some("77"), 5), |config| {
        config.jobs.ephemeral = true;
    });
    story.pass(0.3);
    story.register();
    story
}

#[test]
fn an_ephemeral_runner_registers_anew_after_each_job_without_a_word_of_trouble() {
    let mut story = ephemeral();
    for done in 1..=7 {
        assert_eq!(registrations(&story), done);
        story.say(Said::JobStarted("build".into()));
        story.say(Said::JobEnded);
        end(&mut story, 0);
        assert_eq!(token_asked_with(&story), "register");
        story.register();
    }
    assert_eq!(story.machine.errors(), [] as [&str; 0]);
    // The record shows it to nobody meanwhile.
    assert_eq!(story.record.as_ref().unwrap().token, None);
    story.release("77");
    story.pass(0.3);
    let wanted = Effect::Remove(Secret::new("remove"), Some(LISTENER));
    assert_eq!(story.asked_last(), Some(&wanted));
}

#[test]
fn an_ephemeral_runner_takes_the_token_that_it_is_handed_and_remembers_it() {
    let mut story = ephemeral();
    story.say(Said::JobStarted("build".into()));
    let change = Change::renew_token(5, Secret::new("newer"));
    assert!(story.change(&change));
    story.pass(6.0);
    assert_eq!(story.record.as_ref().unwrap().token, None);
    let saved = story.asked.iter().rev().find_map(|effect| match effect {
        Effect::Save(saved) => saved.clone(),
        _ => None,
    });
    assert_eq!(saved.unwrap().token, Some(Secret::new("newer")));
    story.say(Said::JobEnded);
    end(&mut story, 0);
    assert_eq!(token_asked_with(&story), "newer");
    // That one has ended too: it fails, and tries again once there is another.
    for _ in 0..4 {
        story.happen(Event::Configured(Err("401: the token has ended".into())));
        story.pass(10.0);
    }
    assert!(
        story
            .machine
            .health()
            .unwrap()
            .reason
            .unwrap()
            .contains("401")
    );
    let tried = registrations(&story);
    story.pass(60.0);
    assert_eq!(registrations(&story), tried);
    assert!(story.change(&Change::renew_token(5, Secret::new("newest"))));
    story.pass(1.0);
    assert_eq!(token_asked_with(&story), "newest");
    story.register();
    assert!(story.machine.health().unwrap().healthy);
}

#[test]
fn an_ephemeral_runner_whose_job_ends_after_the_release_waits_for_the_removal_token() {
    let mut story = ephemeral();
    story.say(Said::JobStarted("build".into()));
    story.release("77");
    story.pass(6.0);
    story.say(Said::JobEnded);
    end(&mut story, 0);
    story.pass(2.0);
    assert_eq!(
        story.count(|effect| matches!(effect, Effect::Remove(..))),
        0
    );
    story.hand_token();
    story.pass(1.0);
    let wanted = Effect::Remove(Secret::new("remove"), None);
    assert_eq!(story.asked_last(), Some(&wanted));
    assert_eq!(registrations(&story), 1);
}

#[test]
fn the_ends_that_mean_something_are_named() {
    let cases = [
        (
            7,
            "runner version too old: GitHub gives no jobs to 2.336.0 any more",
        ),
        (5, "another listener holds this runner's session"),
        (99, "the listener ended with exit code 99"),
    ];
    for (code, says) in cases {
        let mut story = Story::listening(record(State::Claimed, Some("77"), 4));
        end(&mut story, code);
        assert!(story.says(Signal::RegFailed));
        assert!(story.detail().contains(says), "{}", story.detail());
        assert!(story.detail().ends_with("tail"), "{}", story.detail());
    }
    // After an update, and after trouble at GitHub, the same runner is started again.
    for code in [2, 3, 4] {
        let mut story = Story::listening(record(State::Claimed, Some("77"), 4));
        let run = story.run();
        end(&mut story, code);
        story.pass(1.0);
        assert_eq!((story.run(), registrations(&story)), (run + 1, 1), "{code}");
    }
}
