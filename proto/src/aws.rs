//! The AWS SDK as both programs use it: one TLS stack, the SDK's own variables and defaults.

mod clock;

use aws_config::{BehaviorVersion, Region, SdkConfig, retry::RetryConfig, timeout::TimeoutConfig};
use aws_sdk_dynamodb::error::ProvideErrorMetadata;
use aws_smithy_http_client::{
    Builder,
    tls::{Provider, rustls_provider::CryptoMode},
};
use std::{error::Error, time::Duration};

pub use self::clock::{Asked, AwsClock};

/// Loads credentials, region and endpoints the way every AWS tool does (environment, profile, web
/// identity, instance role), with `region` going before what the environment says.
///
/// Calls are tried three times; one that is not answered within ten seconds counts as failed.
pub async fn sdk_config(region: Option<String>) -> SdkConfig {
    let http = Builder::new()
        .tls_provider(Provider::Rustls(CryptoMode::Ring))
        .build_https();
    let mut loader = aws_config::defaults(BehaviorVersion::latest())
        .http_client(http)
        .retry_config(RetryConfig::standard().with_max_attempts(3))
        .timeout_config(
            TimeoutConfig::builder()
                .connect_timeout(Duration::from_secs(3))
                .operation_attempt_timeout(Duration::from_secs(10))
                .build(),
        );
    if let Some(region) = region {
        loader = loader.region(Region::new(region));
    }
    loader.load().await
}

/// The cause of a failed call in the service's own words, `code: message`, where it answered; else
/// the SDK's error.
pub fn cause<E>(error: E) -> Box<dyn Error + Send + Sync>
where
    E: ProvideErrorMetadata + Error + Send + Sync + 'static,
{
    match (error.code(), error.message()) {
        (Some(code), Some(message)) if !message.is_empty() => format!("{code}: {message}").into(),
        (Some(code), _) => code.into(),
        (None, _) => error.into(),
    }
}
