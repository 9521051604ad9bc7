//! Calls of services that would each bring an SDK of hundreds of operations for one of them, and
//! minutes to every build: the query protocol by hand, signed by the SDK's own signer.

use std::time::{Duration, SystemTime};

use aws_config::SdkConfig;
use aws_sdk_sqs::config::ProvideCredentials;
use aws_sigv4::{
    http_request::{SignableBody, SignableRequest, SigningSettings, sign},
    sign::v4,
};
use jiff::fmt::rfc2822;
use proto::{
    aws::wrong_clock,
    time::{Clock, SystemClock, Time},
};
use reqwest::{Client, Url};

use super::odd;
use crate::ports::PortError;

/// One call may take so long.
const TIMEOUT: Duration = Duration::from_secs(10);
/// It is made so often, where a repeat may help.
const TRIES: u32 = 3;
/// Before it is made again.
const BREATH: Duration = Duration::from_millis(300);

/// A service that speaks the query protocol.
#[derive(Clone, Copy, Debug)]
pub(super) struct Service {
    /// What a signature calls it, such as `monitoring`.
    pub(super) name: &'static str,
    /// The version of its API.
    pub(super) version: &'static str,
}

/// An answer.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    /// Its body.
    pub(super) xml: String,
    /// When it was given, if it says so.
    pub(super) date: Option<Time>,
}

/// A call that was not answered, in words.
struct Refused {
    code: Option<String>,
    words: String,
    may_pass: bool,
}

impl Service {
    /// Makes a call.
    pub(super) async fn call(
        self,
        config: &SdkConfig,
        action: &str,
        parameters: &[(String, String)],
    ) -> Result<Answer, PortError> {
        let operation = format!("call {action} of {}", self.name);
        let broken = |words: String| odd(operation.clone(), None, words);
        let region = config.region().map_or("", |region| region.as_ref());
        let (url, region) = self.endpoint(region);
        let url = config.endpoint_url().unwrap_or(&url);
        let mut url = Url::parse(url).map_err(|error| broken(error.to_string()))?;
        let body = {
            let mut form = url.clone();
            form.query_pairs_mut()
                .clear()
                .append_pair("Action", action)
                .append_pair("Version", self.version)
                .extend_pairs(parameters);
            form.query().unwrap_or_default().to_owned()
        };
        if url.path().is_empty() {
            url.set_path("/");
        }
        let client = Client::builder().timeout(TIMEOUT).build();
        let client = client.map_err(|error| broken(error.to_string()))?;
        let mut tries = 1;
        loop {
            match self.once(config, &client, &url, region, &body).await {
                Ok(answer) => return Ok(answer),
                Err(refused) if refused.may_pass && tries < TRIES => {
                    tries += 1;
                    tokio::time::sleep(BREATH).await;
                }
                Err(refused) => {
                    return Err(odd(operation, refused.code.as_deref(), refused.words));
                }
            }
        }
    }

    /// Where it is for callers in a region, and the region that signatures name: IAM has one
    /// place for each partition.
    fn endpoint(self, region: &str) -> (String, &str) {
        let china = region.starts_with("cn-");
        let end = if china { ".cn" } else { "" };
        let (host, region) = match self.name {
            "iam" if china => ("iam.cn-north-1".to_owned(), "cn-north-1"),
            "iam" if region.starts_with("us-gov-") => ("iam.us-gov".to_owned(), "us-gov-west-1"),
            "iam" => ("iam".to_owned(), "us-east-1"),
            name => (format!("{name}.{region}"), region),
        };
        (format!("https://{host}.amazonaws.com{end}/"), region)
    }

    async fn once(
        self,
        config: &SdkConfig,
        client: &Client,
        url: &Url,
        region: &str,
        body: &str,
    ) -> Result<Answer, Refused> {
        let lost = |words: String| Refused {
            code: None,
            words,
            may_pass: true,
        };
        let provider = config.credentials_provider();
        let provider = provider.ok_or_else(|| lost("there are no credentials".to_owned()))?;
        let credentials = provider.provide_credentials().await;
        let credentials = credentials.map_err(|error| lost(error.to_string()))?;
        let identity = credentials.into();
        let now = u64::try_from(SystemClock.now().as_millis()).unwrap_or_default();
        let signing = v4::SigningParams::builder()
            .identity(&identity)
            .region(region)
            .name(self.name)
            .time(SystemTime::UNIX_EPOCH + Duration::from_millis(now))
            .settings(SigningSettings::default())
            .build()
            .map_err(|error| lost(error.to_string()))?
            .into();
        let kind = "application/x-www-form-urlencoded; charset=utf-8";
        let headers = [("content-type", kind)];
        let signable = SignableBody::Bytes(body.as_bytes());
        let signable = SignableRequest::new("POST", url.as_str(), headers.into_iter(), signable);
        let signed = signable
            .and_then(|signable| sign(signable, &signing))
            .map_err(|error| lost(error.to_string()))?;
        let mut request = client.post(url.clone()).header("content-type", kind);
        for (name, value) in signed.output().headers() {
            request = request.header(name, value);
        }
        let response = request.body(body.to_owned()).send().await;
        let response = response.map_err(|error| lost(error.without_url().to_string()))?;
        let status = response.status();
        let date = response.headers().get("date");
        let there = date.and_then(|date| instant(date.to_str().ok()?));
        let answer = response.text().await;
        let answer = answer.map_err(|error| lost(error.without_url().to_string()))?;
        if status.is_success() {
            return Ok(Answer {
                xml: answer,
                date: there,
            });
        }
        let code = element(&answer, "Code");
        let clock = wrong_clock(code, SystemClock.now(), there);
        let throttled = code.is_some_and(|code| code.starts_with("Throttling"));
        Err(Refused {
            code: code.map(str::to_owned),
            words: clock
                .or_else(|| element(&answer, "Message").map(str::to_owned))
                .unwrap_or_else(|| format!("status {status}")),
            may_pass: status.is_server_error() || throttled,
        })
    }
}

/// An instant as HTTP says it.
fn instant(date: &str) -> Option<Time> {
    let instant = rfc2822::parse(date).ok()?;
    Some(Time::from(instant.timestamp()))
}

/// The text of the first element of that name; errors have no two of one name.
fn element<'a>(xml: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    rest.split_once("</").map(|(text, _)| text)
}
