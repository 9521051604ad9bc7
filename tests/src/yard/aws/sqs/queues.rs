//! The actions on queues as wholes.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

use super::error::SqsError;
use super::{Now, Sqs, name_of};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct CreateQueue {
    queue_name: String,
    #[serde(default)]
    attributes: BTreeMap<String, String>,
    // The model has this one name in lower case.
    #[serde(default, rename = "tags")]
    tags: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Named {
    queue_name: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct AtUrl {
    queue_url: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ListQueues {
    #[serde(default)]
    queue_name_prefix: String,
    max_results: Option<usize>,
    next_token: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct GetAttributes {
    queue_url: String,
    #[serde(default)]
    attribute_names: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct SetAttributes {
    queue_url: String,
    attributes: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Tag {
    queue_url: String,
    tags: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Untag {
    queue_url: String,
    tag_keys: Vec<String>,
}

impl Sqs {
    pub(super) fn create_queue(&self, request: CreateQueue) -> Result<Value, SqsError> {
        let CreateQueue {
            queue_name: name,
            attributes,
            tags,
        } = request;
        let now = Now::read();
        let wall = now.wall.as_second();
        self.registry()
            .create(&name, &attributes, tags, now.instant, wall)?;
        Ok(json!({ "QueueUrl": self.url(&name) }))
    }

    pub(super) fn get_queue_url(&self, request: &Named) -> Result<Value, SqsError> {
        self.registry().get(&request.queue_name)?;
        Ok(json!({ "QueueUrl": self.url(&request.queue_name) }))
    }

    pub(super) fn list_queues(&self, request: &ListQueues) -> Result<Value, SqsError> {
        let limit = request.max_results.unwrap_or(1000);
        if !(1..=1000).contains(&limit) {
            let why = "Value for parameter MaxResults is invalid.".to_owned();
            return Err(SqsError::InvalidParameterValue(why));
        }
        // The token of a page is the last name on it.
        let mut names = self
            .registry()
            .names(&request.queue_name_prefix, request.next_token.as_deref());
        let more = names.len() > limit;
        names.truncate(limit);
        let urls: Vec<_> = names.iter().map(|name| self.url(name)).collect();
        let mut answer = json!({ "QueueUrls": urls });
        // Only who asks for pages is told of the next one.
        if more && request.max_results.is_some() {
            answer["NextToken"] = json!(names.last());
        }
        Ok(answer)
    }

    pub(super) fn delete_queue(&self, request: &AtUrl) -> Result<Value, SqsError> {
        self.registry()
            .delete(name_of(&request.queue_url), Now::read().instant)?;
        Ok(json!({}))
    }

    pub(super) fn purge_queue(&self, request: &AtUrl) -> Result<Value, SqsError> {
        self.registry().get(name_of(&request.queue_url))?.purge();
        Ok(json!({}))
    }

    pub(super) fn get_queue_attributes(&self, request: &GetAttributes) -> Result<Value, SqsError> {
        let mut registry = self.registry();
        let name = name_of(&request.queue_url);
        let arn = registry.arn(name);
        let queue = registry.get(name)?;
        let counts = queue.counts(Now::read().instant);
        let mut all = queue.attributes.all().clone();
        let computed = [
            ("QueueArn", arn),
            ("CreatedTimestamp", queue.created.to_string()),
            ("LastModifiedTimestamp", queue.modified.to_string()),
            ("ApproximateNumberOfMessages", counts.visible.to_string()),
            (
                "ApproximateNumberOfMessagesNotVisible",
                counts.in_flight.to_string(),
            ),
            (
                "ApproximateNumberOfMessagesDelayed",
                counts.delayed.to_string(),
            ),
        ];
        all.extend(computed.map(|(name, value)| (name.to_owned(), value)));
        let asked = &request.attribute_names;
        if !asked.iter().any(|name| name == "All") {
            all.retain(|name, _| asked.contains(name));
        }
        Ok(if all.is_empty() {
            json!({})
        } else {
            json!({ "Attributes": all })
        })
    }

    pub(super) fn set_queue_attributes(&self, request: &SetAttributes) -> Result<Value, SqsError> {
        let mut registry = self.registry();
        let queue = registry.get(name_of(&request.queue_url))?;
        queue.attributes.set(&request.attributes)?;
        queue.modified = Now::read().wall.as_second();
        Ok(json!({}))
    }

    pub(super) fn tag_queue(&self, request: Tag) -> Result<Value, SqsError> {
        let mut registry = self.registry();
        let queue = registry.get(name_of(&request.queue_url))?;
        queue.tags.extend(request.tags);
        Ok(json!({}))
    }

    pub(super) fn untag_queue(&self, request: &Untag) -> Result<Value, SqsError> {
        let mut registry = self.registry();
        let queue = registry.get(name_of(&request.queue_url))?;
        queue.tags.retain(|key, _| !request.tag_keys.contains(key));
        Ok(json!({}))
    }

    pub(super) fn list_queue_tags(&self, request: &AtUrl) -> Result<Value, SqsError> {
        let mut registry = self.registry();
        let queue = registry.get(name_of(&request.queue_url))?;
        Ok(json!({ "Tags": queue.tags }))
    }
}
