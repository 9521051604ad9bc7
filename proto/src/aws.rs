//! The AWS SDK as both programs use it: one TLS stack, the SDK's own variables and defaults.

mod clock;

use aws_config::{BehaviorVersion, Region, SdkConfig, retry::RetryConfig, timeout::TimeoutConfig};
use aws_sdk_dynamodb::{
    config::http::HttpResponse,
    error::{ProvideErrorMetadata, SdkError},
    primitives::{DateTime, DateTimeFormat},
};
use aws_smithy_http_client::{
    Builder,
    tls::{Provider, rustls_provider::CryptoMode},
};
use std::{error::Error, time::Duration};

pub use self::clock::{Asked, AwsClock};
use crate::time::{Clock, SystemClock, Time, apart};

/// AWS takes a signature for so long, and that far ahead of its time.
const SIGNED_WITHIN: Duration = Duration::from_mins(5);
/// What AWS's services say to a signature that they do not take.
const REFUSED_SIGNATURES: [&str; 5] = [
    "AuthFailure",
    "InvalidSignatureException",
    "RequestExpired",
    "RequestTimeTooSkewed",
    "SignatureDoesNotMatch",
];

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
/// the SDK's error. Where a wrong clock is behind it, that is said.
pub fn cause<E>(error: SdkError<E, HttpResponse>) -> Box<dyn Error + Send + Sync>
where
    E: ProvideErrorMetadata + Error + Send + Sync + 'static,
{
    let date = error.raw_response().and_then(|answer| {
        let date = DateTime::from_str(answer.headers().get("date")?, DateTimeFormat::HttpDate);
        Some(Time::from_millis(date.ok()?.secs() * 1000))
    });
    let clock = wrong_clock(error.code(), SystemClock.now(), date);
    if let (Some(code), Some(clock)) = (error.code(), clock) {
        return format!("{code}: {clock}").into();
    }
    match (error.code(), error.message()) {
        (Some(code), Some(message)) if !message.is_empty() => format!("{code}: {message}").into(),
        (Some(code), _) => code.into(),
        (None, _) => error.into(),
    }
}

/// What to do about this machine's clock, if AWS refused its signature, with this code, for it.
/// `there` is when AWS answered, `here` when that was by this machine's clock.
pub fn wrong_clock(code: Option<&str>, here: Time, there: Option<Time>) -> Option<String> {
    let there = there?;
    let off = here.since(there).max(there.since(here));
    let refused = REFUSED_SIGNATURES.contains(&code?) && off > SIGNED_WITHIN;
    refused.then(|| {
        format!(
            "this machine's clock is {}: set it",
            apart(here, there, "AWS")
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_signature_is_blamed_on_the_clock_only_if_that_is_wrong() {
        let hour = Time::EPOCH + Duration::from_mins(61);
        let blamed = |code, here, there| wrong_clock(Some(code), here, Some(there));
        assert_eq!(
            blamed("InvalidSignatureException", Time::EPOCH, hour).as_deref(),
            Some("this machine's clock is 1h 1m behind AWS: set it")
        );
        assert_eq!(
            blamed("RequestExpired", hour, Time::EPOCH).as_deref(),
            Some("this machine's clock is 1h 1m ahead of AWS: set it")
        );
        assert_eq!(blamed("RequestExpired", hour, hour), None, "the session's");
        assert_eq!(blamed("AccessDenied", hour, Time::EPOCH), None);
        assert_eq!(wrong_clock(Some("AuthFailure"), hour, None), None);
    }
}
