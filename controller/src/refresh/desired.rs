//! The desired state.

use proto::{
    agent_config::RunnerRelease,
    config::Parameters,
    ids::{ClassName, PoolName},
};

use super::bounds::IdleRules;
use crate::ports::TemplateContent;

/// The desired state.
#[derive(Clone, Debug)]
pub struct RefreshSettings {
    /// The pool.
    pub pool: PoolName,
    /// Where its runners register.
    pub github_url: String,
    /// What new machines are made from, with the id of their image.
    pub template: TemplateContent<String>,
    /// Whether an operator named that image: one that will not do is bad input then.
    pub image_is_input: bool,
    /// The runner program that its user data names.
    pub runner: Option<RunnerRelease>,
    /// Whether runners register anew after each job, and so need tokens while they are running.
    pub ephemeral: bool,
    /// The sizes that can be asked for.
    pub classes: Vec<ClassSpec>,
    /// Subnets and times.
    pub parameters: Parameters,
    /// How many idle machines there should be.
    pub idle: IdleRules,
    /// Print the plan and do nothing.
    pub dry_run: bool,
}

/// A named size of machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassSpec {
    /// Such as `large`.
    pub name: ClassName,
    /// vCPU, exactly.
    pub cpu: u32,
    /// MiB of memory, at least.
    pub mmem: u32,
}
