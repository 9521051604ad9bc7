//! A yard without delays of its own, and the pool in it.

use std::time::Duration;

use super::Wrong;
use crate::{
    binaries::Binaries,
    story::refresh_inputs,
    workflow::{Step, Workflow},
    yard::{Settings, Yard, aws::Call},
};

/// Who signs the controller's calls.
const CONTROLLER: &str = "AKIAYARD";

/// Longer than any benchmark: no machine ends because it waited.
const IDLE_SECONDS: &str = "3600";

/// A pool that has been refreshed, in a yard whose machines boot, configure and deregister in no
/// time.
#[derive(Debug)]
pub struct Pool<'a> {
    /// The world.
    pub yard: Yard,
    binaries: &'a Binaries,
}

impl<'a> Pool<'a> {
    /// Sets a pool up; from then on each AWS call takes `latency` longer.
    ///
    /// # Errors
    ///
    /// When the yard does not start or refresh fails.
    pub async fn start(binaries: &'a Binaries, latency: Duration) -> Result<Self, Wrong> {
        let settings = Settings::new(&binaries.agent, &binaries.runner);
        let pool = Self::of(binaries, settings).await?;
        pool.yard.aws.set_latency(latency);
        Ok(pool)
    }

    /// A pool whose machines are seen at EC2 alone: nothing of them runs.
    ///
    /// # Errors
    ///
    /// When the yard does not start or refresh fails.
    pub async fn hollow(binaries: &'a Binaries) -> Result<Self, Wrong> {
        let mut settings = Settings::new(&binaries.agent, &binaries.runner);
        settings.hollow = true;
        settings.aws.quota = 100_000;
        Self::of(binaries, settings).await
    }

    async fn of(binaries: &'a Binaries, settings: Settings) -> Result<Self, Wrong> {
        let yard = Yard::start(settings).await?;
        let pool = Self { yard, binaries };
        let inputs = pool.refresh_inputs();
        let inputs: Vec<(&str, &str)> = inputs
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        succeed(pool.run(1).step("refresh", &inputs).await?)?;
        Ok(pool)
    }

    /// The inputs of its refreshes.
    pub fn refresh_inputs(&self) -> Vec<(&'static str, String)> {
        let mut inputs = refresh_inputs(&self.yard, "subnet-0a subnet-0b");
        // A script is boot time; and a later `idle-time-sec` must not meet the story's.
        inputs.retain(|(name, _)| !["pre-runner-script", "idle-time-sec"].contains(name));
        inputs.push(("idle-time-sec", IDLE_SECONDS.to_owned()));
        inputs
    }

    /// The steps of one run.
    pub fn run(&self, id: u64) -> Workflow<'_> {
        Workflow::new(&self.yard, self.binaries, id)
    }

    /// Makes this many idle machines, by way of a run that needs them.
    ///
    /// # Errors
    ///
    /// When provision or release fails.
    pub async fn warm_up(&self, run: u64, count: u32) -> Result<(), Wrong> {
        let count = count.to_string();
        let run = self.run(run);
        succeed(run.step("provision", &[("instance-count", &count)]).await?)?;
        let step = succeed(run.step("release", &[]).await?)?;
        if !step.log.contains(&format!("{count} back in the pool")) {
            return Err(format!("not all {count} are warm:\n{}", step.log).into());
        }
        Ok(())
    }

    /// The controllers' calls of AWS so far, by the time that they ended.
    pub fn controller_calls(&self) -> Vec<Call> {
        let mut calls = self.yard.aws.calls();
        calls.retain(|call| call.caller == CONTROLLER);
        calls
    }

    /// The agents' calls of AWS so far, by the time that they ended.
    pub fn agent_calls(&self) -> Vec<Call> {
        let mut calls = self.yard.aws.calls();
        calls.retain(|call| crate::yard::imds::instance_of(&call.caller).is_some());
        calls
    }
}

/// The step, when it ended well.
///
/// # Errors
///
/// Its exit code and its log.
pub fn succeed(step: Step) -> Result<Step, Wrong> {
    if step.code == 0 {
        Ok(step)
    } else {
        Err(format!("the step ended with {}:\n{}", step.code, step.log).into())
    }
}
