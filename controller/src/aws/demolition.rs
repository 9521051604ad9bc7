//! What destroy takes down and no other command does.

use async_trait::async_trait;
use proto::ids::{ClassName, PoolName};

use super::{Clients, failed};
use crate::{destroy::Demolition, ports::PortError};

/// A pool's queues, template and table at AWS.
#[derive(Clone, Debug)]
pub struct AwsDemolition {
    clients: Clients,
    table: String,
}

impl AwsDemolition {
    /// Those of the pool whose table has this name.
    pub fn new(clients: Clients, table: impl Into<String>) -> Self {
        Self {
            clients,
            table: table.into(),
        }
    }
}

/// One that is gone is no error.
fn or_gone(done: Result<(), PortError>, gone: &str) -> Result<(), PortError> {
    match done {
        Err(error) if error.code.as_deref() == Some(gone) => Ok(()),
        done => done,
    }
}

#[async_trait]
impl Demolition for AwsDemolition {
    async fn queues(&self, pool: &PoolName) -> Result<Vec<String>, PortError> {
        // No class has a hyphen in its name: what has one after the prefix is of another pool.
        let prefix = format!("paddock-{pool}-");
        let mut pages = self
            .clients
            .sqs
            .list_queues()
            .queue_name_prefix(&prefix)
            .max_results(1000)
            .into_paginator()
            .send();
        let mut queues = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(failed("list the pool's queues"))?;
            queues.extend(page.queue_urls.unwrap_or_default());
        }
        queues.retain(|url| {
            let name = url.rsplit('/').next().unwrap_or_default();
            let class = name.strip_prefix(&prefix);
            class.is_some_and(|class| class.parse::<ClassName>().is_ok())
        });
        Ok(queues)
    }

    async fn delete_template(&self, id: &str) -> Result<(), PortError> {
        let call = self.clients.ec2.delete_launch_template();
        let done = call.launch_template_id(id).send().await;
        let done = done.map_err(failed("delete the launch template"));
        or_gone(done.map(|_| ()), "InvalidLaunchTemplateId.NotFound")
    }

    async fn delete_table(&self) -> Result<(), PortError> {
        let call = self.clients.dynamo.delete_table();
        let done = call.table_name(&self.table).send().await;
        let done = done.map_err(failed(format!("delete the table {}", self.table)));
        or_gone(done.map(|_| ()), "ResourceNotFoundException")
    }
}
