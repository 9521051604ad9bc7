//! What doctor looks at and no other command does.

use async_trait::async_trait;
use proto::{config::LaunchTemplate, time::Time};

use super::permissions::Grant;
use crate::ports::PortError;

/// Who calls AWS.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The caller's ARN.
    pub arn: String,
    /// What time it is at AWS, if it said so.
    pub time: Option<Time>,
}

/// What the machines of a launch template version have.
#[derive(Clone, Debug, Default)]
pub struct Parts {
    /// `sg-…`
    pub security_groups: Vec<String>,
    /// Name or ARN of the instance profile.
    pub instance_profile: Option<String>,
}

/// What no other command looks at.
#[async_trait]
pub trait Surroundings: Send + Sync {
    /// Whose the credentials are.
    async fn caller(&self) -> Result<Caller, PortError>;

    /// What a version of a launch template names.
    async fn parts(&self, template: &LaunchTemplate) -> Result<Parts, PortError>;

    /// Fails unless all of these subnets are there.
    async fn subnets(&self, ids: &[String]) -> Result<(), PortError>;

    /// Fails unless all of these security groups are there.
    async fn security_groups(&self, ids: &[String]) -> Result<(), PortError>;

    /// The ARN of an instance profile's role, if it has one.
    async fn role_of_profile(&self, profile: &str) -> Result<Option<String>, PortError>;

    /// The ARN of a role, which has its path.
    async fn role(&self, name: &str) -> Result<String, PortError>;

    /// Those of the actions that a role or user may not do.
    async fn denied(&self, principal: &str, grant: &Grant) -> Result<Vec<String>, PortError>;
}
