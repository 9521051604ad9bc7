//! Which service and action a request is meant for, and how each service says no.

use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use jiff::{SignedDuration, Timestamp, civil, tz::TimeZone};
use serde_json::json;

use super::form::Form;
use super::xml::Xml;

/// A signature is taken for so long, and that far ahead of the time.
const SIGNED_WITHIN: SignedDuration = SignedDuration::from_mins(5);

/// A request as the services behind the door take it.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) method: axum::http::Method,
    pub(super) path_and_query: String,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    pub(super) service: String,
    pub(super) action: String,
    /// The access key id in the signature.
    pub(super) caller: String,
}

impl Request {
    pub(super) fn new(
        method: axum::http::Method,
        path_and_query: String,
        headers: HeaderMap,
        body: Bytes,
    ) -> Self {
        let (caller, scope) = credential(&headers);
        let (service, action) = target(&headers).unwrap_or_else(|| {
            let action = Form::parse(&body)
                .ok()
                .and_then(|form| form.text("Action").map(str::to_owned));
            (scope, action.unwrap_or_default())
        });
        Self {
            method,
            path_and_query,
            headers,
            body,
            service,
            action,
            caller,
        }
    }

    /// What is said to a signature of another time than now.
    pub(super) fn untimely(&self, now: Timestamp) -> Option<Response> {
        const FORM: &str = "%Y%m%dT%H%M%SZ";
        let signed = self.headers.get("x-amz-date")?.to_str().ok()?;
        let at = civil::DateTime::strptime(FORM, signed).ok()?;
        let at = at.to_zoned(TimeZone::UTC).ok()?.timestamp();
        if at.duration_since(now).abs() <= SIGNED_WITHIN {
            return None;
        }
        let words = if at < now {
            let earliest = (now - SIGNED_WITHIN).strftime(FORM);
            format!("Signature expired: {signed} is now earlier than {earliest}")
        } else {
            let latest = (now + SIGNED_WITHIN).strftime(FORM);
            format!("Signature not yet current: {signed} is still later than {latest}")
        };
        let (status, code) = match self.service.as_str() {
            "ec2" => (StatusCode::BAD_REQUEST, "RequestExpired"),
            "sts" | "iam" | "monitoring" => (StatusCode::FORBIDDEN, "SignatureDoesNotMatch"),
            _ => (StatusCode::BAD_REQUEST, "InvalidSignatureException"),
        };
        Some(self.refuse(status, code, &words))
    }

    /// IAM says no.
    pub(super) fn deny(&self, words: &str) -> Response {
        // EC2 has a code and a status of its own for it.
        match self.service.as_str() {
            "ec2" => self.refuse(StatusCode::FORBIDDEN, "UnauthorizedOperation", words),
            _ => self.refuse(StatusCode::BAD_REQUEST, "AccessDeniedException", words),
        }
    }

    /// An answer in this service's way of telling errors.
    pub(super) fn refuse(&self, status: StatusCode, code: &str, message: &str) -> Response {
        match self.service.as_str() {
            "ec2" => ec2_error(status, code, message),
            "sts" | "monitoring" | "iam" => sts_error(status, code, message),
            _ => json_error(status, code, message),
        }
    }
}

/// `X-Amz-Target: AmazonSQS.SendMessage`
fn target(headers: &HeaderMap) -> Option<(String, String)> {
    let target = headers.get("x-amz-target")?.to_str().ok()?;
    let (prefix, action) = target.split_once('.')?;
    let service = match prefix {
        "AmazonSQS" => "sqs",
        "DynamoDB_20120810" => "dynamodb",
        "AmazonSSM" => "ssm",
        other => other,
    };
    Some((service.to_owned(), action.to_owned()))
}

/// `Authorization: AWS4-HMAC-SHA256 Credential=AKID/date/region/service/aws4_request, …`
fn credential(headers: &HeaderMap) -> (String, String) {
    let scope = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split_once("Credential="))
        .and_then(|(_, rest)| rest.split([',', ' ']).next())
        .unwrap_or_default();
    let mut parts = scope.split('/');
    let caller = parts.next().unwrap_or_default();
    let service = parts.nth(2).unwrap_or_default();
    (caller.to_owned(), service.to_owned())
}

fn json_error(status: StatusCode, code: &str, message: &str) -> Response {
    (
        status,
        [(header::CONTENT_TYPE, "application/x-amz-json-1.0")],
        json!({ "__type": code, "message": message }).to_string(),
    )
        .into_response()
}

/// EC2's `<Response><Errors>…`.
pub(super) fn ec2_error(status: StatusCode, code: &str, message: &str) -> Response {
    let body = Xml::of(|xml| {
        xml.node("Response", |xml| {
            xml.node("Errors", |xml| {
                xml.node("Error", |xml| {
                    xml.text("Code", code).text("Message", message);
                });
            });
            xml.text("RequestID", request_id());
        });
    });
    xml_answer(status, body)
}

fn sts_error(status: StatusCode, code: &str, message: &str) -> Response {
    let body = Xml::of(|xml| {
        xml.node("ErrorResponse", |xml| {
            xml.node("Error", |xml| {
                xml.text("Type", "Sender")
                    .text("Code", code)
                    .text("Message", message);
            });
            xml.text("RequestId", request_id());
        });
    });
    xml_answer(status, body)
}

/// A whole XML document as an answer.
pub(super) fn xml_answer(status: StatusCode, body: Xml) -> Response {
    let document = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n{}",
        body.into_string()
    );
    (
        status,
        [(header::CONTENT_TYPE, "text/xml;charset=UTF-8")],
        document,
    )
        .into_response()
}

/// A request id as AWS hands them out.
pub(super) fn request_id() -> String {
    let bits: u128 = rand::random();
    let hex = format!("{bits:032x}");
    format!(
        "{}-{}-{}-{}-{}",
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..]
    )
}
