//! SQS with standard queues, in the JSON protocol.
//!
//! [`queue`] holds the rules of one queue and gets the time handed in;
//! [`registry`] holds all queues; [`queues`] and [`messages`] are the actions.

mod attributes;
mod digest;
mod error;
mod messages;
mod queue;
mod queues;
mod registry;
mod show;

use std::sync::{Mutex, MutexGuard, PoisonError};

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::time::Instant;

use super::super::clock;
use super::service::{Request, request_id};
use super::settings::Settings;
use error::SqsError;
use registry::Registry;

/// The service.
pub(super) struct Sqs {
    registry: Mutex<Registry>,
    /// A queue's URL is this and its name.
    url_prefix: String,
}

/// Both clocks, read once for each action.
#[derive(Clone, Copy, Debug)]
struct Now {
    instant: Instant,
    wall: Timestamp,
}

impl Now {
    fn read() -> Self {
        Self {
            instant: Instant::now(),
            wall: clock::now(),
        }
    }
}

impl Sqs {
    pub(super) fn new(settings: &Settings, url: &str) -> Self {
        let arn_prefix = format!("arn:aws:sqs:{}:{}:", settings.region, settings.account);
        Self {
            registry: Mutex::new(Registry::new(
                arn_prefix,
                settings.queue_name_blocked,
                settings.queue_disorder,
            )),
            url_prefix: format!("{url}/{}/", settings.account),
        }
    }

    pub(super) async fn answer(&self, request: &Request) -> Response {
        match self.act(request).await {
            Ok(answer) => (
                StatusCode::OK,
                [
                    (
                        header::CONTENT_TYPE.as_str(),
                        "application/x-amz-json-1.0".to_owned(),
                    ),
                    ("x-amzn-requestid", request_id()),
                ],
                answer.to_string(),
            )
                .into_response(),
            Err(error) => error.into_response(),
        }
    }

    async fn act(&self, request: &Request) -> Result<Value, SqsError> {
        match request.action.as_str() {
            "CreateQueue" => self.create_queue(parse(request)?),
            "GetQueueUrl" => self.get_queue_url(&parse(request)?),
            "ListQueues" => self.list_queues(&parse(request)?),
            "DeleteQueue" => self.delete_queue(&parse(request)?),
            "PurgeQueue" => self.purge_queue(&parse(request)?),
            "GetQueueAttributes" => self.get_queue_attributes(&parse(request)?),
            "SetQueueAttributes" => self.set_queue_attributes(&parse(request)?),
            "TagQueue" => self.tag_queue(parse(request)?),
            "UntagQueue" => self.untag_queue(&parse(request)?),
            "ListQueueTags" => self.list_queue_tags(&parse(request)?),
            "SendMessage" => self.send_message(parse(request)?, &request.caller),
            "SendMessageBatch" => self.send_message_batch(parse(request)?, &request.caller),
            "ReceiveMessage" => self.receive_message(parse(request)?).await,
            "DeleteMessage" => self.delete_message(&parse(request)?),
            "DeleteMessageBatch" => self.delete_message_batch(parse(request)?),
            "ChangeMessageVisibility" => self.change_visibility(&parse(request)?),
            "ChangeMessageVisibilityBatch" => self.change_visibility_batch(parse(request)?),
            other => Err(SqsError::UnknownOperation(other.to_owned())),
        }
    }

    fn registry(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn url(&self, name: &str) -> String {
        format!("{}{name}", self.url_prefix)
    }
}

/// The queue's name in its URL.
fn name_of(url: &str) -> &str {
    url.rsplit('/').next().unwrap_or(url)
}

fn parse<T: DeserializeOwned>(request: &Request) -> Result<T, SqsError> {
    serde_json::from_slice(&request.body).map_err(|error| {
        let text = error.to_string();
        match text
            .strip_prefix("missing field `")
            .and_then(|rest| rest.split('`').next())
        {
            Some(name) => SqsError::MissingParameter(name.to_owned()),
            None => SqsError::Serialization(text),
        }
    })
}
