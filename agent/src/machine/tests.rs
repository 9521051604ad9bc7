//! The machine's decisions, told as stories against an in-memory record.

mod again;
mod health;
mod jobs;
mod notice;

use std::time::Duration;

use proto::{
    agent_config::AgentConfig,
    change::Change,
    ids::{InstanceArn, Label},
    instance::{InstanceRecord, Secret},
    signal::Signal,
    state::{State, Terminate, Transition},
    time::Time,
};

use super::{Answer, Boot, Call, Effect, Event, ListenerId, Machine, Now, Said, Vitals};

const ARN: &str = "arn:aws:ec2:us-east-1:123456789012:instance/i-0123456789abcdef0";
const LISTENER: ListenerId = ListenerId {
    pid: 42,
    started: 7,
};

fn label(text: &str) -> Label {
    text.parse().unwrap()
}

fn record(state: State, bears: Option<&str>, generation: u64) -> InstanceRecord {
    let threshold = Time::from_millis(3_600_000);
    let mut record: InstanceRecord = serde_json::from_value(serde_json::json!({
        "pk": ARN, "state": state, "generation": generation,
        "since": Time::from_millis(0), "createdAt": Time::from_millis(0),
        "resourceClass": "large", "instanceType": "m6i.large", "zone": "us-east-1a",
        "usageClass": "on-demand", "cpu": 2, "mmem": 4096, "templateVersion": 1,
        "threshold": threshold,
    }))
    .unwrap();
    record.label = bears.map(label);
    record.token = bears.map(|_| Secret::new("register"));
    record
}

/// A machine, the record that it meets, and a clock.
struct Story {
    machine: Machine,
    record: Option<InstanceRecord>,
    at: Duration,
    /// What was asked for and not yet answered, the table's calls aside.
    asked: Vec<Effect>,
    /// The call under way, when the table is slow.
    call: Option<Call>,
    slow: bool,
    down: bool,
    calls: usize,
    /// What an examination finds.
    vitals: Vitals,
}

impl Story {
    fn new(record: Option<InstanceRecord>) -> Self {
        Self::new_with(record, |_| ())
    }

    fn new_with(record: Option<InstanceRecord>, edit: impl FnOnce(&mut AgentConfig)) -> Self {
        let text = r#"{"v":1,"pool":"p","table":"t","region":"r","githubUrl":"u"}"#;
        let mut config: AgentConfig = serde_json::from_str(text).unwrap();
        edit(&mut config);
        let arn = InstanceArn::try_from(ARN.to_owned()).unwrap();
        let mut story = Self {
            machine: Machine::new(config, arn, None),
            record,
            at: Duration::ZERO,
            asked: Vec::new(),
            call: None,
            slow: false,
            down: false,
            calls: 0,
            vitals: Vitals::default(),
        };
        let effects = story.machine.start(story.now());
        story.take(effects);
        story
    }

    /// A machine that has booted and shown it.
    fn booted(record: InstanceRecord) -> Self {
        Self::booted_with(record, |_| ())
    }

    fn booted_with(record: InstanceRecord, edit: impl FnOnce(&mut AgentConfig)) -> Self {
        let mut story = Self::new_with(Some(record), edit);
        story.happen(Event::Booted(Ok("2.336.0".into())));
        story
    }

    /// A machine that listens for its label.
    fn listening(record: InstanceRecord) -> Self {
        let mut story = Self::booted(record);
        story.pass(0.3);
        story.register();
        story
    }

    fn register(&mut self) {
        self.happen(Event::Configured(Ok(())));
        let run = self.run();
        self.happen(Event::ListenerStarted(run, LISTENER));
        self.say(Said::Listening);
    }

    fn run(&self) -> u64 {
        self.asked
            .iter()
            .rev()
            .find_map(|effect| match effect {
                Effect::Listen(run) => Some(*run),
                _ => None,
            })
            .expect("no listener was asked for")
    }

    fn say(&mut self, said: Said) {
        let run = self.run();
        self.happen(Event::ListenerSaid(run, said, 1));
    }

    fn now(&self) -> Now {
        Now {
            wall: Time::from_millis(0) + self.at,
            mono: self.at,
        }
    }

    fn happen(&mut self, event: Event) {
        let effects = self.machine.on(event, self.now());
        self.take(effects);
    }

    fn take(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            if let Effect::Table(call) = effect {
                self.calls += 1;
                assert!(self.call.replace(call).is_none(), "two calls at once");
                assert!(self.calls < 30_000, "calls without end");
                if !self.slow {
                    self.answer();
                }
            } else if let Effect::Examine(_) = effect {
                self.happen(Event::Examined(Ok(self.vitals.clone())));
            } else {
                self.asked.push(effect);
            }
        }
    }

    /// The table answers the call under way, with what it holds now.
    fn answer(&mut self) {
        let call = self.call.take().expect("no call is under way");
        let answer = if self.down {
            Err("the table is down".to_owned())
        } else {
            Ok(self.apply(&call))
        };
        self.happen(Event::Table(answer));
    }

    fn apply(&mut self, call: &Call) -> Answer {
        let applied = match call {
            Call::Look => true,
            Call::Change(change) => self.change(change),
        };
        Answer {
            record: self.record.clone().map(Box::new),
            applied,
        }
    }

    fn change(&mut self, change: &Change) -> bool {
        let holds = change.holds(self.record.as_ref());
        if let Some(record) = self.record.as_mut().filter(|_| holds) {
            change.apply(record);
        }
        holds
    }

    /// The controller's step.
    fn step(&mut self, step: &Transition) {
        let change = step.change(self.now().wall);
        assert!(self.change(&change), "{step:?} of {:?}", self.record);
    }

    fn claim(&mut self, by: &str) {
        self.step(&Transition::Claim {
            label: label(by),
            token: Secret::new("register"),
            timeout: Duration::from_secs(30),
        });
    }

    fn release(&mut self, by: &str) {
        let record = self.record.as_ref().expect("a record");
        self.step(&Transition::Release {
            label: label(by),
            generation: Some(record.generation),
            token: record.job.is_none().then(|| Secret::new("remove")),
            idle_time: Duration::from_mins(7),
        });
    }

    /// The controller saw that no job runs any more.
    fn hand_token(&mut self) {
        let generation = self.record.as_ref().expect("a record").generation;
        let hand = Change::hand_token(generation, Secret::new("remove"));
        assert!(self.change(&hand), "{:?}", self.record);
    }

    /// Lets time pass, waking the machine whenever it wants.
    fn pass(&mut self, seconds: f64) {
        let end = self.at + Duration::from_secs_f64(seconds);
        let mut wakes = 0;
        loop {
            let wake = self.machine.wake();
            if wake > end {
                break;
            }
            wakes += 1;
            assert!(
                wakes < 50_000,
                "the machine does not sleep: {}",
                self.machine.phase()
            );
            self.at = wake.max(self.at);
            self.happen(Event::Tick);
        }
        self.at = end;
    }

    fn asked_last(&self) -> Option<&Effect> {
        self.asked
            .iter()
            .rev()
            .find(|effect| !matches!(effect, Effect::Save(_)))
    }

    fn count(&self, wanted: impl Fn(&Effect) -> bool) -> usize {
        self.asked.iter().filter(|effect| wanted(effect)).count()
    }

    fn off(&self) -> Option<&str> {
        self.asked.iter().find_map(|effect| match effect {
            Effect::PowerOff(reason) => Some(reason.as_str()),
            _ => None,
        })
    }

    fn says(&self, signal: Signal) -> bool {
        self.record.as_ref().unwrap().says(signal)
    }

    fn detail(&self) -> &str {
        let report = self.record.as_ref().unwrap().report.as_ref().unwrap();
        report.detail.as_deref().unwrap_or_default()
    }
}

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
    assert_eq!(story.detail(), "404: no such repository");
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
    story.happen(Event::ListenerEnded(run, Some(2), "trouble".into()));
    story.pass(1.0);
    assert!(matches!(story.asked_last(), Some(Effect::Listen(_))));
    // The end of the listener before this one is heard late.
    story.happen(Event::ListenerEnded(run, Some(5), String::new()));
    story.say(Said::Listening);
    assert_eq!(story.machine.phase(), "listening");
    let run = story.run();
    story.record.as_mut().unwrap().token = Some(Secret::new("again"));
    story.happen(Event::ListenerEnded(run, Some(1), "deleted".into()));
    story.pass(2.0);
    let Some(Effect::Configure { token, .. }) = story.asked_last() else {
        panic!("{:?}", story.asked)
    };
    // Not the first one, which is not kept beside a job.
    assert_eq!(token.expose(), "again");
    story.register();
    let run = story.run();
    story.happen(Event::ListenerEnded(run, Some(7), "deprecated".into()));
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
fn after_its_threshold_and_the_grace_a_machine_closes_its_record_and_goes() {
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
    assert_eq!(gone.state, State::Terminated);
    assert!(gone.reason.as_ref().unwrap().contains("threshold"));
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
    assert_eq!(story.record.as_ref().unwrap().state, State::Idle);
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
    assert!((230..=260).contains(&calls), "{calls} calls while idle");
    story.say(Said::JobStarted("build".into()));
    let before = story.calls;
    story.pass(60.0);
    assert!(
        (11..=14).contains(&(story.calls - before)),
        "only beats while a job runs"
    );
}
