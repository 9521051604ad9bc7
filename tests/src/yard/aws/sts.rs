//! STS: who am I.

use axum::http::StatusCode;
use axum::response::Response;

use super::service::{Request, request_id, xml_answer};
use super::xml::Xml;

/// Answers `GetCallerIdentity`; nothing else is known here.
pub(super) fn answer(request: &Request, account: &str) -> Response {
    if request.action != "GetCallerIdentity" {
        let message = format!("The action {} is not valid.", request.action);
        return request.refuse(StatusCode::BAD_REQUEST, "InvalidAction", &message);
    }
    let body = Xml::of(|xml| {
        xml.node("GetCallerIdentityResponse", |xml| {
            xml.node("GetCallerIdentityResult", |xml| {
                let role = super::iam_service::OPERATOR;
                let session = format!("arn:aws:sts::{account}:assumed-role/{role}/yard");
                xml.text("Arn", session)
                    .text("UserId", &request.caller)
                    .text("Account", account);
            });
            xml.node("ResponseMetadata", |xml| {
                xml.text("RequestId", request_id());
            });
        });
    });
    xml_answer(StatusCode::OK, body)
}
