//! Commit: the machines are the run's.

use std::time::Duration;

use futures::future::join_all;
use proto::{provision::Phase, state::Transition, table::Outcome};

use super::{ProvisionError, Saga};

impl Saga<'_> {
    /// Every record to `running`, then the journal closed.
    pub(super) async fn commit(&mut self) -> Result<(), ProvisionError> {
        let now = self.world.now();
        let max_runtime = Duration::from_secs(self.journal.record().request.max_runtime_sec);
        let (world, label) = (self.world, &self.settings.label);
        let healthy_within = self.setup.parameters.healthy_within();
        let commits = self.held.iter_mut().map(async |held| {
            let transition = Transition::Commit {
                label: label.clone(),
                generation: held.generation,
                healthy_within,
                max_runtime,
            };
            let (arn, change) = (world.arn(&held.ready.id), transition.change(now));
            match world.table.change_instance(&arn, &change).await? {
                Outcome::Applied(record) => held.generation = record.generation,
                Outcome::Conflict(Some(current)) if transition.is_done(&current) => {
                    held.generation = current.generation;
                }
                Outcome::Conflict(_) => {
                    return Err(ProvisionError::Machine {
                        id: held.ready.id.clone(),
                        what: "was taken away at the last moment".to_owned(),
                    });
                }
            }
            Ok(())
        });
        join_all(commits)
            .await
            .into_iter()
            .collect::<Result<(), _>>()?;
        let generations = self.held.iter();
        let generations = generations.map(|held| (held.ready.id.clone(), held.generation));
        let generations = generations.collect();
        self.journal
            .write(|record| {
                record.phase = Phase::Committed;
                record.generations = generations;
            })
            .await?;
        Ok(())
    }
}
