//! Sends a request on to another server.

use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::service::Request;

/// Headers that belong to one connection, or that the next hop sets itself.
const HOP_BY_HOP: [HeaderName; 5] = [
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::EXPECT,
];

/// Where requests are sent on to.
#[derive(Clone, Debug)]
pub(super) struct Forward {
    client: reqwest::Client,
    base: String,
}

impl Forward {
    pub(super) fn to(base: &str) -> std::io::Result<Self> {
        // Only plain HTTP is spoken here, but the client wants a TLS provider
        // at hand; another one that is already installed serves as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(std::io::Error::other)?;
        Ok(Self {
            client,
            base: base.trim_end_matches('/').to_owned(),
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
        let answer = self
            .client
            .request(
                request.method.clone(),
                format!("{}{}", self.base, request.path_and_query),
            )
            .headers(without_hop(&request.headers))
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
