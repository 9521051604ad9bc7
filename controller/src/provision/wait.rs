//! Validation: one loop looks at all machines until each is registered, or one is lost.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use proto::{
    ids::{InstanceId, Label},
    instance::InstanceRecord,
    signal::Signal,
    state::State,
    time::{Time, human},
};

use super::{ProvisionError, Saga};
use crate::backoff::Looks;

/// What a look at one machine says.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Verdict {
    /// Registered.
    Ready,
    /// Not yet.
    Waiting,
    /// It will not serve.
    Lost(String),
}

/// Judges a machine by its record.
fn judge(
    record: Option<&InstanceRecord>,
    label: &Label,
    generation: u64,
    now: Time,
    deadline: Time,
    healthy_within: Duration,
) -> Verdict {
    let Some(record) = record else {
        return Verdict::Lost("lost its record".to_owned());
    };
    let detail = || {
        let detail = record
            .report
            .as_ref()
            .and_then(|report| report.detail.as_deref());
        detail.map_or_else(String::new, |detail| format!(": {detail}"))
    };
    match record.state {
        State::Terminated => {
            let reason = record.reason.as_deref().unwrap_or("no reason given");
            return Verdict::Lost(format!("was terminated ({reason}){}", detail()));
        }
        State::Idle | State::Running => {
            return Verdict::Lost(format!("is {} meanwhile", record.state));
        }
        State::Created | State::Claimed => {}
    }
    if record.label.as_ref() != Some(label) || record.generation != generation {
        return Verdict::Lost("was given to somebody else".to_owned());
    }
    match record.fresh_report().map(|report| report.signal) {
        Some(Signal::RegOk) if record.beats(now, healthy_within) => {
            return Verdict::Ready;
        }
        Some(Signal::Failed) => return Verdict::Lost(format!("failed to boot{}", detail())),
        Some(Signal::RegFailed) => {
            return Verdict::Lost(format!("could not register its runner{}", detail()));
        }
        Some(Signal::Interrupted) => {
            return Verdict::Lost("is taken away by EC2 (spot interruption)".to_owned());
        }
        Some(Signal::Ok | Signal::RegOk | Signal::RemoveRegOk | Signal::RemoveRegFailed) | None => {
        }
    }
    if now >= deadline {
        let heard = match (record.heartbeat, &record.report) {
            (None, _) => "its agent was never heard of".to_owned(),
            (Some(beat), None) => format!("its agent last beat at {beat} and reported nothing"),
            (Some(beat), Some(report)) => {
                format!(
                    "its agent last beat at {beat} and reported {:?}{}",
                    report.signal,
                    detail()
                )
            }
        };
        return Verdict::Lost(format!("did not register in time; {heard}"));
    }
    Verdict::Waiting
}

impl Saga<'_> {
    /// Waits until every held machine is registered. A reused one that is lost is discarded, for
    /// the caller to replace; a new one that is lost ends the provision.
    pub(super) async fn wait(&mut self) -> Result<(), ProvisionError> {
        let mut looks = Looks::default();
        loop {
            self.journal.keep_alive().await?;
            let ids: Vec<_> = self
                .held
                .iter()
                .map(|held| self.world.arn(&held.ready.id))
                .collect();
            let until = self.held.iter().map(|held| held.deadline).max();
            let until = until.unwrap_or(self.deadline);
            let Some(records) = self.world.look(&ids, until).await? else {
                looks.pause().await;
                continue;
            };
            let records: BTreeMap<InstanceId, InstanceRecord> = records
                .into_iter()
                .map(|record| (record.id().clone(), record))
                .collect();
            let now = self.world.now();
            let mut lost = Vec::new();
            for held in &mut self.held {
                let record = records.get(&held.ready.id);
                let healthy_within = self.setup.parameters.healthy_within();
                match judge(
                    record,
                    &self.settings.label,
                    held.generation,
                    now,
                    held.deadline,
                    healthy_within,
                ) {
                    Verdict::Waiting => held.registered = false,
                    Verdict::Lost(what) => lost.push((held.ready.clone(), what)),
                    Verdict::Ready => {
                        if !held.registered {
                            let after = now.since(held.since);
                            held.ready.after = Some(after);
                            self.console.say(format!(
                                "{} ready after {}",
                                held.ready.id,
                                human(after)
                            ));
                        }
                        held.registered = true;
                    }
                }
            }
            if let Some((ready, what)) = lost
                .iter()
                .find(|(ready, _)| !ready.reused || now >= self.deadline)
            {
                return Err(ProvisionError::Machine {
                    id: ready.id.clone(),
                    what: what.clone(),
                });
            }
            if !lost.is_empty() {
                for (ready, what) in &lost {
                    self.console
                        .say(format!("{} {what}: terminated, to be replaced", ready.id));
                }
                let ids: Vec<_> = lost.into_iter().map(|(ready, _)| ready.id).collect();
                return self.discard(&ids, "lost while it was claimed").await;
            }
            let waiting: BTreeSet<&str> = self
                .held
                .iter()
                .filter(|held| !held.registered)
                .map(|held| held.ready.id.as_str())
                .collect();
            if waiting.is_empty() {
                return Ok(());
            }
            looks.progress(now, || {
                let waiting = waiting.into_iter().collect::<Vec<_>>().join(", ");
                self.console
                    .say(format!("waiting for {waiting} to register"));
            });
            looks.pause().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use proto::signal::Report;

    use super::*;

    const NOW: Time = Time::EPOCH;

    fn record(state: State, report: Option<(Signal, u64)>) -> InstanceRecord {
        let label: Label = "7".parse().unwrap();
        let report = report.map(|(signal, generation)| Report {
            signal,
            generation,
            at: NOW,
            detail: Some("exit code 3".into()),
        });
        InstanceRecord {
            label: Some(label),
            report,
            heartbeat: Some(NOW),
            ..InstanceRecord::example(state)
        }
    }

    fn verdict(record: Option<&InstanceRecord>, deadline: Time) -> Verdict {
        judge(
            record,
            &"7".parse().unwrap(),
            1,
            NOW,
            deadline,
            Duration::from_secs(15),
        )
    }

    #[test]
    fn a_fresh_registration_is_ready_and_a_stale_one_is_not() {
        let later = NOW + Duration::from_secs(1);
        let fresh = record(State::Claimed, Some((Signal::RegOk, 1)));
        assert_eq!(verdict(Some(&fresh), later), Verdict::Ready);
        let stale = record(State::Claimed, Some((Signal::RegOk, 0)));
        assert_eq!(verdict(Some(&stale), later), Verdict::Waiting);
    }

    #[test]
    fn failures_carry_their_cause() {
        let later = NOW + Duration::from_secs(1);
        let failed = record(State::Created, Some((Signal::Failed, 1)));
        assert_eq!(
            verdict(Some(&failed), later),
            Verdict::Lost("failed to boot: exit code 3".into())
        );
        assert!(matches!(verdict(None, later), Verdict::Lost(_)));
    }

    #[test]
    fn silence_ends_at_the_deadline() {
        let quiet = record(State::Created, None);
        assert!(
            matches!(verdict(Some(&quiet), NOW), Verdict::Lost(what) if what.contains("in time"))
        );
        assert_eq!(
            verdict(Some(&quiet), NOW + Duration::from_secs(1)),
            Verdict::Waiting
        );
    }
}
