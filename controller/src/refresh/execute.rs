//! Does the steps. Each fails alone; those that end machines share one batch ([`super::ending`]).

mod single;

use futures::future::join_all;
use proto::{
    config::Config,
    ids::{ClassName, Home, InstanceId},
};
use tokio::sync::mpsc;

use self::single::Done;
use super::{
    Failed, RefreshPorts, RefreshSettings, StepError, ending, floor::Floor, over, step::Step,
};

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
}
