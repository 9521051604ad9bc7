//! Sends a request on to another server.

use std::time::{Duration, UNIX_EPOCH};

use aws_sdk_sqs::config::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use proto::time::{Clock, SystemClock};

use super::service::Request;

/// Headers that belong to one connection, or that the next hop sets itself.
const HOP_BY_HOP: [HeaderName; 5] = [
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::EXPECT,
];

/// Headers of a signature.
const SIGNATURE: [&str; 5] = [
    "authorization",
    "host",
    "x-amz-content-sha256",
    "x-amz-date",
    "x-amz-security-token",
];

/// Where requests are sent on to.
#[derive(Clone, Debug)]
pub(super) struct Forward {
    client: reqwest::Client,
    base: String,
    signer: Option<Signer>,
}

/// Signs requests anew, as somebody else's.
#[derive(Clone, Debug)]
pub(super) struct Signer {
    credentials: Credentials,
    region: String,
}

impl Signer {
    pub(super) fn new(credentials: Credentials, region: &str) -> Self {
        Self {
            credentials,
            region: region.to_owned(),
        }
    }

    /// The request's headers, with a signature that is good for `url`.
    fn sign(&self, request: &Request, url: &str) -> Option<HeaderMap> {
        let mut headers = without_hop(&request.headers);
        for name in SIGNATURE {
            headers.remove(name);
        }
        let identity = self.credentials.clone().into();
        let now = SystemClock.now().as_millis();
        let parameters = v4::SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name(&request.service)
            .time(UNIX_EPOCH + Duration::from_millis(u64::try_from(now).ok()?))
            .settings(SigningSettings::default())
            .build()
            .ok()?
            .into();
        let texts = headers.iter();
        let texts = texts.filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)));
        let body = SignableBody::Bytes(&request.body);
        let method = request.method.as_str();
        let signable = SignableRequest::new(method, url, texts, body).ok()?;
        let signed: Vec<(HeaderName, HeaderValue)> = sign(signable, &parameters)
            .ok()?
            .output()
            .headers()
            .filter_map(|(name, value)| Some((name.parse().ok()?, value.parse().ok()?)))
            .collect();
        headers.extend(signed);
        Some(headers)
    }
}

impl Forward {
    pub(super) fn to(base: &str, signer: Option<Signer>) -> std::io::Result<Self> {
        // The client wants a TLS provider at hand; another one that is already
        // installed serves as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(std::io::Error::other)?;
        Ok(Self {
            client,
            base: base.trim_end_matches('/').to_owned(),
            signer,
        })
    }

    /// The other server's answer; 502 when there is none.
    pub(super) async fn send(&self, request: Request) -> Response {
        match self.try_send(&request).await {
            Ok((status, headers, body)) => (status, headers, Body::from(body)).into_response(),
            Err(error) => request.refuse(
                StatusCode::BAD_GATEWAY,
                "ServiceUnavailable",
                &error.to_string(),
            ),
        }
    }

    /// The same, with the answer in its parts.
    pub(super) async fn try_send(
        &self,
        request: &Request,
    ) -> reqwest::Result<(StatusCode, HeaderMap, axum::body::Bytes)> {
        let url = format!("{}{}", self.base, request.path_and_query);
        let signed = self.signer.as_ref().and_then(|it| it.sign(request, &url));
        let answer = self
            .client
            .request(request.method.clone(), url)
            .headers(signed.unwrap_or_else(|| without_hop(&request.headers)))
            .body(request.body.clone())
            .send()
            .await?;
        let status = answer.status();
        let headers = without_hop(answer.headers());
        Ok((status, headers, answer.bytes().await?))
    }
}

fn without_hop(headers: &HeaderMap) -> HeaderMap {
    let mut headers = headers.clone();
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
    headers
}
