//! The instance metadata service, version 2.

use std::{path::Path, time::Duration};

use async_trait::async_trait;
use proto::{
    ids::{Home, InstanceArn, InstanceId},
    time::Time,
};
use reqwest::{Client, Response, StatusCode};
use serde::Deserialize;
use tokio::sync::Mutex;

use crate::{
    machine::Notices,
    ports::{Cause, Identity, Metadata, chain},
};

/// How long a session token is asked for: as long as the service gives them. One that has ended,
/// or that a restart of the service forgot, is replaced.
const TOKEN_SECONDS: &str = "21600";
/// It is on the machine itself: more patience is no help.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where the service is on every machine of EC2's.
pub const USUAL: &str = "http://169.254.169.254";

/// Whether this computer is one of EC2's, by what its firmware or its hypervisor says; `system` is
/// where the kernel shows it, `/sys`.
pub fn is_ec2(system: &Path) -> bool {
    let begins = |file: &str, with: &str| {
        // Whoever is not EC2 may have no such file.
        std::fs::read_to_string(system.join(file)).is_ok_and(|text| text.starts_with(with))
    };
    begins("class/dmi/id/sys_vendor", "Amazon EC2")
        || begins("class/dmi/id/board_asset_tag", "i-")
        || begins("hypervisor/uuid", "ec2")
}

/// The metadata service of this machine.
#[derive(Debug)]
pub struct Imds {
    client: Client,
    endpoint: String,
    token: Mutex<Option<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    instance_id: InstanceId,
    region: String,
    account_id: String,
}

/// What `spot/instance-action` says; whatever the action is, the machine is lost.
#[derive(Deserialize)]
struct InstanceAction {
    time: Time,
}

#[derive(Debug, thiserror::Error)]
enum ImdsError {
    #[error("the metadata service at {0} does not answer: is it switched on for this machine?")]
    Unreachable(String, #[source] reqwest::Error),
    #[error("the metadata service answers {0} to {1}")]
    Refused(StatusCode, String),
}

/// Who this machine is, by its identity document.
///
/// # Errors
///
/// When it is no such document.
pub fn read_identity(document: &[u8]) -> Result<Identity, Cause> {
    let document: Document = serde_json::from_slice(document)
        .map_err(|error| format!("the identity document cannot be read: {error}"))?;
    let home = Home {
        partition: Home::partition_of(&document.region).to_owned(),
        region: document.region,
        account: document.account_id,
    };
    let arn = InstanceArn::new(&home, &document.instance_id);
    // The ARN is the key of the machine's record: one that nobody can read back finds none.
    match Home::of_arn(arn.as_str()) {
        Ok(read) if read == home => Ok(Identity {
            arn,
            region: home.region,
        }),
        Ok(_) | Err(_) => Err(format!(
            "the identity document has no usable region and account: `{arn}`"
        )),
    }
}

/// When EC2 takes this machine away, by `spot/instance-action`.
///
/// # Errors
///
/// When it is no such notice.
pub fn read_interruption(notice: &[u8]) -> Result<Time, Cause> {
    let action: InstanceAction = serde_json::from_slice(notice)
        .map_err(|error| format!("the notice of an interruption cannot be read: {error}"))?;
    Ok(action.time)
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
            token: Mutex::default(),
        })
    }

    async fn get(&self, path: &str) -> Result<Option<Vec<u8>>, ImdsError> {
        let mut answer = self.ask(path).await?;
        if answer.status() == StatusCode::UNAUTHORIZED {
            *self.token.lock().await = None;
            answer = self.ask(path).await?;
        }
        match answer.status() {
            StatusCode::NOT_FOUND => Ok(None),
            status if status.is_success() => {
                let bytes = answer.bytes().await;
                Ok(Some(bytes.map_err(|e| self.unreachable(e))?.to_vec()))
            }
            status => Err(ImdsError::Refused(status, path.to_owned())),
        }
    }

    async fn ask(&self, path: &str) -> Result<Response, ImdsError> {
        let token = self.token().await?;
        self.client
            .get(format!("{}/latest/{path}", self.endpoint))
            .header("x-aws-ec2-metadata-token", token)
            .send()
            .await
            .map_err(|error| self.unreachable(error))
    }

    async fn token(&self) -> Result<String, ImdsError> {
        let mut known = self.token.lock().await;
        if let Some(token) = &*known {
            return Ok(token.clone());
        }
        let answer = self
            .client
            .put(format!("{}/latest/api/token", self.endpoint))
            .header("x-aws-ec2-metadata-token-ttl-seconds", TOKEN_SECONDS)
            .send()
            .await
            .map_err(|error| self.unreachable(error))?;
        if !answer.status().is_success() {
            return Err(ImdsError::Refused(answer.status(), "api/token".to_owned()));
        }
        let token = answer.text().await.map_err(|e| self.unreachable(e))?;
        Ok(known.insert(token).clone())
    }

    fn unreachable(&self, error: reqwest::Error) -> ImdsError {
        ImdsError::Unreachable(self.endpoint.clone(), error)
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
        read_identity(&bytes)
    }

    async fn user_data(&self) -> Result<Option<Vec<u8>>, Cause> {
        self.get("user-data").await.map_err(|error| chain(&error))
    }

    async fn may_be_taken_away(&self) -> Result<bool, Cause> {
        let life_cycle = self.get("meta-data/instance-life-cycle").await;
        let life_cycle = life_cycle.map_err(|error| chain(&error))?;
        // Whatever else there is or will be (`spot`, `scheduled`, `capacity-block`) is watched.
        Ok(life_cycle.as_deref() != Some(b"on-demand"))
    }

    async fn notices(&self) -> Result<Notices, Cause> {
        let get = async |path| self.get(path).await.map_err(|error| chain(&error));
        let interruption = get("meta-data/spot/instance-action")
            .await?
            .map(|bytes| read_interruption(&bytes))
            .transpose()?;
        let rebalance = get("meta-data/events/recommendations/rebalance").await?;
        Ok(Notices {
            interruption,
            rebalance: rebalance.is_some(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_computer_is_ec2s_by_its_vendor_its_tag_or_its_hypervisor() {
        let signs = [
            ("class/dmi/id/sys_vendor", "Amazon EC2\n", true),
            ("class/dmi/id/sys_vendor", "QEMU\n", false),
            (
                "class/dmi/id/board_asset_tag",
                "i-0123456789abcdef0\n",
                true,
            ),
            (
                "hypervisor/uuid",
                "ec2e1916-9099-7caf-fd21-012345abcdef\n",
                true,
            ),
        ];
        for (file, text, is) in signs {
            let system = tempfile::tempdir().unwrap();
            assert!(!is_ec2(system.path()));
            let path = system.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
            assert_eq!(is_ec2(system.path()), is, "{file} {text}");
        }
    }
}
