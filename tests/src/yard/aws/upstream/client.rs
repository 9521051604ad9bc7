//! The few questions that the yard itself asks the other stand-in.

use std::collections::BTreeMap;

use axum::body::Bytes;
use axum::http::{HeaderMap, HeaderValue, Method, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::super::form::Form;
use super::super::forward::Forward;
use super::super::service::Request;

/// Asks as an account of its own.
pub(super) struct Client {
    forward: Forward,
    authorization: HeaderValue,
}

/// What a launch template's version says.
#[derive(Clone, Debug, Default)]
pub(super) struct Template {
    pub(super) id: String,
    pub(super) version: String,
    pub(super) user_data: Vec<u8>,
    pub(super) profile: Option<String>,
}

/// An instance there.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Instance {
    #[serde(rename = "instanceId")]
    pub(super) id: String,
    #[serde(default)]
    pub(super) image_id: String,
    #[serde(rename = "instanceState")]
    state: StateName,
    #[serde(default, rename = "instanceType")]
    pub(super) kind: String,
    #[serde(rename = "instanceLifecycle")]
    lifecycle: Option<String>,
    placement: Option<Placement>,
    #[serde(default)]
    tag_set: Set<Tag>,
}

#[derive(Clone, Debug, Deserialize)]
struct StateName {
    name: String,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Placement {
    #[serde(default)]
    availability_zone: String,
}

#[derive(Clone, Debug, Deserialize)]
struct Tag {
    key: String,
    #[serde(default)]
    value: String,
}

#[derive(Clone, Debug, Deserialize)]
struct Set<T> {
    #[serde(default = "Vec::new", rename = "item")]
    items: Vec<T>,
}

impl<T> Default for Set<T> {
    fn default() -> Self {
        Self { items: Vec::new() }
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct DescribeInstances {
    reservation_set: Set<Reservation>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Reservation {
    instances_set: Set<Instance>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct DescribeVersions {
    launch_template_version_set: Set<Version>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Version {
    launch_template_id: String,
    #[serde(rename = "versionNumber")]
    number: String,
    launch_template_data: Data,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Data {
    user_data: Option<String>,
    iam_instance_profile: Option<Profile>,
}

#[derive(Debug, Deserialize)]
struct Profile {
    name: Option<String>,
    arn: Option<String>,
}

impl Instance {
    pub(super) fn state(&self) -> &str {
        &self.state.name
    }

    pub(super) fn spot(&self) -> bool {
        self.lifecycle.as_deref() == Some("spot")
    }

    pub(super) fn zone(&self) -> &str {
        self.placement
            .as_ref()
            .map_or("", |placement| &placement.availability_zone)
    }

    pub(super) fn tags(&self) -> BTreeMap<String, String> {
        let tags = self.tag_set.items.iter();
        tags.map(|tag| (tag.key.clone(), tag.value.clone()))
            .collect()
    }
}

impl Client {
    pub(super) fn new(forward: Forward, region: &str) -> Self {
        // Nobody checks the signature, but the scope decides who answers.
        let text = format!(
            "AWS4-HMAC-SHA256 Credential=AKIAYARDWATCHER00000/20260101/{region}/ec2/aws4_request, \
             SignedHeaders=host, Signature=00"
        );
        let authorization = HeaderValue::from_str(&text);
        Self {
            forward,
            authorization: authorization.unwrap_or_else(|_| HeaderValue::from_static("")),
        }
    }

    /// All instances; nothing when there is no understandable answer.
    pub(super) async fn instances(&self) -> Option<Vec<Instance>> {
        let answer: DescribeInstances = self.ask("Action=DescribeInstances").await?;
        let reservations = answer.reservation_set.items.into_iter();
        Some(
            reservations
                .flat_map(|reservation| reservation.instances_set.items)
                .collect(),
        )
    }

    /// The launch template's version that a specification names.
    pub(super) async fn template(&self, specification: &Form) -> Option<Template> {
        let mut form = Form::default();
        let version = specification.text("Version").unwrap_or("$Default");
        for (name, value) in [
            ("Action", Some("DescribeLaunchTemplateVersions")),
            ("LaunchTemplateId", specification.text("LaunchTemplateId")),
            (
                "LaunchTemplateName",
                specification.text("LaunchTemplateName"),
            ),
            ("LaunchTemplateVersion.1", Some(version)),
        ] {
            if let Some(value) = value {
                form.insert(name, value.to_owned()).ok()?;
            }
        }
        let answer: DescribeVersions = self.ask(&form.encode()).await?;
        let found = answer
            .launch_template_version_set
            .items
            .into_iter()
            .next()?;
        let data = found.launch_template_data;
        let user_data = data.user_data.unwrap_or_default();
        Some(Template {
            id: found.launch_template_id,
            version: found.number,
            user_data: STANDARD.decode(user_data.trim()).unwrap_or_default(),
            profile: data
                .iam_instance_profile
                .and_then(|profile| profile.name.or(profile.arn)),
        })
    }

    pub(super) async fn terminate(&self, id: &str) {
        let query = format!("Action=TerminateInstances&InstanceId.1={id}");
        if self.send(&query).await.is_none() {
            tracing::warn!(id, "the upstream AWS did not terminate an instance");
        }
    }

    async fn ask<T: DeserializeOwned>(&self, query: &str) -> Option<T> {
        let body = self.send(query).await?;
        let text = std::str::from_utf8(&body).ok()?;
        match quick_xml::de::from_str(text) {
            Ok(answer) => Some(answer),
            Err(error) => {
                tracing::warn!(%error, query, "the upstream AWS answers oddly");
                None
            }
        }
    }

    async fn send(&self, query: &str) -> Option<Bytes> {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, self.authorization.clone());
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/x-www-form-urlencoded"),
        );
        let body = Bytes::from(format!("{query}&Version=2016-11-15"));
        let request = Request::new(Method::POST, "/".to_owned(), headers, body);
        match self.forward.try_send(&request).await {
            Ok((status, _, body)) if status.is_success() => Some(body),
            Ok((status, _, body)) => {
                let body = String::from_utf8_lossy(&body);
                tracing::debug!(%status, %body, "the upstream AWS refuses");
                None
            }
            Err(error) => {
                tracing::debug!(%error, "the upstream AWS does not answer");
                None
            }
        }
    }
}
