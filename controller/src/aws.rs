//! AWS: the ports' real forms, by the SDK.
//!
//! Each adapter turns one port into calls and the SDK's errors into [`PortError`]s; none decides
//! anything. [`Clients`] makes all of their clients from one configuration.

pub mod cloudwatch;
pub mod demolition;
pub mod fleet;
pub mod pool;
mod query;
pub mod remote;
pub mod schema;
pub mod secrets;
pub mod surroundings;
mod template;
mod terminate;

use std::sync::Arc;

use aws_config::SdkConfig;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use proto::{ids::PoolName, table::dynamo::DynamoTable, time::SystemClock};

use crate::{
    ports::{Forge, PortError},
    refresh::RefreshPorts,
};

/// One client for each service that the controller calls.
#[derive(Clone, Debug)]
pub struct Clients {
    /// The pool's table.
    pub dynamo: aws_sdk_dynamodb::Client,
    /// The pool's queues.
    pub sqs: aws_sdk_sqs::Client,
    /// The pool's machines.
    pub ec2: aws_sdk_ec2::Client,
}

impl Clients {
    /// The clients that this configuration describes.
    pub fn new(config: &SdkConfig) -> Self {
        Self {
            dynamo: aws_sdk_dynamodb::Client::new(config),
            sqs: aws_sdk_sqs::Client::new(config),
            ec2: aws_sdk_ec2::Client::new(config),
        }
    }
}

/// Gives an error of the SDK its operation and takes out the service's code.
fn failed<E>(operation: impl Into<String>) -> impl FnOnce(E) -> PortError
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    let operation = operation.into();
    move |error| PortError {
        operation,
        code: error.code().map(str::to_owned),
        source: proto::aws::cause(error),
    }
}

/// An answer that lacks what it must have, or says so in words alone.
fn odd(operation: impl Into<String>, code: Option<&str>, words: impl Into<String>) -> PortError {
    PortError {
        operation: operation.into(),
        code: code.map(str::to_owned),
        source: words.into().into(),
    }
}

impl RefreshPorts {
    /// A pool's ports at AWS, with GitHub as given and the machine's own clock.
    pub fn new(config: &SdkConfig, pool: &PoolName, forge: impl Forge + 'static) -> Self {
        let clients = Clients::new(config);
        let table = pool.resource_name();
        Self {
            admin: Arc::new(schema::DynamoAdmin::new(
                clients.dynamo.clone(),
                table.clone(),
            )),
            table: Arc::new(DynamoTable::new(clients.dynamo, table)),
            pool: Arc::new(pool::SqsPool::new(clients.sqs)),
            fleet: Arc::new(fleet::Ec2Fleet::new(clients.ec2)),
            forge: Arc::new(forge),
            clock: Arc::new(SystemClock),
            chance: Arc::new(rand::random),
        }
    }
}
