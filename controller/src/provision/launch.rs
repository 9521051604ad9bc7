//! Creation: one fleet request for all that is missing, all or nothing.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use futures::future::try_join_all;
use proto::{instance::InstanceRecord, state::State, table::Outcome};
use tokio::{task::JoinHandle, time::timeout};

use super::{Held, ProvisionError, Ready, Saga};
use crate::ports::{FleetAnswer, FleetRequest, Launched, PortError};

/// A fleet request that goes on when the step that waits for it is cancelled: what it launches
/// has to be known, to be terminated.
#[derive(Default)]
pub(super) struct InFlight(Option<JoinHandle<Result<FleetAnswer, PortError>>>);

impl InFlight {
    /// Waits for the answer of a request that nobody waits for any more.
    pub(super) async fn finish(&mut self, grace: Duration) -> Option<FleetAnswer> {
        let task = self.0.take()?;
        timeout(grace, task).await.ok()?.ok()?.ok()
    }
}

impl Saga<'_> {
    /// Launches `missing` machines and writes their records.
    pub(super) async fn launch(&mut self, missing: usize) -> Result<(), ProvisionError> {
        let request = self.fleet_request(missing);
        let token = request.client_token.clone();
        self.journal
            .write(|record| record.client_token = token)
            .await?;
        let answer = self.ask(request).await?;
        let launched: Vec<_> = answer
            .launched
            .iter()
            .map(|launched| launched.id.clone())
            .collect();
        self.journal.note_launched(launched.clone());
        self.launching = InFlight::default();

        if launched.len() != missing {
            if !launched.is_empty() {
                self.world.fleet.terminate(&launched).await?;
            }
            return Err(ProvisionError::Short {
                launched: launched.len(),
                wanted: missing,
                causes: causes(&answer),
            });
        }
        self.journal.write(|_| ()).await?;
        try_join_all(
            answer
                .launched
                .iter()
                .map(|launched| self.write_record(launched)),
        )
        .await?;
        let now = self.world.now();
        for launched in answer.launched {
            self.console.say(format!(
                "{} launched ({})",
                launched.id, launched.instance_type
            ));
            self.held.push(Held {
                ready: Ready {
                    id: launched.id,
                    instance_type: launched.instance_type,
                    zone: launched.zone,
                    reused: false,
                    after: Duration::ZERO,
                },
                since: now,
                deadline: now + self.setup.parameters.fleet_timeout(),
                generation: None,
            });
        }
        Ok(())
    }

    fn fleet_request(&self, missing: usize) -> FleetRequest {
        let record = self.journal.record();
        // A second request of one provision (it replaces machines that were lost) needs a token of
        // its own: the journal's revision makes it so.
        let base = record.client_token.split('.').next().unwrap_or_default();
        let client_token = format!("{base}.{}", record.revision);
        FleetRequest {
            count: u32::try_from(missing).unwrap_or(u32::MAX),
            template_id: self.setup.template.id.clone(),
            template_version: self.setup.template.version,
            subnet_ids: self.setup.parameters.subnet_ids.clone(),
            cpu: self.setup.class.cpu,
            mmem: self.setup.class.mmem,
            allowed_instance_types: record.request.allowed_instance_types.clone(),
            usage_class: record.request.usage_class,
            tags: vec![
                ("paddock:pool".to_owned(), self.world.pool_name.to_string()),
                ("paddock:label".to_owned(), self.settings.label.to_string()),
                ("paddock:fleet".to_owned(), client_token.clone()),
            ],
            client_token,
        }
    }

    async fn ask(&mut self, request: FleetRequest) -> Result<FleetAnswer, ProvisionError> {
        let fleet = Arc::clone(&self.world.fleet);
        let task = self
            .launching
            .0
            .insert(tokio::spawn(async move { fleet.launch(&request).await }));
        match task.await {
            Ok(answer) => Ok(answer?),
            Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
        }
    }

    async fn write_record(&self, launched: &Launched) -> Result<(), ProvisionError> {
        let now = self.world.now();
        let record = InstanceRecord {
            arn: self.world.arn(&launched.id),
            state: State::Created,
            label: Some(self.settings.label.clone()),
            threshold: Some(now + self.setup.parameters.created_timeout()),
            generation: 1,
            since: now,
            created_at: now,
            resource_class: self.setup.class.name.clone(),
            instance_type: launched.instance_type.clone(),
            zone: launched.zone.clone(),
            usage_class: self.settings.usage_class,
            cpu: self.setup.class.cpu,
            mmem: self.setup.class.mmem,
            template_version: self.setup.template.version,
            token: Some(self.setup.tokens.registration.clone()),
            reason: None,
            expires_at: None,
            heartbeat: None,
            report: None,
            runner: None,
            job: None,
            health: None,
        };
        match self.world.table.insert_instance(&record).await? {
            Outcome::Applied(_) => Ok(()),
            // A repeat of a write that was applied, whose answer was lost.
            Outcome::Conflict(Some(current)) if current.label == record.label => Ok(()),
            Outcome::Conflict(_) => Err(ProvisionError::Machine {
                id: launched.id.clone(),
                what: "has a record already, which is not ours".to_owned(),
            }),
        }
    }
}

/// EC2's reasons, each once.
fn causes(answer: &FleetAnswer) -> String {
    let causes: BTreeSet<String> = answer
        .errors
        .iter()
        .map(|error| match &error.subnet_id {
            Some(subnet) => format!("{} in {subnet}: {}", error.code, error.message),
            None => format!("{}: {}", error.code, error.message),
        })
        .collect();
    if causes.is_empty() {
        return "it gave no reason; allow more instance types or subnets".to_owned();
    }
    causes.into_iter().collect::<Vec<_>>().join("; ")
}
