//! The single steps. Those that are done together with others are only told apart here.

use proto::{
    change::Change,
    config::{ConfigItem, GithubTokens, LaunchTemplate, ResourceClass},
    ids::{ClassName, InstanceArn, InstanceId, RunId},
    instance::InstanceRecord,
    message::PoolMessage,
    time::Time,
};

use super::Execution;
use crate::{
    ports::{Deleted, TemplateContent},
    refresh::{
        ClassSpec, StepError, content_hash,
        step::{Step, TokenTo},
        sweep, table,
    },
};

/// A class has machines to list but no queue.
#[derive(Debug, thiserror::Error)]
#[error("class {0} has no queue: see why it could not be made, then run refresh again")]
struct NoQueue(ClassName);

/// Machines wait for a token of GitHub's that there is not.
#[derive(Debug, thiserror::Error)]
#[error("there are no tokens that are still good: see why they could not be renewed")]
struct NoTokens;

/// How far a step came by itself.
pub(super) enum Done<'s> {
    Yes,
    /// It takes a class away: that is done once its idle machines have ended.
    Retirement(&'s ResourceClass),
    /// It ends machines: that is done for all such steps at once.
    Ending,
    /// It sweeps a queue: that is done after the endings.
    Sweep,
    /// It waits for the machines of a run: all runs do so together.
    Release(&'s RunId, &'s [(InstanceId, u64)]),
    /// It brings machines into the pool: that is done last, since it takes its time.
    Floor,
}

impl Execution<'_> {
    /// Does one step, or says that it is done together with others.
    pub(super) async fn run_step<'s>(&mut self, step: &'s Step) -> Result<Done<'s>, StepError> {
        match step {
            Step::Table(step) => {
                table::apply(self.ports.admin.as_ref(), &self.settings.pool, step).await?;
            }
            Step::PutSchema { new, .. } => self.record(ConfigItem::Schema(new.clone())).await?,
            Step::PutTemplate { name, content, .. } => self.put_template(name, content).await?,
            Step::RecordTemplate { new, .. } => {
                let new = LaunchTemplate::clone(new);
                self.record(ConfigItem::LaunchTemplate(new)).await?;
            }
            Step::PruneTemplate { id, versions } => {
                self.ports.fleet.delete_versions(id, versions).await?;
            }
            Step::PutClass { new, .. } => self.put_class(new).await?,
            Step::PutParameters { new, .. } => {
                self.record(ConfigItem::Parameters(new.clone())).await?;
            }
            Step::RenewTokens { .. } => self.renew_tokens().await?,
            Step::HandToken { to, machines } => self.hand_token(*to, machines).await?,
            Step::Resend { class, records } => self.resend(class, records).await?,
            Step::Keep { records, until, .. } => self.keep(records, *until).await?,
            Step::RetireClass(class) => return Ok(Done::Retirement(class)),
            Step::Sweep { .. } => return Ok(Done::Sweep),
            Step::Release { run, machines } => return Ok(Done::Release(run, machines)),
            // One that has a job after all stays.
            Step::DeleteRunner(runner) => match self.ports.forge.delete_runner(runner.id).await? {
                Deleted::Yes | Deleted::Busy => {}
            },
            Step::Pool(_) | Step::Raise { .. } => return Ok(Done::Floor),
            Step::Undo { .. }
            | Step::Terminate { .. }
            | Step::TerminateStray { .. }
            | Step::Close { .. } => return Ok(Done::Ending),
        }
        Ok(Done::Yes)
    }

    async fn record(&mut self, item: ConfigItem) -> Result<(), StepError> {
        self.ports.table.put_config(&item).await?;
        self.config.put(item);
        Ok(())
    }

    async fn put_template(
        &mut self,
        name: &str,
        content: &TemplateContent,
    ) -> Result<(), StepError> {
        let hash = content_hash(content);
        let state = self.ports.fleet.put_template(name, content, &hash).await?;
        let template = LaunchTemplate {
            id: state.id,
            version: state.version,
            content_hash: hash,
            image: Some(content.image.clone()),
            runner: self.settings.runner.clone(),
        };
        self.record(ConfigItem::LaunchTemplate(template)).await
    }

    async fn put_class(&mut self, spec: &ClassSpec) -> Result<(), StepError> {
        let name = self.settings.pool.queue_name(&spec.name);
        let class = ResourceClass {
            name: spec.name.clone(),
            cpu: spec.cpu,
            mmem: spec.mmem,
            queue_url: self.ports.pool.ensure_queue(&name).await?,
        };
        self.record(ConfigItem::ResourceClass(class)).await
    }

    /// The queue goes first: once the item is gone, nobody knows of the queue any more.
    pub(super) async fn retire(&mut self, class: &ResourceClass) -> Result<(), StepError> {
        self.ports.pool.delete_queue(&class.queue_url).await?;
        self.ports.table.delete_class(&class.name).await?;
        self.config
            .resource_classes
            .retain(|known| known.name != class.name);
        Ok(())
    }

    async fn renew_tokens(&mut self) -> Result<(), StepError> {
        let obtained_at = self.ports.clock.now();
        let forge = &self.ports.forge;
        let (registration, removal) =
            tokio::try_join!(forge.registration_token(), forge.removal_token())?;
        let tokens = GithubTokens {
            expires_at: registration.expires_at.min(removal.expires_at),
            registration: registration.token,
            removal: removal.token,
            obtained_at,
        };
        self.record(ConfigItem::GithubTokens(tokens)).await
    }

    /// A machine that has moved on, or has a job by now, gets none: a condition that does not hold
    /// is no failure.
    async fn hand_token(
        &self,
        to: TokenTo,
        machines: &[(InstanceArn, u64)],
    ) -> Result<(), StepError> {
        let tokens = self.config.github_tokens.as_ref();
        let good = |tokens: &&GithubTokens| tokens.expires_at > self.ports.clock.now();
        let tokens = tokens.filter(good).ok_or(NoTokens)?;
        let hand = |(arn, generation): &(InstanceArn, u64)| {
            let change = match to {
                TokenTo::Register => Change::renew_token(*generation, tokens.registration.clone()),
                TokenTo::Deregister => Change::hand_token(*generation, tokens.removal.clone()),
            };
            (arn.clone(), change)
        };
        let changes: Vec<_> = machines.iter().map(hand).collect();
        let outcomes = self.ports.table.change_instances(&changes).await;
        for outcome in outcomes {
            outcome?;
        }
        Ok(())
    }

    pub(super) async fn sweep(&self, step: &Step) -> Result<(), StepError> {
        if let Step::Sweep { class, .. } = step
            && let Some(class) = self.config.class(class)
        {
            sweep::sweep(self.ports, &self.home, &class.queue_url).await?;
        }
        Ok(())
    }

    /// One that was claimed meanwhile is left alone.
    async fn keep(&self, records: &[InstanceRecord], until: Time) -> Result<(), StepError> {
        let now = self.ports.clock.now();
        let stay = |record: &InstanceRecord| {
            let change = Change::stay_idle(record.generation, now, until);
            (record.arn.clone(), change)
        };
        let changes: Vec<_> = records.iter().map(stay).collect();
        for outcome in self.ports.table.change_instances(&changes).await {
            outcome?;
        }
        Ok(())
    }

    async fn resend(&self, class: &ClassName, records: &[InstanceRecord]) -> Result<(), StepError> {
        let class = self
            .config
            .class(class)
            .ok_or_else(|| NoQueue(class.clone()))?;
        let now = self.ports.clock.now();
        let messages: Vec<PoolMessage> = records
            .iter()
            .map(|record| PoolMessage::of(record, now))
            .collect();
        self.ports.pool.send(&class.queue_url, &messages).await?;
        Ok(())
    }
}
