//! What provision needs of the pool's configuration.

use proto::{
    config::{Config, GithubTokens, LaunchTemplate, Parameters, ResourceClass},
    provision::Request,
    time::Time,
};

use super::{ProvisionError, select::Wish};
use crate::settings::{BadInput, run::ProvisionSettings};

/// What provision needs of the configuration, all there.
#[derive(Clone, Debug)]
pub(super) struct Setup {
    pub(super) class: ResourceClass,
    pub(super) template: LaunchTemplate,
    pub(super) parameters: Parameters,
    pub(super) tokens: GithubTokens,
    /// All classes: an earlier attempt's machines may be of another one.
    pub(super) classes: Vec<ResourceClass>,
}

impl Setup {
    pub(super) fn new(
        config: Config,
        settings: &ProvisionSettings,
        now: Time,
    ) -> Result<Self, ProvisionError> {
        if config.resource_classes.is_empty() {
            return Err(ProvisionError::NotSetUp("it has no resource classes"));
        }
        let class = config
            .class(&settings.resource_class)
            .cloned()
            .ok_or_else(|| BadInput {
                input: "resource-class",
                wrong: format!("`{}` is unknown to the pool", settings.resource_class),
                allowed: format!("allowed: {}", class_names(&config)),
            })?;
        let tokens = config
            .github_tokens
            .ok_or(ProvisionError::NotSetUp("it has no registration token"))?;
        let parameters = config
            .parameters
            .ok_or(ProvisionError::NotSetUp("it has no parameters"))?;
        // Machines that boot first register at the end of that time.
        if tokens.expires_at <= now + parameters.fleet_timeout() {
            return Err(ProvisionError::NotSetUp(
                "its registration token has expired or is about to (a refresh every ten minutes \
                 keeps it fresh)",
            ));
        }
        Ok(Self {
            class,
            template: config
                .launch_template
                .ok_or(ProvisionError::NotSetUp("it has no launch template"))?,
            parameters,
            tokens,
            classes: config.resource_classes,
        })
    }

    /// What idle machines have to be for this request.
    pub(super) fn wish<'a>(&'a self, request: &'a Request) -> Wish<'a> {
        Wish {
            request,
            class: &self.class,
            template_version: self.template.version,
            idle_time: (!self.parameters.keeps_idle).then(|| self.parameters.idle_time()),
        }
    }
}

fn class_names(config: &Config) -> String {
    let names: Vec<&str> = config
        .resource_classes
        .iter()
        .map(|class| class.name.as_str())
        .collect();
    names.join(", ")
}
