//! The pool's queues at SQS.

use std::{collections::HashMap, time::Duration};

use async_trait::async_trait;
use aws_sdk_sqs::{
    Client,
    operation::{
        create_queue::CreateQueueError, delete_queue::DeleteQueueError,
        get_queue_attributes::GetQueueAttributesError,
    },
    types::{
        BatchResultErrorEntry, ChangeMessageVisibilityBatchRequestEntry,
        DeleteMessageBatchRequestEntry, QueueAttributeName, SendMessageBatchRequestEntry,
    },
};
use proto::message::PoolMessage;

use super::{failed, odd};
use crate::ports::{Lease, MESSAGES_A_CALL, Pool, PortError, QueueState};

/// The codes of a lease that has ended: its message is gone, or somebody else's by now.
const LEASE_ENDED: [&str; 4] = [
    "ReceiptHandleIsInvalid",
    "InvalidParameterValue",
    "MessageNotInflight",
    "AWS.SimpleQueueService.MessageNotInflight",
];

/// What every queue is made with. A message that nobody leases is kept as long as SQS can.
const ATTRIBUTES: [(QueueAttributeName, &str); 3] = [
    (QueueAttributeName::VisibilityTimeout, "60"),
    (QueueAttributeName::MessageRetentionPeriod, "1209600"),
    (QueueAttributeName::SqsManagedSseEnabled, "true"),
];

/// The pool's queues.
#[derive(Clone, Debug)]
pub struct SqsPool {
    client: Client,
}

impl SqsPool {
    /// Queues of the client's account and region.
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    /// Gives a queue that was made with other attributes the present ones.
    async fn adopt(&self, name: &str) -> Result<String, PortError> {
        let answer = self
            .client
            .get_queue_url()
            .queue_name(name)
            .send()
            .await
            .map_err(failed(format!("find the queue {name}")))?;
        let url = url_of(name, answer.queue_url)?;
        self.client
            .set_queue_attributes()
            .queue_url(&url)
            .set_attributes(Some(attributes()))
            .send()
            .await
            .map_err(failed(format!("set the attributes of the queue {name}")))?;
        Ok(url)
    }
}

fn attributes() -> HashMap<QueueAttributeName, String> {
    ATTRIBUTES
        .into_iter()
        .map(|(name, value)| (name, value.to_owned()))
        .collect()
}

fn url_of(name: &str, url: Option<String>) -> Result<String, PortError> {
    url.ok_or_else(|| odd(format!("use the queue {name}"), None, "SQS gave no URL"))
}

/// The first refusal among a batch's entries that counts.
fn refused(
    operation: &'static str,
    entries: &[BatchResultErrorEntry],
    fine: &[&str],
) -> Result<(), PortError> {
    let mut refusals = entries.iter().filter(|entry| !fine.contains(&entry.code()));
    let Some(first) = refusals.next() else {
        return Ok(());
    };
    let words = format!(
        "{} ({}); {} of the batch refused in all",
        first.message().unwrap_or("no reason given"),
        first.code(),
        refusals.count() + 1
    );
    Err(odd(operation, Some(first.code()), words))
}

#[async_trait]
impl Pool for SqsPool {
    async fn receive(
        &self,
        queue_url: &str,
        most: usize,
        wait: Duration,
        lease: Duration,
    ) -> Result<Vec<Lease>, PortError> {
        let most = i32::try_from(most.clamp(1, MESSAGES_A_CALL)).unwrap_or(1);
        let seconds = |duration: Duration| i32::try_from(duration.as_secs()).unwrap_or(i32::MAX);
        let answer = self
            .client
            .receive_message()
            .queue_url(queue_url)
            .max_number_of_messages(most)
            .wait_time_seconds(seconds(wait))
            .visibility_timeout(seconds(lease))
            .send()
            .await
            .map_err(failed("receive messages from the queue"))?;
        let leases = answer.messages.unwrap_or_default().into_iter();
        Ok(leases
            .filter_map(|message| {
                Some(Lease {
                    id: message.message_id?,
                    body: message.body.unwrap_or_default(),
                    handle: message.receipt_handle?,
                })
            })
            .collect())
    }

    async fn delete(&self, queue_url: &str, handles: &[String]) -> Result<(), PortError> {
        let operation = "delete messages from the queue";
        for handles in handles.chunks(MESSAGES_A_CALL) {
            let entries = handles
                .iter()
                .enumerate()
                .map(|(i, handle)| {
                    DeleteMessageBatchRequestEntry::builder()
                        .id(i.to_string())
                        .receipt_handle(handle)
                        .build()
                })
                .collect::<Result<Vec<_>, _>>()
                .map_err(|error| odd(operation, None, error.to_string()))?;
            let answer = self
                .client
                .delete_message_batch()
                .queue_url(queue_url)
                .set_entries(Some(entries))
                .send()
                .await
                .map_err(failed(operation))?;
            refused(operation, answer.failed(), &LEASE_ENDED)?;
        }
        Ok(())
    }

    async fn give_back(&self, queue_url: &str, handles: &[String]) -> Result<(), PortError> {
        let operation = "give messages back to the queue";
        for handles in handles.chunks(MESSAGES_A_CALL) {
            let entries = handles
                .iter()
                .enumerate()
                .map(|(i, handle)| {
                    ChangeMessageVisibilityBatchRequestEntry::builder()
                        .id(i.to_string())
                        .receipt_handle(handle)
                        .visibility_timeout(0)
                        .build()
                })
                .collect::<Result<Vec<_>, _>>()
                .map_err(|error| odd(operation, None, error.to_string()))?;
            let answer = self
                .client
                .change_message_visibility_batch()
                .queue_url(queue_url)
                .set_entries(Some(entries))
                .send()
                .await
                .map_err(failed(operation))?;
            refused(operation, answer.failed(), &LEASE_ENDED)?;
        }
        Ok(())
    }

    async fn send(&self, queue_url: &str, messages: &[PoolMessage]) -> Result<(), PortError> {
        let operation = "send messages to the queue";
        for messages in messages.chunks(MESSAGES_A_CALL) {
            let entries = messages
                .iter()
                .enumerate()
                .map(|(i, message)| {
                    SendMessageBatchRequestEntry::builder()
                        .id(i.to_string())
                        .message_body(message.body())
                        .build()
                })
                .collect::<Result<Vec<_>, _>>()
                .map_err(|error| odd(operation, None, error.to_string()))?;
            let answer = self
                .client
                .send_message_batch()
                .queue_url(queue_url)
                .set_entries(Some(entries))
                .send()
                .await
                .map_err(failed(operation))?;
            refused(operation, answer.failed(), &[])?;
        }
        Ok(())
    }

    async fn ensure_queue(&self, name: &str) -> Result<String, PortError> {
        let operation = format!("create the queue {name}");
        let answer = self
            .client
            .create_queue()
            .queue_name(name)
            .set_attributes(Some(attributes()))
            .send()
            .await;
        match answer {
            Ok(created) => url_of(name, created.queue_url),
            Err(error) => match error.as_service_error() {
                Some(CreateQueueError::QueueNameExists(_)) => self.adopt(name).await,
                Some(CreateQueueError::QueueDeletedRecently(_)) => Err(odd(
                    operation,
                    Some("QueueDeletedRecently"),
                    "a queue of this name was deleted less than 60 s ago: wait 60 s, then run \
                     refresh again",
                )),
                Some(_) | None => Err(failed(operation)(error)),
            },
        }
    }

    async fn queue(&self, queue_url: &str) -> Result<Option<QueueState>, PortError> {
        let counts = [
            QueueAttributeName::ApproximateNumberOfMessages,
            QueueAttributeName::ApproximateNumberOfMessagesNotVisible,
        ];
        let fixed = ATTRIBUTES.map(|(name, _)| name);
        let answer = self
            .client
            .get_queue_attributes()
            .queue_url(queue_url)
            .set_attribute_names(Some([&counts[..], &fixed[..]].concat()))
            .send()
            .await;
        match answer {
            Ok(answer) => {
                let found = answer.attributes.unwrap_or_default();
                let count = |name| found.get(name).and_then(|n| n.parse::<u64>().ok());
                let odd = ATTRIBUTES.into_iter().filter_map(|(name, right)| {
                    let value = found.get(&name).map_or("", String::as_str);
                    let odd = (name.to_string(), value.to_owned(), right.to_owned());
                    (value != right).then_some(odd)
                });
                Ok(Some(QueueState {
                    messages: counts.iter().filter_map(count).sum(),
                    odd: odd.collect(),
                }))
            }
            Err(error) => match error.as_service_error() {
                Some(GetQueueAttributesError::QueueDoesNotExist(_)) => Ok(None),
                Some(_) | None => Err(failed("look at the queue")(error)),
            },
        }
    }

    async fn delete_queue(&self, queue_url: &str) -> Result<(), PortError> {
        let answer = self.client.delete_queue().queue_url(queue_url).send().await;
        match answer {
            Ok(_) => Ok(()),
            Err(error) => match error.as_service_error() {
                Some(DeleteQueueError::QueueDoesNotExist(_)) => Ok(()),
                Some(_) | None => Err(failed(format!("delete the queue {queue_url}"))(error)),
            },
        }
    }
}
