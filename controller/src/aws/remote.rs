//! Programs on machines, by Systems Manager.

use async_trait::async_trait;
use aws_sdk_ssm::{
    Client,
    types::{CommandInvocation, CommandInvocationStatus},
};
use proto::ids::InstanceId;

use super::{failed, odd};
use crate::ports::{Answer, PortError, Remote};

/// Systems Manager's commands.
#[derive(Clone, Debug)]
pub struct SsmRemote {
    client: Client,
}

impl SsmRemote {
    /// Commands in the client's account and region.
    pub fn new(client: Client) -> Self {
        Self { client }
    }
}

/// A machine's answer; none while it is still to come.
fn answer(invocation: &CommandInvocation) -> Option<Answer> {
    let status = invocation.status()?;
    if matches!(
        status,
        CommandInvocationStatus::Pending
            | CommandInvocationStatus::InProgress
            | CommandInvocationStatus::Delayed
            | CommandInvocationStatus::Cancelling
    ) {
        return None;
    }
    let plugin = invocation.command_plugins().first();
    Some(Answer {
        machine: invocation.instance_id()?.parse().ok()?,
        ending: plugin.map_or_else(
            || status.as_str().to_owned(),
            |plugin| format!("ended with {}", plugin.response_code()),
        ),
        output: plugin
            .and_then(|plugin| plugin.output())
            .unwrap_or_default()
            .to_owned(),
    })
}

#[async_trait]
impl Remote for SsmRemote {
    async fn send(&self, document: &str, machines: &[InstanceId]) -> Result<String, PortError> {
        let operation = format!("have machines run {document}");
        self.client
            .send_command()
            .document_name(document)
            .set_instance_ids(Some(machines.iter().map(ToString::to_string).collect()))
            .send()
            .await
            .map_err(failed(&operation))?
            .command
            .and_then(|command| command.command_id)
            .ok_or_else(|| odd(operation, None, "Systems Manager gave no command id"))
    }

    async fn answers(&self, command: &str) -> Result<Vec<Answer>, PortError> {
        let mut pages = self
            .client
            .list_command_invocations()
            .command_id(command)
            .details(true)
            .into_paginator()
            .send();
        let mut answers = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(failed("read what machines answered"))?;
            answers.extend(page.command_invocations().iter().filter_map(answer));
        }
        Ok(answers)
    }
}
