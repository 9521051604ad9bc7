//! Does the steps. Each fails alone; those that end machines share one batch ([`super::ending`]).

use futures::future::join_all;
use proto::{
    change::Change,
    config::{Config, ConfigItem, GithubTokens, LaunchTemplate, ResourceClass},
    ids::{ClassName, Home, InstanceArn, InstanceId, RunId},
    instance::InstanceRecord,
    message::PoolMessage,
    time::Time,
};
use tokio::sync::mpsc;

use super::{
    ClassSpec, Failed, RefreshPorts, RefreshSettings, StepError, content_hash, ending,
    floor::Floor, over, step::Step, sweep, table,
};
use crate::ports::{Deleted, TemplateContent};

/// What an execution came to.
pub(super) struct Executed {
    /// What failed, with its cause.
    pub(super) failed: Vec<(Failed, StepError)>,
    /// The machines of the floor that are idle now.
    pub(super) raised: Vec<InstanceId>,
}

/// One execution of a plan.
pub(super) struct Execution<'a> {
    settings: &'a RefreshSettings,
    ports: &'a RefreshPorts,
    home: Home,
    /// Tells this refresh from all others.
    holder: &'a str,
    /// The configuration as the steps so far have left it.
    config: Config,
}

/// A class has machines to list but no queue.
#[derive(Debug, thiserror::Error)]
#[error("class {0} has no queue: see why it could not be made, then run refresh again")]
struct NoQueue(ClassName);

/// Not all machines of a retired class could be ended.
#[derive(Debug, thiserror::Error)]
#[error("class {0} still has idle machines: see why they could not be ended")]
struct StillIdle(ClassName);

/// New machines would be made from what is not wanted any more.
#[derive(Debug, thiserror::Error)]
#[error("the launch template could not be brought up to date: see its step")]
struct OldTemplate;

impl<'a> Execution<'a> {
    pub(super) fn new(
        settings: &'a RefreshSettings,
        ports: &'a RefreshPorts,
        home: Home,
        config: Config,
        holder: &'a str,
    ) -> Self {
        Self {
            settings,
            ports,
            home,
            holder,
            config,
        }
    }

    /// Does every step.
    pub(super) async fn run(
        mut self,
        steps: &[Step],
        out: &mut (dyn FnMut(&str) + Send),
    ) -> Executed {
        let mut failed = Vec::new();
        let mut raised = Vec::new();
        let (mut endings, mut sweeps) = (Vec::new(), Vec::new());
        let mut retirements = Vec::new();
        let (mut releases, mut floor_steps) = (Vec::new(), Vec::new());
        let mut template_failed = false;
        for step in steps {
            match self.run_step(step).await {
                Ok(Done::Yes) => {}
                // Without a new version the old one is still the right one.
                Ok(Done::Ending) if template_failed && step.is_for_template() => {}
                Ok(Done::Ending) => endings.push(step),
                Ok(Done::Sweep) => sweeps.push(step),
                Ok(Done::Retirement(class)) => retirements.push((step, class)),
                Ok(Done::Release(run, machines)) => releases.push((step, run, machines)),
                Ok(Done::Floor) if template_failed && matches!(step, Step::Raise { .. }) => {
                    let failure = Failed::Step(Box::new(step.clone()));
                    failed.push((failure, OldTemplate.into()));
                }
                Ok(Done::Floor) => floor_steps.push(step),
                Err(error) => {
                    template_failed |= matches!(step, Step::PutTemplate { .. });
                    failed.push((Failed::Step(Box::new(step.clone())), error));
                }
            }
        }
        failed.extend(ending::end(self.ports, &self.home, &endings, out).await);
        // As long as an idle machine is left, its class and queue are how it is found.
        for (step, class) in retirements {
            let left = |(failed, _): &(Failed, _)| matches!(failed, Failed::Step(it) if it.retires(&class.name));
            let retired = if failed.iter().any(left) {
                Err(StillIdle(class.name.clone()).into())
            } else {
                self.retire(class).await
            };
            if let Err(error) = retired {
                failed.push((Failed::Step(Box::new(step.clone())), error));
            }
        }
        let (said, mut heard) = mpsc::unbounded_channel();
        let giving = releases.into_iter().map(async |(step, run, machines)| {
            let given = over::give_back(
                self.ports,
                &self.settings.pool,
                &self.home,
                &self.config,
                run,
                machines,
                &said,
            )
            .await;
            Some((Failed::Step(Box::new(step.clone())), given.err()?))
        });
        failed.extend(join_all(giving).await.into_iter().flatten());
        while let Ok(line) = heard.try_recv() {
            out(&line);
        }
        // After the endings: the messages of what has just ended are stale too.
        for step in sweeps {
            if let Err(error) = self.sweep(step).await {
                failed.push((Failed::Step(Box::new(step.clone())), error));
            }
        }
        let floor = Floor {
            settings: self.settings,
            ports: self.ports,
            home: &self.home,
            config: &self.config,
            holder: self.holder,
        };
        if !floor_steps.is_empty() {
            raised = floor.raise(&floor_steps, out, &mut failed).await;
        }
        Executed { failed, raised }
    }

    async fn run_step<'s>(&mut self, step: &'s Step) -> Result<Done<'s>, StepError> {
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
            Step::HandToken { machines } => self.hand_token(machines).await?,
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
    async fn retire(&mut self, class: &ResourceClass) -> Result<(), StepError> {
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

    /// A machine that is not running any more, or runs for another, needs none: a condition that
    /// does not hold is no failure.
    async fn hand_token(&self, machines: &[(InstanceArn, u64)]) -> Result<(), StepError> {
        let Some(tokens) = &self.config.github_tokens else {
            return Ok(());
        };
        let hand = |(arn, generation): &(InstanceArn, u64)| {
            let change = Change::renew_token(*generation, tokens.registration.clone());
            (arn.clone(), change)
        };
        let changes: Vec<_> = machines.iter().map(hand).collect();
        let outcomes = self.ports.table.change_instances(&changes).await;
        for outcome in outcomes {
            outcome?;
        }
        Ok(())
    }

    async fn sweep(&self, step: &Step) -> Result<(), StepError> {
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

/// How far a step came by itself.
enum Done<'s> {
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
