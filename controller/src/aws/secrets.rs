//! Texts that are kept at AWS under a name: secrets, and the id of the image.

use aws_config::{Region, SdkConfig};
use proto::instance::Secret;

use super::{failed, odd};
use crate::{ports::PortError, settings::source::Source};

/// The secret that an input gives or names.
pub async fn read(source: &Source, config: &SdkConfig) -> Result<Secret, PortError> {
    match source {
        Source::Given(secret) => Ok(secret.clone()),
        Source::SecretsManager { arn, region } => {
            let client = aws_sdk_secretsmanager::Client::new(&in_region(config, Some(region)));
            let operation = format!("read the secret {arn}");
            let answer = client.get_secret_value().secret_id(arn).send().await;
            let answer = answer.map_err(failed(&operation))?;
            kept(operation, answer.secret_string())
        }
        Source::Parameter { name, region } => {
            parameter(name, &in_region(config, region.as_ref())).await
        }
    }
}

/// What a parameter of Systems Manager holds, by its name or ARN.
pub async fn parameter(name: &str, config: &SdkConfig) -> Result<Secret, PortError> {
    let client = aws_sdk_ssm::Client::new(config);
    let operation = format!("read the parameter {name}");
    let call = client.get_parameter().name(name).with_decryption(true);
    let answer = call.send().await.map_err(failed(&operation))?;
    let parameter = answer.parameter();
    kept(operation, parameter.and_then(|parameter| parameter.value()))
}

fn in_region(config: &SdkConfig, region: Option<&String>) -> SdkConfig {
    match region {
        None => config.clone(),
        Some(region) => {
            let region = Region::new(region.clone());
            config.to_builder().region(region).build()
        }
    }
}

fn kept(operation: String, value: Option<&str>) -> Result<Secret, PortError> {
    match value.map(str::trim).filter(|value| !value.is_empty()) {
        Some(value) => Ok(Secret::new(value)),
        None => Err(odd(operation, None, "it holds no text")),
    }
}
