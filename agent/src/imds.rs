//! The instance metadata service, version 2.

use std::time::Duration;

use async_trait::async_trait;
use proto::ids::{Home, InstanceArn, InstanceId};
use reqwest::{Client, StatusCode};
use serde::Deserialize;

use crate::ports::{Cause, Identity, Metadata, chain};

/// How long a session token is asked for; one is fetched for each question, of which there are few.
const TOKEN_SECONDS: &str = "60";
/// It is on the machine itself: more patience is no help.
const PATIENCE: Duration = Duration::from_secs(5);

/// The metadata service of this machine.
#[derive(Clone, Debug)]
pub struct Imds {
    client: Client,
    endpoint: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    instance_id: InstanceId,
    region: String,
    account_id: String,
}

#[derive(Debug, thiserror::Error)]
enum ImdsError {
    #[error("the metadata service at {0} does not answer")]
    Unreachable(String, #[source] reqwest::Error),
    #[error("the metadata service answers {0} to {1}")]
    Refused(StatusCode, String),
}

impl Imds {
    /// The service at `endpoint`, such as `http://169.254.169.254`.
    ///
    /// # Errors
    ///
    /// When no HTTP client can be made.
    pub fn new(endpoint: &str) -> Result<Self, reqwest::Error> {
        Ok(Self {
            client: Client::builder().no_proxy().timeout(PATIENCE).build()?,
            endpoint: endpoint.trim_end_matches('/').to_owned(),
        })
    }

    async fn get(&self, path: &str) -> Result<Option<Vec<u8>>, ImdsError> {
        let unreachable = |error| ImdsError::Unreachable(self.endpoint.clone(), error);
        let token = self
            .client
            .put(format!("{}/latest/api/token", self.endpoint))
            .header("x-aws-ec2-metadata-token-ttl-seconds", TOKEN_SECONDS)
            .send()
            .await
            .map_err(unreachable)?;
        if !token.status().is_success() {
            return Err(ImdsError::Refused(token.status(), "api/token".to_owned()));
        }
        let token = token.text().await.map_err(unreachable)?;
        let answer = self
            .client
            .get(format!("{}/latest/{path}", self.endpoint))
            .header("x-aws-ec2-metadata-token", token)
            .send()
            .await
            .map_err(unreachable)?;
        match answer.status() {
            StatusCode::NOT_FOUND => Ok(None),
            status if status.is_success() => {
                Ok(Some(answer.bytes().await.map_err(unreachable)?.to_vec()))
            }
            status => Err(ImdsError::Refused(status, path.to_owned())),
        }
    }
}

#[async_trait]
impl Metadata for Imds {
    async fn identity(&self) -> Result<Identity, Cause> {
        let path = "dynamic/instance-identity/document";
        let bytes = self
            .get(path)
            .await
            .map_err(|error| chain(&error))?
            .ok_or("the metadata service has no identity document")?;
        let document: Document = serde_json::from_slice(&bytes)
            .map_err(|error| format!("the identity document cannot be read: {error}"))?;
        let home = Home {
            partition: Home::partition_of(&document.region).to_owned(),
            region: document.region.clone(),
            account: document.account_id,
        };
        Ok(Identity {
            arn: InstanceArn::new(&home, &document.instance_id),
            region: document.region,
        })
    }

    async fn user_data(&self) -> Result<Option<Vec<u8>>, Cause> {
        self.get("user-data").await.map_err(|error| chain(&error))
    }
}
