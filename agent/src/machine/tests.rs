//! The machine's decisions, told as stories against an in-memory record.

mod again;
mod claim;
mod end;
mod health;
mod jobs;
mod notice;
mod release;
mod table;

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

use super::{Answer, Boot, Call, Effect, Ending, Event, ListenerId, Machine, Now, Said, Vitals};

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
