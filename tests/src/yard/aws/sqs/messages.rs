//! The actions on messages.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::digest::{self, MessageAttribute};
use super::error::SqsError;
use super::queue::{Ask, Sent};
use super::show::{Wanted, receipt, show};
use super::{Now, Sqs, name_of};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Send {
    queue_url: String,
    #[serde(flatten)]
    content: Content,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Content {
    message_body: String,
    #[serde(default)]
    message_attributes: BTreeMap<String, MessageAttribute>,
    delay_seconds: Option<u64>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Batch<T> {
    queue_url: String,
    entries: Vec<Entry<T>>,
}

#[derive(Debug, Deserialize)]
struct Entry<T> {
    #[serde(rename = "Id")]
    id: String,
    #[serde(flatten)]
    content: T,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Receive {
    queue_url: String,
    max_number_of_messages: Option<usize>,
    visibility_timeout: Option<u64>,
    wait_time_seconds: Option<u64>,
    #[serde(flatten)]
    wanted: Wanted,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct One<T> {
    queue_url: String,
    #[serde(flatten)]
    content: T,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Handle {
    receipt_handle: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Visibility {
    receipt_handle: String,
    visibility_timeout: u64,
}

impl Sqs {
    pub(super) fn send_message(&self, request: Send, caller: &str) -> Result<Value, SqsError> {
        self.send(name_of(&request.queue_url), request.content, caller)
    }

    pub(super) fn send_message_batch(
        &self,
        request: Batch<Content>,
        caller: &str,
    ) -> Result<Value, SqsError> {
        self.each(request, |name, content| self.send(name, content, caller))
    }

    fn send(&self, name: &str, content: Content, caller: &str) -> Result<Value, SqsError> {
        let now = Now::read();
        let mut registry = self.registry();
        let queue = registry.get(name)?;
        let limit = queue.attributes.number("MaximumMessageSize");
        let size = u64::try_from(content.message_body.len()).unwrap_or(u64::MAX);
        if size == 0 || size > limit {
            return Err(SqsError::InvalidParameterValue(format!(
                "One or more parameters are invalid. Reason: Message must be between 1 and {limit} bytes."
            )));
        }
        let md5_of_body = digest::of_body(&content.message_body);
        let md5_of_attributes = digest::of_attributes(&content.message_attributes)?;
        let id = queue.send(
            Sent {
                md5_of_body: md5_of_body.clone(),
                md5_of_attributes: md5_of_attributes.clone(),
                delay: within(content.delay_seconds, 900, "DelaySeconds")?,
                body: content.message_body,
                attributes: content.message_attributes,
                sender: caller.to_owned(),
                at: now.wall.as_millisecond(),
            },
            now.instant,
        );
        let mut answer = json!({ "MessageId": id, "MD5OfMessageBody": md5_of_body });
        if let Some(sum) = md5_of_attributes {
            answer["MD5OfMessageAttributes"] = json!(sum);
        }
        Ok(answer)
    }

    /// Waits for messages, as long as the caller or the queue says.
    pub(super) async fn receive_message(&self, request: Receive) -> Result<Value, SqsError> {
        let limit = request.max_number_of_messages.unwrap_or(1);
        if !(1..=10).contains(&limit) {
            return Err(SqsError::InvalidParameterValue(format!(
                "Value {limit} for parameter MaxNumberOfMessages is invalid. \
                 Reason: Must be between 1 and 10, if provided."
            )));
        }
        let lease = within(request.visibility_timeout, 43_200, "VisibilityTimeout")?;
        let wait = within(request.wait_time_seconds, 20, "WaitTimeSeconds")?;
        let name = name_of(&request.queue_url);
        let (bell, wait) = {
            let mut registry = self.registry();
            let queue = registry.get(name)?;
            let wait =
                wait.unwrap_or_else(|| queue.attributes.seconds("ReceiveMessageWaitTimeSeconds"));
            (queue.bell.clone(), wait)
        };
        let ask = Ask {
            limit,
            lease,
            short_poll: wait.is_zero(),
        };
        let deadline = Instant::now() + wait;
        loop {
            // Listen before looking, so that no send falls between the two.
            let mut rung = std::pin::pin!(bell.notified());
            rung.as_mut().enable();
            let now = Now::read();
            let next = {
                let mut registry = self.registry();
                let wall = now.wall.as_millisecond();
                let received = registry.receive(name, &ask, now.instant, wall)?;
                if !received.is_empty() {
                    let shown: Vec<_> = received.iter().map(|m| show(m, &request.wanted)).collect();
                    return Ok(json!({ "Messages": shown }));
                }
                registry.get(name)?.next_visible(now.instant)
            };
            if now.instant >= deadline {
                return Ok(json!({}));
            }
            let until = next.map_or(deadline, |next| next.min(deadline));
            tokio::select! {
                () = rung => {}
                () = tokio::time::sleep_until(until) => {}
            }
        }
    }

    pub(super) fn delete_message(&self, request: &One<Handle>) -> Result<Value, SqsError> {
        self.delete(name_of(&request.queue_url), &request.content)
    }

    pub(super) fn delete_message_batch(&self, request: Batch<Handle>) -> Result<Value, SqsError> {
        self.each(request, |name, handle| self.delete(name, &handle))
    }

    fn delete(&self, name: &str, handle: &Handle) -> Result<Value, SqsError> {
        let mut registry = self.registry();
        let queue = registry.get(name)?;
        queue.delete(&receipt(&handle.receipt_handle)?);
        Ok(json!({}))
    }

    pub(super) fn change_visibility(&self, request: &One<Visibility>) -> Result<Value, SqsError> {
        self.change(name_of(&request.queue_url), &request.content)
    }

    pub(super) fn change_visibility_batch(
        &self,
        request: Batch<Visibility>,
    ) -> Result<Value, SqsError> {
        self.each(request, |name, change| self.change(name, &change))
    }

    fn change(&self, name: &str, change: &Visibility) -> Result<Value, SqsError> {
        let lease = within(Some(change.visibility_timeout), 43_200, "VisibilityTimeout")?
            .unwrap_or_default();
        let mut registry = self.registry();
        let queue = registry.get(name)?;
        queue.change_visibility(
            &receipt(&change.receipt_handle)?,
            lease,
            Now::read().instant,
        )?;
        Ok(json!({}))
    }

    /// Does `act` with each entry of a batch; an entry may fail alone.
    fn each<T>(
        &self,
        batch: Batch<T>,
        act: impl Fn(&str, T) -> Result<Value, SqsError>,
    ) -> Result<Value, SqsError> {
        let name = name_of(&batch.queue_url);
        self.registry().get(name)?;
        check_batch(&batch.entries)?;
        let (mut successful, mut failed) = (Vec::new(), Vec::new());
        for Entry { id, content } in batch.entries {
            match act(name, content) {
                Ok(mut answer) => {
                    answer["Id"] = json!(id);
                    successful.push(answer);
                }
                Err(error) => failed.push(error.entry(&id)),
            }
        }
        Ok(json!({ "Successful": successful, "Failed": failed }))
    }
}

fn check_batch<T>(entries: &[Entry<T>]) -> Result<(), SqsError> {
    if entries.is_empty() {
        return Err(SqsError::EmptyBatchRequest);
    }
    if entries.len() > 10 {
        return Err(SqsError::TooManyEntriesInBatchRequest(entries.len()));
    }
    let mut seen = BTreeSet::new();
    match entries.iter().find(|entry| !seen.insert(&entry.id)) {
        Some(entry) => Err(SqsError::BatchEntryIdsNotDistinct(entry.id.clone())),
        None => Ok(()),
    }
}

fn within(seconds: Option<u64>, most: u64, name: &str) -> Result<Option<Duration>, SqsError> {
    match seconds {
        Some(seconds) if seconds > most => Err(SqsError::InvalidParameterValue(format!(
            "Value {seconds} for parameter {name} is invalid. Reason: Must be between 0 and {most}, if provided."
        ))),
        other => Ok(other.map(Duration::from_secs)),
    }
}
