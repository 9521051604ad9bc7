//! Decides what a released machine's record says.

use proto::{
    config::Parameters,
    instance::InstanceRecord,
    signal::Signal,
    state::State,
    time::{Time, human},
};

use super::Terms;

/// What a look at a released machine says.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Deregistered and clean.
    Clean,
    /// Its job still runs.
    Busy,
    /// Not yet.
    Waiting,
    /// Not to be pooled, and why.
    Unfit(String),
    /// Somebody else's by now, or terminated.
    Gone,
}

const INTERRUPTED: &str = "EC2 takes it away (spot interruption)";

/// Why a clean machine is not pooled again, if so.
pub(super) fn worn_out(record: &InstanceRecord, terms: &Terms<'_>, now: Time) -> Option<String> {
    let Parameters {
        max_jobs,
        max_age_sec,
        ..
    } = *terms.parameters;
    let age = now.since(record.created_at);
    let class = &record.resource_class;
    if terms.classes.iter().all(|known| known.name != *class) {
        Some(format!("its class {class} is retired"))
    } else if terms
        .template_version
        .is_some_and(|version| version != record.template_version)
    {
        Some("its launch template is old".to_owned())
    } else if let Some(most) = max_jobs.filter(|most| record.jobs >= *most) {
        Some(format!(
            "it has run {} jobs, of {most} at most",
            record.jobs
        ))
    } else if max_age_sec.is_some_and(|most| age.as_secs() >= most) {
        Some(format!("it is {} old", human(age)))
    } else {
        None
    }
}

/// Judges a machine that was freed in `generation`.
pub fn judge(record: Option<&InstanceRecord>, generation: u64) -> Verdict {
    let Some(record) = record.filter(|record| record.generation == generation) else {
        return Verdict::Gone;
    };
    if record.is_interrupted() {
        return Verdict::Unfit(INTERRUPTED.to_owned());
    }
    match record.fresh_report() {
        Some(report) => match report.signal {
            Signal::RemoveRegOk => match record.unhealthy() {
                None => Verdict::Clean,
                Some(reason) => Verdict::Unfit(reason.to_owned()),
            },
            Signal::RemoveRegFailed | Signal::Failed | Signal::RegFailed => Verdict::Unfit(
                report
                    .detail
                    .clone()
                    .unwrap_or_else(|| "it could not be cleaned".into()),
            ),
            Signal::Interrupted => Verdict::Unfit(INTERRUPTED.to_owned()),
            Signal::Ok | Signal::RegOk if record.job.is_some() => Verdict::Busy,
            Signal::Ok | Signal::RegOk => Verdict::Waiting,
        },
        None if record.job.is_some() => Verdict::Busy,
        None => Verdict::Waiting,
    }
}

/// What became of a machine that is not the run's any more.
pub(super) fn fate(record: Option<&InstanceRecord>) -> String {
    let Some(record) = record else {
        return "it has no record".to_owned();
    };
    match record.state {
        State::Terminated if record.is_interrupted() => {
            "EC2 took it away (spot interruption)".to_owned()
        }
        State::Terminated => {
            let reason = record.reason.as_deref().unwrap_or("no reason given");
            format!("terminated ({reason})")
        }
        State::Idle => "in the pool".to_owned(),
        State::Created | State::Claimed | State::Running => {
            format!("{} for somebody else", record.state)
        }
    }
}

#[cfg(test)]
mod tests {
    use proto::{
        instance::{Health, Job},
        signal::Report,
        time::Time,
    };

    use super::*;

    fn record(signal: Option<(Signal, u64)>) -> InstanceRecord {
        InstanceRecord {
            report: signal.map(|(signal, generation)| Report {
                signal,
                generation,
                at: Time::EPOCH,
                detail: None,
            }),
            ..InstanceRecord::example(State::Idle)
        }
    }

    #[test]
    fn only_a_clean_machine_is_pooled() {
        let generation = record(None).generation;
        let clean = record(Some((Signal::RemoveRegOk, generation)));
        assert_eq!(judge(Some(&clean), generation), Verdict::Clean);
        let health = Some(Health {
            healthy: false,
            reason: Some("disk full".into()),
        });
        let full = InstanceRecord { health, ..clean };
        assert_eq!(
            judge(Some(&full), generation),
            Verdict::Unfit("disk full".into())
        );
        let failed = record(Some((Signal::RemoveRegFailed, generation)));
        assert!(matches!(
            judge(Some(&failed), generation),
            Verdict::Unfit(_)
        ));
        assert_eq!(judge(Some(&failed), generation + 1), Verdict::Gone);
        assert_eq!(judge(None, generation), Verdict::Gone);
    }

    #[test]
    fn a_job_is_waited_for_and_silence_too() {
        let generation = record(None).generation;
        let mut busy = record(None);
        assert_eq!(judge(Some(&busy), generation), Verdict::Waiting);
        busy.job = Some(Job {
            name: "build".into(),
            since: Time::EPOCH,
        });
        assert_eq!(judge(Some(&busy), generation), Verdict::Busy);
    }

    #[test]
    fn an_interruption_holds_in_every_generation() {
        let generation = record(None).generation;
        let going = record(Some((Signal::Interrupted, generation.saturating_sub(1))));
        assert_eq!(
            judge(Some(&going), generation),
            Verdict::Unfit(INTERRUPTED.into())
        );
    }
}
