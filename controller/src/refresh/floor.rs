//! Launches machines of the floor and pools them.
//!
//! A refresh that launches waits for its machines as long as a provision would; those that are not
//! ready by then are terminated. A refresh that dies leaves machines in `created`: the next one
//! pools those that came up in time, the threshold ends the others, and one without even a record
//! ends as a stray and by its own agent.

mod launch;

use std::{collections::BTreeMap, time::Duration};

use proto::{
    config::{Config, KEPT},
    ids::{ClassName, Home, InstanceArn, InstanceId},
    instance::InstanceRecord,
    message::PoolMessage,
    signal::Signal,
    state::{State, Transition},
    table::{Outcome, TableError},
    time::Time,
};

use super::{
    Failed, RefreshPorts, RefreshSettings, StepError, ending, plan::floor::unready, step::Step,
};
use crate::{backoff::Looks, output::chain, world::patiently};

/// How long a machine that was pooled may take to say that it is clean. It notices within a
/// second; one that does not is listed by a later refresh.
const CLEAN_WITHIN: Duration = Duration::from_secs(15);

/// Why the floor could not be raised.
#[derive(Debug, thiserror::Error)]
enum FloorError {
    #[error("the launch template or class {0} is not set up: see their steps")]
    NotSetUp(ClassName),
    #[error("EC2 launched {launched} of {wanted} ({causes})")]
    Short {
        launched: usize,
        wanted: u32,
        causes: String,
    },
    #[error("{id} did not come up: {why}")]
    Lost { id: InstanceId, why: String },
}

/// Machines on their way into the pool.
struct Waiting<'s> {
    /// The step that each is for.
    machines: BTreeMap<InstanceId, &'s Step>,
    deadline: Time,
}

/// Does the steps of the floor.
pub(super) struct Floor<'a> {
    pub(super) settings: &'a RefreshSettings,
    pub(super) ports: &'a RefreshPorts,
    pub(super) home: &'a Home,
    pub(super) config: &'a Config,
    /// Tells this refresh's fleets from all others.
    pub(super) holder: &'a str,
}

impl Floor<'_> {
    /// Launches and pools; what failed, with its cause, goes to `failed`. Those that are idle now.
    pub(super) async fn raise(
        &self,
        steps: &[&Step],
        out: &mut (dyn FnMut(&str) + Send),
        failed: &mut Vec<(Failed, StepError)>,
    ) -> Vec<InstanceId> {
        let fail = |step: &Step, error: StepError| (Failed::Step(Box::new(step.clone())), error);
        let mut waiting = Waiting {
            machines: BTreeMap::new(),
            deadline: self.now() + self.settings.parameters.fleet_timeout(),
        };
        for (number, step) in steps.iter().copied().enumerate() {
            if let Step::Pool(record) = step {
                waiting.machines.insert(record.id().clone(), step);
            } else if let Step::Raise { kind, count, .. } = step {
                let (launched, error) = self.launch(number, kind, *count, out).await;
                let launched = launched.into_iter().map(|id| (id, step));
                waiting.machines.extend(launched);
                failed.extend(error.map(|error| fail(step, error)));
            }
        }
        let (pooled, lost) = match self.wait(waiting, out).await {
            Ok(ended) => ended,
            Err(error) => {
                let words = chain(&error);
                failed.extend(steps.iter().map(|step| fail(step, words.clone().into())));
                return Vec::new();
            }
        };
        let ends: Vec<Step> = lost.iter().map(|(record, _)| unready(record)).collect();
        for end in &ends {
            out(&end.to_string());
        }
        let ends: Vec<&Step> = ends.iter().collect();
        failed.extend(ending::end(self.ports, self.home, &ends, out).await);
        for (record, step) in lost {
            let report = record.fresh_report();
            let why = report.and_then(|report| report.detail.clone());
            let error = FloorError::Lost {
                id: record.id().clone(),
                why: why.unwrap_or_else(|| "its agent was not heard of in time".to_owned()),
            };
            failed.push(fail(step, error.into()));
        }
        if let Err(error) = self.list(&pooled).await {
            failed.extend(steps.first().map(|step| fail(step, error)));
        }
        pooled.iter().map(|record| record.id().clone()).collect()
    }

    fn now(&self) -> Time {
        self.ports.clock.now()
    }

    /// Waits until each machine is pooled and clean, or lost: those pooled, and those lost with the
    /// step that they were for.
    async fn wait<'s>(
        &self,
        mut waiting: Waiting<'s>,
        out: &mut (dyn FnMut(&str) + Send),
    ) -> Result<(Vec<InstanceRecord>, Vec<(InstanceRecord, &'s Step)>), TableError> {
        let (mut pooled, mut lost) = (Vec::new(), Vec::new());
        let mut clean_by: BTreeMap<InstanceId, Time> = BTreeMap::new();
        let mut looks = Looks::default();
        while !waiting.machines.is_empty() {
            let arns: Vec<InstanceArn> = waiting
                .machines
                .keys()
                .map(|id| InstanceArn::new(self.home, id))
                .collect();
            let now = self.now();
            let found = self.ports.table.instances(&arns).await;
            let found = patiently(found, now, waiting.deadline)?;
            for record in found.into_iter().flatten() {
                let id = record.id().clone();
                match judge(&record, now, waiting.deadline, clean_by.get(&id).copied()) {
                    Verdict::Waiting => {}
                    Verdict::Up => {
                        let pooled = self.pool(&record).await;
                        // One that was applied and not answered is seen at the next look.
                        if patiently(pooled, now, waiting.deadline)?.unwrap_or(true) {
                            clean_by.insert(id, now + CLEAN_WITHIN);
                        }
                    }
                    Verdict::Clean => {
                        out(&format!("  {id} is idle"));
                        waiting.machines.remove(&id);
                        pooled.push(record);
                    }
                    Verdict::Lost => {
                        lost.extend(waiting.machines.remove(&id).map(|step| (record, step)));
                    }
                    Verdict::Gone => {
                        out(&format!("  {id} is {} by now", record.state));
                        waiting.machines.remove(&id);
                    }
                }
            }
            if now > waiting.deadline + CLEAN_WITHIN {
                break;
            }
            if !waiting.machines.is_empty() {
                looks.progress(now, || {
                    let ids: Vec<&str> = waiting.machines.keys().map(InstanceId::as_str).collect();
                    out(&format!("  waiting for {} to be idle", ids.join(", ")));
                });
                looks.pause().await;
            }
        }
        Ok((pooled, lost))
    }

    /// Whether the machine is idle now.
    async fn pool(&self, record: &InstanceRecord) -> Result<bool, TableError> {
        let transition = Transition::Pool {
            generation: record.generation,
            healthy_within: self.settings.parameters.healthy_within(),
            idle_time: KEPT,
        };
        let change = transition.change(self.now());
        let outcome = self.ports.table.change_instance(&record.arn, &change);
        Ok(match outcome.await? {
            Outcome::Applied(_) => true,
            Outcome::Conflict(Some(current)) => transition.is_done(&current),
            Outcome::Conflict(None) => false,
        })
    }

    /// Lists machines in their queues.
    async fn list(&self, pooled: &[InstanceRecord]) -> Result<(), StepError> {
        let now = self.now();
        for class in &self.config.resource_classes {
            let messages: Vec<PoolMessage> = pooled
                .iter()
                .filter(|record| record.resource_class == class.name)
                .map(|record| PoolMessage::of(record, now))
                .collect();
            if !messages.is_empty() {
                self.ports.pool.send(&class.queue_url, &messages).await?;
            }
        }
        Ok(())
    }
}

/// What a look at a machine of the floor says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// Not yet.
    Waiting,
    /// Booted: it can be pooled.
    Up,
    /// Pooled, and its agent has noticed: it can be listed.
    Clean,
    /// It did not come up.
    Lost,
    /// There is nothing to be done here: it was ended or claimed, or a later refresh lists it.
    Gone,
}

fn judge(record: &InstanceRecord, now: Time, deadline: Time, clean_by: Option<Time>) -> Verdict {
    match record.state {
        State::Created if record.says(Signal::Failed) || now > deadline => Verdict::Lost,
        State::Created if record.says(Signal::Ok) => Verdict::Up,
        State::Idle if record.says(Signal::RemoveRegOk) => Verdict::Clean,
        State::Idle if clean_by.is_none_or(|by| now > by) => Verdict::Gone,
        State::Created | State::Idle => Verdict::Waiting,
        State::Claimed | State::Running | State::Terminated => Verdict::Gone,
    }
}
