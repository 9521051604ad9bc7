//! `controller agent-status`: what the agents of a pool's machines say of themselves.
//!
//! Systems Manager runs `agent status` on the machines. That also works where the table tells
//! nothing: an agent that no longer beats is asked on its own machine.

use std::{collections::BTreeMap, time::Duration};

use proto::{
    ids::InstanceId,
    instance::{Health, Job, Runner},
    state::State,
    time::{Clock, Time, human},
};
use serde::Deserialize;

use crate::{
    backoff::Looks,
    ports::{Answer, PortError, Remote},
};

/// The command document that asks an agent; `packaging/ssm` has it.
pub const DOCUMENT: &str = "Paddock-AgentStatus";
/// `SendCommand` takes so many machines.
const BATCH: usize = 50;
/// The document gives an agent 20 s; Systems Manager brings the answer within a few more.
const ANSWERS_WITHIN: Duration = Duration::from_secs(40);
/// Systems Manager's code for a machine whose agent (its own one) never reported to it.
const UNMANAGED: &str = "InvalidInstanceId";

/// What an agent's status file shows that fits into a table.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    agent: String,
    state: Option<State>,
    label: Option<String>,
    phase: String,
    runner: Option<Runner>,
    job: Option<Job>,
    health: Option<Health>,
    last_beat: Option<Time>,
}

/// What became of the question to one machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// Its agent answered.
    Report(Box<Report>),
    /// The question reached the machine, and the answer is none: why.
    Nothing(String),
    /// Systems Manager does not know the machine.
    Unmanaged,
    /// No answer in time.
    Silent,
}

impl Said {
    fn of(answer: &Answer) -> Self {
        match serde_json::from_str(&answer.output) {
            Ok(report) => Self::Report(Box::new(report)),
            Err(_) if answer.output.trim().is_empty() => {
                Self::Nothing(format!("{} without a word", answer.ending))
            }
            Err(error) => Self::Nothing(format!("{}, unreadable: {error}", answer.ending)),
        }
    }

    /// Whether the machine's agent could be asked.
    pub fn is_report(&self) -> bool {
        matches!(self, Self::Report(_))
    }
}

/// Asks the agents of these machines, all at once.
///
/// # Errors
///
/// When Systems Manager cannot be called at all; a machine that does not answer is no error.
pub async fn ask(
    remote: &dyn Remote,
    clock: &dyn Clock,
    machines: &[InstanceId],
) -> Result<BTreeMap<InstanceId, Said>, PortError> {
    let mut said: BTreeMap<InstanceId, Said> = machines
        .iter()
        .map(|id| (id.clone(), Said::Silent))
        .collect();
    let mut commands = Vec::new();
    for batch in machines.chunks(BATCH) {
        match remote.send(DOCUMENT, batch).await {
            Ok(command) => commands.push(command),
            // One machine that is not known spoils the batch, and the answer does not say which.
            Err(error) if error.code.as_deref() == Some(UNMANAGED) => {
                for id in batch {
                    match remote.send(DOCUMENT, std::slice::from_ref(id)).await {
                        Ok(command) => commands.push(command),
                        Err(error) if error.code.as_deref() == Some(UNMANAGED) => {
                            said.insert(id.clone(), Said::Unmanaged);
                        }
                        Err(error) => return Err(error),
                    }
                }
            }
            Err(error) => return Err(error),
        }
    }
    let deadline = clock.now() + ANSWERS_WITHIN;
    let mut looks = Looks::default();
    loop {
        for command in &commands {
            for answer in remote.answers(command).await? {
                said.insert(answer.machine.clone(), Said::of(&answer));
            }
        }
        if !said.values().any(|said| *said == Said::Silent) || clock.now() >= deadline {
            return Ok(said);
        }
        looks.pause().await;
    }
}

/// The answers as a table, one line a machine.
pub fn table(said: &BTreeMap<InstanceId, Said>, now: Time) -> Vec<String> {
    let heads = [
        "machine", "state", "label", "health", "agent", "runner", "beat", "doing",
    ];
    let mut rows = vec![heads.map(str::to_owned)];
    rows.extend(said.iter().map(|(id, said)| row(id, said, now)));
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..heads.len()).map(width).collect();
    rows.iter()
        .map(|row| {
            let cells = row.iter().zip(&widths);
            let cells: Vec<String> = cells
                .map(|(cell, width)| format!("{cell:width$}"))
                .collect();
            cells.join("  ").trim_end().to_owned()
        })
        .collect()
}

fn row(id: &InstanceId, said: &Said, now: Time) -> [String; 8] {
    let none = || "-".to_owned();
    let alone = |words: &str| {
        let [state, label, health, agent, runner, beat] = std::array::from_fn(|_| none());
        [
            id.to_string(),
            state,
            label,
            health,
            agent,
            runner,
            beat,
            one_line(words),
        ]
    };
    let report = match said {
        Said::Report(report) => report,
        Said::Nothing(why) => return alone(why),
        Said::Unmanaged => return alone("not known to Systems Manager"),
        Said::Silent => return alone("no answer in time"),
    };
    let health = report.health.as_ref().map(|health| {
        let reason = health.reason.as_deref().unwrap_or("unhealthy");
        if health.healthy { "well" } else { reason }.to_owned()
    });
    let doing = match &report.job {
        Some(job) => format!("job {} for {}", job.name, human(now.since(job.since))),
        None => report.phase.clone(),
    };
    let beat = report.last_beat.map(|beat| human(now.since(beat)));
    [
        id.to_string(),
        report.state.map_or_else(none, |state| state.to_string()),
        report.label.as_deref().map_or_else(none, one_line),
        health.as_deref().map_or_else(none, one_line),
        one_line(&report.agent),
        report
            .runner
            .as_ref()
            .map_or_else(none, |runner| one_line(&runner.version)),
        beat.unwrap_or_else(none),
        one_line(&doing),
    ]
}

/// What a machine says has one line and no end of a cell in it.
fn one_line(text: &str) -> String {
    const MOST: usize = 60;
    let words: Vec<&str> = text.split_whitespace().collect();
    let text = words.join(" ");
    if text.chars().count() > MOST {
        let kept: String = text.chars().take(MOST - 1).collect();
        kept + "…"
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use async_trait::async_trait;
    use proto::time::SystemClock;

    use super::*;

    /// Knows the machines whose numbers are even, and answers once it was asked twice.
    #[derive(Default)]
    struct Managed {
        sent: Mutex<Vec<Vec<InstanceId>>>,
        asked: Mutex<usize>,
    }

    fn id(number: u64) -> InstanceId {
        format!("i-{number:017x}").parse().expect("an id")
    }

    #[async_trait]
    impl Remote for Managed {
        async fn send(&self, _: &str, machines: &[InstanceId]) -> Result<String, PortError> {
            assert!(machines.len() <= 50, "{}", machines.len());
            let odd = |id: &InstanceId| "13579bdf".contains(id.to_string().chars().last().unwrap());
            if machines.iter().any(odd) {
                return Err(PortError {
                    operation: "ask".to_owned(),
                    code: Some(UNMANAGED.to_owned()),
                    source: "unknown".into(),
                });
            }
            let mut sent = self.sent.lock().expect("whole");
            sent.push(machines.to_vec());
            Ok((sent.len() - 1).to_string())
        }

        async fn answers(&self, command: &str) -> Result<Vec<Answer>, PortError> {
            let mut asked = self.asked.lock().expect("whole");
            *asked += 1;
            let sent = self.sent.lock().expect("whole");
            let machines = &sent[command.parse::<usize>().expect("a number")];
            let answers = machines.iter().map(|id| Answer {
                machine: id.clone(),
                ending: "ended with 0".to_owned(),
                output: r#"{"agent": "0.1.0", "phase": "waiting\nfor a label"}"#.to_owned(),
            });
            Ok(if *asked > sent.len() {
                answers.collect()
            } else {
                Vec::new()
            })
        }
    }

    #[tokio::test]
    async fn one_unmanaged_machine_hides_no_other() {
        let remote = Managed::default();
        // 60 that are known in two batches, then one that is not among the last.
        let mut machines: Vec<InstanceId> = (0..60).map(|number| id(number * 2)).collect();
        machines.push(id(1));
        let said = ask(&remote, &SystemClock, &machines).await.expect("asked");
        assert_eq!(said.len(), 61);
        assert_eq!(said[&id(1)], Said::Unmanaged);
        assert_eq!(said.values().filter(|said| said.is_report()).count(), 60);
        let lines = table(&said, SystemClock.now());
        assert_eq!(lines.len(), 62);
        assert!(lines[1].ends_with("waiting for a label"), "{}", lines[1]);
        assert!(lines[2].ends_with("not known to Systems Manager"));
    }

    #[test]
    fn a_machine_without_agent_says_how_the_question_ended() {
        let of = |output: &str| {
            Said::of(&Answer {
                machine: id(2),
                ending: "ended with 3".to_owned(),
                output: output.to_owned(),
            })
        };
        let nothing = Said::Nothing("ended with 3 without a word".to_owned());
        assert_eq!(of("\n"), nothing);
        let said = BTreeMap::from([(id(2), of("{\"agent\": ::error::"))]);
        let lines = table(&said, SystemClock.now());
        assert!(
            lines[1].contains("ended with 3, unreadable"),
            "{}",
            lines[1]
        );
    }
}
