//! What an earlier provision of the same label means for this one: nothing, its machines, a refusal,
//! or work that has to be finished first.

use std::collections::BTreeSet;

use proto::{
    ids::InstanceId,
    instance::InstanceRecord,
    provision::{Phase, ProvisionRecord, Request},
    state::State,
    time::Time,
};

use super::{Failure, ProvisionError, Provisioned, Ready, Setup, undo};
use crate::{
    journal::Journal, output::Console, release, settings::run::ProvisionSettings, world::World,
};

/// What to do about the record that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Decision {
    /// Begin, in the place of nothing or of a closed record.
    Begin,
    /// The same step has run already: its machines are the answer.
    Adopt,
    /// An earlier attempt of the run left its machines: give them back, then begin. They come from
    /// the pool again, clean and with their whole time before them.
    GiveBack,
    /// Its controller is dead: undo what it did, then begin.
    TakeOver,
    /// It belongs to another step, which is at work or has its machines.
    Refuse(&'static str),
}

fn decide(
    earlier: Option<&ProvisionRecord>,
    request: &Request,
    attempt: u32,
    now: Time,
) -> Decision {
    let Some(earlier) = earlier else {
        return Decision::Begin;
    };
    // GitHub begins an attempt only when the one before is over.
    let is_over = earlier.attempt < attempt;
    match earlier.phase {
        Phase::Released | Phase::RolledBack => Decision::Begin,
        Phase::Committed if is_over => Decision::GiveBack,
        Phase::Committed if earlier.request == *request => Decision::Adopt,
        Phase::Committed => Decision::Refuse(" for another request"),
        Phase::Open | Phase::RollingBack if is_over || earlier.is_orphaned(now) => {
            Decision::TakeOver
        }
        Phase::Open | Phase::RollingBack => Decision::Refuse(" by a step that is at work"),
    }
}

/// Where this provision begins.
pub(super) enum Start {
    /// With this revision of the journal; these machines were just given back to the pool, which
    /// its index may not know yet.
    Begin {
        revision: u64,
        pooled: BTreeSet<InstanceId>,
    },
    /// It has happened already.
    Done(Provisioned),
}

/// Deals with the earlier provision of the label, if there is one.
pub(super) async fn settle(
    world: &World,
    settings: &ProvisionSettings,
    setup: &Setup,
    earlier: Option<ProvisionRecord>,
    console: &Console,
) -> Result<Start, Failure> {
    let started = world.now();
    let request = settings.request(&setup.parameters);
    let decision = decide(earlier.as_ref(), &request, settings.attempt, started);
    let begin = |revision: u64, pooled: BTreeSet<InstanceId>| {
        Ok(Start::Begin {
            revision: revision + 1,
            pooled,
        })
    };
    let Some(earlier) = earlier else {
        return begin(0, BTreeSet::new());
    };
    let taken = |why| ProvisionError::Taken {
        label: earlier.label.clone(),
        phase: earlier.phase,
        why,
    };
    match decision {
        Decision::Begin => {
            let left = undo::late_claims(world, &earlier).await;
            if !left.is_empty() {
                return Err(Failure {
                    error: taken(", and what it claimed late cannot be ended now"),
                    left,
                });
            }
            begin(earlier.revision, BTreeSet::new())
        }
        Decision::Refuse(why) => Err(taken(why).into()),
        Decision::Adopt => {
            let ids: Vec<_> = earlier.machines().map(|id| world.arn(id)).collect();
            let records = world
                .table
                .instances(&ids)
                .await
                .map_err(ProvisionError::from)?;
            let Some(machines) = adopted(&earlier, &records, started) else {
                return Err(taken(", and some of its machines are gone").into());
            };
            console.say("this step has run before: its machines are adopted");
            Ok(Start::Done(Provisioned {
                label: earlier.label,
                machines,
                took: world.now().since(started),
                phases: Vec::new(),
            }))
        }
        Decision::GiveBack => {
            console.say(format!(
                "attempt {} of this run still has its machines: giving them back first",
                earlier.attempt
            ));
            let terms = release::Terms {
                label: &earlier.label,
                parameters: &setup.parameters,
                tokens: Some(&setup.tokens),
                template_version: Some(setup.template.version),
                timeout: setup.parameters.release_timeout(),
                classes: &setup.classes,
            };
            let given = release::give_back(world, &terms, &earlier.lent(), console)
                .await
                .map_err(ProvisionError::from)?;
            let mut journal = Journal::resume(world, earlier);
            journal
                .write(|record| record.phase = Phase::Released)
                .await
                .map_err(ProvisionError::from)?;
            begin(
                journal.record().revision,
                given.pooled.into_iter().collect(),
            )
        }
        Decision::TakeOver => {
            console.say(format!(
                "attempt {} of this run died while it provisioned: undoing that first",
                earlier.attempt
            ));
            let failed = taken(", its controller died, and it cannot be undone now");
            match undo::take_over(world, earlier, "its controller died").await {
                Ok(closed) => begin(closed.revision, BTreeSet::new()),
                Err(left) => Err(Failure {
                    error: failed,
                    left: left.0,
                }),
            }
        }
    }
}

/// The machines of a committed provision, if all of them still serve it.
fn adopted(journal: &ProvisionRecord, records: &[InstanceRecord], now: Time) -> Option<Vec<Ready>> {
    let machine = |id: &InstanceId| {
        records.iter().find(|record| {
            record.id() == id
                && record.state == State::Running
                && record.label.as_ref() == Some(&journal.label)
                && record.threshold > Some(now)
                && !record.is_interrupted()
        })
    };
    // Candidates that were lost on the way stand in the journal too: those that serve must be as
    // many as were asked for.
    let machines: Vec<Ready> = journal
        .machines()
        .filter_map(machine)
        .map(|record| Ready {
            id: record.id().clone(),
            instance_type: record.instance_type.clone(),
            zone: record.zone.clone(),
            usage: record.usage_class,
            reused: journal.claimed.contains(record.id()),
            after: None,
        })
        .collect();
    (machines.len() == journal.request.count as usize).then_some(machines)
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, time::Duration};

    use proto::instance::UsageClass;

    use super::*;

    fn request(count: u32) -> Request {
        Request {
            count,
            resource_class: "large".parse().unwrap(),
            usage_class: UsageClass::OnDemand,
            allowed_instance_types: vec!["c*".into()],
            max_runtime_sec: 1800,
        }
    }

    fn verdict(phase: Phase, count: u32, attempt: u32, age: u64) -> Decision {
        let earlier = ProvisionRecord {
            run: "7".parse().unwrap(),
            label: "7".parse().unwrap(),
            revision: 4,
            attempt: 1,
            repository: None,
            request: request(2),
            phase,
            client_token: "t.1".into(),
            claimed: Vec::new(),
            launched: Vec::new(),
            generations: BTreeMap::new(),
            started_at: Time::EPOCH,
            beat: Time::EPOCH,
            error: None,
            expires_at: None,
        };
        let now = Time::EPOCH + Duration::from_secs(age);
        decide(Some(&earlier), &request(count), attempt, now)
    }

    #[test]
    fn what_is_closed_is_no_obstacle() {
        for phase in [Phase::Released, Phase::RolledBack] {
            assert_eq!(verdict(phase, 3, 1, 0), Decision::Begin);
        }
        assert_eq!(decide(None, &request(1), 1, Time::EPOCH), Decision::Begin);
    }

    #[test]
    fn the_same_step_again_adopts_and_another_is_refused() {
        assert_eq!(verdict(Phase::Committed, 2, 1, 0), Decision::Adopt);
        assert!(matches!(
            verdict(Phase::Committed, 3, 1, 0),
            Decision::Refuse(_)
        ));
        assert!(matches!(verdict(Phase::Open, 2, 1, 5), Decision::Refuse(_)));
    }

    #[test]
    fn the_dead_are_taken_over() {
        assert_eq!(verdict(Phase::Open, 2, 1, 61), Decision::TakeOver);
        assert_eq!(verdict(Phase::RollingBack, 2, 2, 5), Decision::TakeOver);
        assert_eq!(verdict(Phase::Committed, 2, 2, 5), Decision::GiveBack);
    }
}
