//! Launches machines of the floor and writes their records.

use proto::{ids::InstanceId, table::Outcome, time::human};

use super::{Floor, FloorError};
use crate::{
    backoff::Backoff,
    output::chain,
    ports::{Allocation, FleetAnswer, FleetError, FleetRequest, PortError, Unknown},
    provision::advice,
    refresh::{StepError, bounds::Kind},
};

/// What machines of the floor may be: what a provision takes by default.
const TYPES: [&str; 3] = ["c*", "m*", "r*"];

impl Floor<'_> {
    /// Launches machines and writes their records; those that have one, and what went wrong.
    pub(super) async fn launch(
        &self,
        number: usize,
        kind: &Kind,
        count: u32,
        out: &mut (dyn FnMut(&str) + Send),
    ) -> (Vec<InstanceId>, Option<StepError>) {
        let (class, usage) = kind;
        let template = self.config.launch_template.as_ref();
        let Some((class, template)) = self.config.class(class).zip(template) else {
            return (Vec::new(), Some(FloorError::NotSetUp(class.clone()).into()));
        };
        let client_token = format!("{}.{number}", self.holder);
        let request = FleetRequest {
            count,
            template_id: template.id.clone(),
            template_version: template.version,
            subnet_ids: self.settings.parameters.subnet_ids.clone(),
            cpu: class.cpu,
            mmem: class.mmem,
            allowed_instance_types: TYPES.map(str::to_owned).to_vec(),
            usage_class: *usage,
            allocation: Allocation::default_of(*usage),
            max_price: None,
            tags: vec![
                ("paddock:pool".to_owned(), self.settings.pool.to_string()),
                ("paddock:fleet".to_owned(), client_token.clone()),
            ],
            client_token,
        };
        let answer = match self.ask_patiently(&request, out).await {
            Ok(answer) => answer,
            Err(error) => return (Vec::new(), Some(chain(&error).into())),
        };
        let mut error: Option<StepError> = None;
        let mut written = Vec::new();
        let mut unwritten = Vec::new();
        for launched in &answer.launched {
            let stay = self.settings.parameters.created_timeout();
            let record =
                launched.record(self.home, class, *usage, template.version, self.now(), stay);
            out(&format!(
                "  {} launched ({}, {}, {usage})",
                launched.id, launched.instance_type, launched.zone
            ));
            match self.ports.table.insert_instance(&record).await {
                Ok(Outcome::Applied(_) | Outcome::Conflict(_)) => written.push(launched.id.clone()),
                Err(refused) => {
                    unwritten.push(launched.id.clone());
                    error = Some(refused.into());
                }
            }
        }
        if !unwritten.is_empty() {
            // What is left all the same ends as a stray.
            let _ = self
                .ports
                .fleet
                .terminate(&unwritten, Unknown::NotYet)
                .await;
        }
        if answer.launched.len() < count as usize {
            error = Some(
                FloorError::Short {
                    launched: answer.launched.len(),
                    wanted: count,
                    causes: causes(&answer.errors),
                }
                .into(),
            );
        }
        (written, error)
    }

    /// Asks EC2, and asks the same again while it only throttles or does not answer: a launch whose
    /// answer was lost is answered once more.
    async fn ask_patiently(
        &self,
        request: &FleetRequest,
        out: &mut (dyn FnMut(&str) + Send),
    ) -> Result<FleetAnswer, PortError> {
        let mut backoff = Backoff::default();
        loop {
            let error = match self.ports.fleet.launch(request).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let pause = backoff.pause((self.ports.chance)());
            match pause.filter(|_| advice::is_for_later(&error)) {
                Some(pause) => {
                    let (why, pause_told) = (chain(&error), human(pause));
                    out(&format!("  {why}; asking again in {pause_told}"));
                    tokio::time::sleep(pause).await;
                }
                None => return Err(error),
            }
        }
    }
}

/// Each of EC2's refusals once.
fn causes(errors: &[FleetError]) -> String {
    let mut causes: Vec<String> = errors
        .iter()
        .map(|error| format!("{}: {}", error.code, error.message))
        .collect();
    causes.sort();
    causes.dedup();
    if causes.is_empty() {
        return "it gave no reason".to_owned();
    }
    causes.join("; ")
}
