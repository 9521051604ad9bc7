//! How EC2 says no.

use axum::http::StatusCode;

use super::super::form::Malformed;

/// A refusal of EC2: its code and its message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ec2Error {
    pub(super) status: StatusCode,
    pub(super) code: &'static str,
    pub(super) message: String,
}

impl Ec2Error {
    pub(super) fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            code,
            message: message.into(),
        }
    }

    pub(super) fn dry_run() -> Self {
        Self {
            status: StatusCode::PRECONDITION_FAILED,
            code: "DryRunOperation",
            message: "Request would have succeeded, but DryRun flag is set.".to_owned(),
        }
    }

    pub(super) fn missing(parameter: &str) -> Self {
        Self::new(
            "MissingParameter",
            format!("The request must contain the parameter {parameter}"),
        )
    }

    pub(super) fn invalid(parameter: &str, value: &str) -> Self {
        Self::new(
            "InvalidParameterValue",
            format!("Invalid value '{value}' for {parameter}."),
        )
    }

    pub(super) fn no_instance(ids: &[&str]) -> Self {
        let message = if let [id] = ids {
            format!("The instance ID '{id}' does not exist")
        } else {
            format!("The instance IDs '{}' do not exist", ids.join(", "))
        };
        Self::new("InvalidInstanceID.NotFound", message)
    }
}

impl From<Malformed> for Ec2Error {
    fn from(malformed: Malformed) -> Self {
        Self::invalid(&malformed.name, &malformed.value)
    }
}
