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
use aws_sdk_dynamodb::{
    config::http::HttpResponse,
    error::{ProvideErrorMetadata, SdkError},
};
use proto::{aws::AwsClock, ids::PoolName, table::dynamo::DynamoTable, time::SystemClock};
use tokio::time::Instant;

use crate::{
    output::Masks,
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
    /// AWS's time, as the table's answers tell it.
    pub clock: AwsClock,
}

impl Clients {
    /// The clients that this configuration describes.
    pub fn new(config: &SdkConfig) -> Self {
        let clock = AwsClock::new(Instant::now(), &SystemClock);
        let dynamo = aws_sdk_dynamodb::config::Builder::from(config)
            .time_source(clock.clone())
            .interceptor(clock.clone());
        Self {
            dynamo: aws_sdk_dynamodb::Client::from_conf(dynamo.build()),
            sqs: aws_sdk_sqs::Client::new(config),
            ec2: aws_sdk_ec2::Client::new(config),
            clock,
        }
    }
}

/// Gives an error of the SDK its operation and takes out the service's code.
fn failed<E>(operation: impl Into<String>) -> impl FnOnce(SdkError<E, HttpResponse>) -> PortError
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
    /// A pool's ports at AWS, with GitHub as given, by AWS's time.
    pub fn new(config: &SdkConfig, pool: &PoolName, forge: Arc<dyn Forge>, masks: Masks) -> Self {
        let clients = Clients::new(config);
        let table = pool.resource_name();
        Self {
            admin: Arc::new(schema::DynamoAdmin::new(
                clients.dynamo.clone(),
                table.clone(),
            )),
            table: Arc::new(DynamoTable::new(&clients.dynamo, table)),
            pool: Arc::new(pool::SqsPool::new(clients.sqs)),
            fleet: Arc::new(fleet::Ec2Fleet::new(clients.ec2)),
            forge,
            clock: Arc::new(clients.clock),
            chance: Arc::new(rand::random),
            masks,
        }
    }
}
