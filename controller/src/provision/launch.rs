//! Creation: one fleet request for all that is missing, all or nothing.

use std::{sync::Arc, time::Duration};

use futures::future::try_join_all;
use proto::{
    instance::{InstanceRecord, UsageClass},
    table::Outcome,
    time::{Time, human},
};
use tokio::{task::JoinHandle, time::timeout};

use super::{Held, ProvisionError, Ready, Saga, advice};
use crate::{
    backoff::Backoff,
    output::{chain, count},
    ports::{Allocation, FleetAnswer, FleetRequest, Launched, PortError, Unknown},
    world::World,
};

/// What a fleet request came to that nobody waits for any more.
pub(super) enum Fate {
    /// There was none, or EC2 refused it.
    Nothing,
    /// It launched these.
    Launched(Vec<Launched>),
    /// Its answer never came: it may have launched machines, which bear its token in a tag.
    Unknown,
}

/// A fleet request that goes on when the step that waits for it is cancelled: what it launches
/// has to be known, to be terminated.
#[derive(Default)]
pub(super) struct InFlight {
    task: Option<JoinHandle<Result<FleetAnswer, PortError>>>,
    /// Whether a request failed without an answer of EC2's, and no repeat of it was answered.
    lost: bool,
}

impl InFlight {
    /// Whether a request may have launched machines that nobody knows of.
    pub(super) fn is_lost(&self) -> bool {
        self.lost
    }

    /// Takes note of a request's end.
    fn ended(&mut self, answer: &Result<FleetAnswer, PortError>) {
        self.task = None;
        match answer {
            Ok(_) => self.lost = false,
            // An error with a code is EC2's answer to this try, but says nothing of an earlier one.
            Err(error) => self.lost |= error.code.is_none(),
        }
    }

    /// Waits for the end of a request under way, for so long.
    pub(super) async fn finish(&mut self, grace: Duration) -> Fate {
        if let Some(task) = self.task.take() {
            match timeout(grace, task).await {
                Ok(Ok(answer)) => {
                    self.ended(&answer);
                    if let Ok(answer) = answer {
                        return Fate::Launched(answer.launched);
                    }
                }
                Ok(Err(_)) | Err(_) => self.lost = true,
            }
        }
        if self.lost {
            Fate::Unknown
        } else {
            Fate::Nothing
        }
    }
}

impl Saga<'_> {
    /// Launches `missing` machines and writes their records.
    pub(super) async fn launch(&mut self, missing: usize) -> Result<(), ProvisionError> {
        let answer = self.ask_patiently(missing).await?;
        let launched: Vec<_> = answer
            .launched
            .iter()
            .map(|launched| launched.id.clone())
            .collect();
        self.journal.note_launched(launched.clone());
        if launched.len() != missing {
            if !launched.is_empty() {
                let refused = self
                    .world
                    .fleet
                    .terminate(&launched, Unknown::NotYet)
                    .await?;
                let gone: Vec<_> = launched
                    .iter()
                    .filter(|id| !refused.iter().any(|(left, _)| left == *id))
                    .cloned()
                    .collect();
                self.journal.forget_launched(&gone);
            }
            return Err(ProvisionError::Short {
                launched: launched.len(),
                wanted: missing,
                errors: answer.errors,
            });
        }
        let now = self.world.now();
        let records: Vec<InstanceRecord> = answer
            .launched
            .iter()
            .map(|launched| self.record_of(launched, now))
            .collect();
        // Side by side: should the journal's write be lost, the tag with the request's token leads
        // from the journal to the machines.
        let world = self.world;
        let written = try_join_all(records.iter().map(|record| insert(world, record)));
        let (journal, written) = futures::join!(self.journal.write(|_| ()), written);
        journal?;
        written?;
        for launched in answer.launched {
            self.console.say(format!(
                "{} launched ({}, {}, {})",
                launched.id, launched.instance_type, launched.zone, self.usage
            ));
            self.held.push(Held {
                ready: Ready {
                    id: launched.id,
                    instance_type: launched.instance_type,
                    zone: launched.zone,
                    usage: self.usage,
                    reused: false,
                    after: None,
                },
                since: now,
                deadline: now + self.setup.parameters.fleet_timeout(),
                generation: 1,
                registered: false,
            });
        }
        Ok(())
    }

    /// Asks EC2, and asks again while it only throttles. A refusal for want of capacity is never
    /// repeated.
    async fn ask_patiently(&mut self, missing: usize) -> Result<FleetAnswer, ProvisionError> {
        let mut backoff = Backoff::default();
        loop {
            let request = self.fleet_request(missing);
            if self.journal.record().client_token != request.client_token {
                let token = request.client_token.clone();
                self.journal
                    .write(|record| record.client_token = token)
                    .await?;
            }
            let answer = self.ask(request).await?;
            let throttled = match &answer {
                // This token's answer stays what it is: another try needs another one.
                Ok(answer) => {
                    self.requests += 1;
                    advice::only_later(answer)
                }
                Err(error) => advice::is_for_later(error),
            };
            let pause = backoff
                .pause((self.world.chance)())
                .filter(|_| throttled && self.world.now() < self.deadline);
            match (pause, answer) {
                (Some(pause), answer) => {
                    let why = match &answer {
                        Ok(answer) => advice::causes(&answer.errors),
                        Err(error) => error.code.clone().unwrap_or_else(|| chain(error)),
                    };
                    self.console.say(format!(
                        "EC2 is not ready to launch ({why}); asking again in {}",
                        human(pause)
                    ));
                    self.journal.during(tokio::time::sleep(pause)).await?;
                }
                (None, Ok(answer)) => return Ok(answer),
                (None, Err(error)) => return Err(ProvisionError::Refused(error)),
            }
        }
    }

    fn fleet_request(&self, missing: usize) -> FleetRequest {
        let record = self.journal.record();
        let client_token = token(&record.client_token, self.requests);
        let asked_for = self.usage == self.settings.usage_class;
        FleetRequest {
            count: u32::try_from(missing).unwrap_or(u32::MAX),
            template_id: self.setup.template.id.clone(),
            template_version: self.setup.template.version,
            subnet_ids: self.setup.parameters.subnet_ids.clone(),
            cpu: self.setup.class.cpu,
            mmem: self.setup.class.mmem,
            allowed_instance_types: record.request.allowed_instance_types.clone(),
            usage_class: self.usage,
            allocation: self
                .settings
                .allocation
                .filter(|_| asked_for)
                .unwrap_or_else(|| Allocation::default_of(self.usage)),
            max_price: match self.usage {
                UsageClass::Spot => self.settings.max_price.clone(),
                UsageClass::OnDemand => None,
            },
            tags: vec![
                ("paddock:pool".to_owned(), self.world.pool_name.to_string()),
                ("paddock:label".to_owned(), self.settings.label.to_string()),
                ("paddock:fleet".to_owned(), client_token.clone()),
            ],
            client_token,
        }
    }

    async fn ask(
        &mut self,
        request: FleetRequest,
    ) -> Result<Result<FleetAnswer, PortError>, ProvisionError> {
        let fleet = Arc::clone(&self.world.fleet);
        let what = format!("EC2 to launch {}", count(request.count as usize));
        let task = self
            .launching
            .task
            .insert(tokio::spawn(async move { fleet.launch(&request).await }));
        let answer = self.console.while_waiting(&what, task);
        match self.journal.during(answer).await? {
            Ok(answer) => {
                self.launching.ended(&answer);
                Ok(answer)
            }
            Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
        }
    }

    fn record_of(&self, launched: &Launched, now: Time) -> InstanceRecord {
        let (class, template) = (&self.setup.class, &self.setup.template);
        let stay = self.setup.parameters.created_timeout();
        InstanceRecord {
            label: Some(self.settings.label.clone()),
            token: Some(self.setup.tokens.registration.clone()),
            ..launched.record(
                &self.world.home,
                class,
                self.usage,
                template.version,
                now,
                stay,
            )
        }
    }
}

/// The client token of a provision's nth fleet request, made from any other of its tokens.
pub(super) fn token(any: &str, request: u32) -> String {
    let base = any.split('.').next().unwrap_or_default();
    format!("{base}.{request}")
}

async fn insert(world: &World, record: &InstanceRecord) -> Result<(), ProvisionError> {
    match world.table.insert_instance(record).await? {
        Outcome::Applied(_) => Ok(()),
        // A repeat of a write that was applied, whose answer was lost.
        Outcome::Conflict(Some(current)) if current.label == record.label => Ok(()),
        Outcome::Conflict(_) => Err(ProvisionError::Machine {
            id: record.id().clone(),
            what: "has a record already, which is not ours".to_owned(),
        }),
    }
}
