//! Secrets Manager and the parameters of Systems Manager: texts that are kept under a name.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};

use super::service::Request;
use super::settings::Settings;

/// Who keeps a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SecretKind {
    /// Secrets Manager.
    Secret,
    /// Systems Manager, as a `SecureString`.
    Parameter,
}

/// Both services.
pub(super) struct Secrets {
    /// `<region>:<account>`
    home: String,
    /// Texts by kind and ARN, each with its name.
    kept: Mutex<BTreeMap<(SecretKind, String), (String, String)>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct GetSecretValue {
    secret_id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct GetParameter {
    name: String,
    with_decryption: Option<bool>,
}

/// A refusal: the shape's name, and words.
type No = (&'static str, String);

impl Secrets {
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            home: format!("{}:{}", settings.region, settings.account),
            kept: Mutex::default(),
        }
    }

    /// Keeps a text; its ARN.
    pub(super) fn keep(&self, kind: SecretKind, name: &str, text: &str) -> String {
        let home = &self.home;
        let arn = match kind {
            SecretKind::Secret => format!("arn:aws:secretsmanager:{home}:secret:{name}-AbCdEf"),
            SecretKind::Parameter => {
                let name = name.trim_start_matches('/');
                format!("arn:aws:ssm:{home}:parameter/{name}")
            }
        };
        let entry = (name.to_owned(), text.to_owned());
        self.kept().insert((kind, arn.clone()), entry);
        arn
    }

    pub(super) fn answer(&self, request: &Request) -> Response {
        match self.act(request) {
            Ok(answer) => (
                StatusCode::OK,
                [(header::CONTENT_TYPE, "application/x-amz-json-1.1")],
                answer.to_string(),
            )
                .into_response(),
            Err((code, words)) => request.refuse(StatusCode::BAD_REQUEST, code, &words),
        }
    }

    fn act(&self, request: &Request) -> Result<Value, No> {
        let unreadable = |error: serde_json::Error| ("SerializationException", error.to_string());
        match request.action.as_str() {
            "GetSecretValue" => {
                let asked: GetSecretValue =
                    serde_json::from_slice(&request.body).map_err(unreadable)?;
                let found = self.find(SecretKind::Secret, &asked.secret_id);
                let (arn, name, text) = found.ok_or_else(|| {
                    let words = "Secrets Manager can't find the specified secret.";
                    ("ResourceNotFoundException", words.to_owned())
                })?;
                Ok(json!({
                    "ARN": arn,
                    "Name": name,
                    "SecretString": text,
                    "VersionStages": ["AWSCURRENT"],
                }))
            }
            "GetParameter" => {
                let asked: GetParameter =
                    serde_json::from_slice(&request.body).map_err(unreadable)?;
                let found = self.find(SecretKind::Parameter, &asked.name);
                let (arn, name, text) =
                    found.ok_or_else(|| ("ParameterNotFound", String::new()))?;
                let clear = asked.with_decryption == Some(true);
                let value = if clear { text } else { "AQICAHh…".to_owned() };
                Ok(json!({ "Parameter": {
                    "ARN": arn,
                    "Name": name,
                    "Type": "SecureString",
                    "Value": value,
                    "Version": 1,
                }}))
            }
            other => Err((
                "UnknownOperationException",
                format!("The action {other} is not valid."),
            )),
        }
    }

    /// ARN, name and text of what is called so, by either.
    fn find(&self, kind: SecretKind, id: &str) -> Option<(String, String, String)> {
        let kept = self.kept();
        let ((_, arn), (name, text)) = kept
            .iter()
            .find(|((known, arn), (name, _))| *known == kind && (arn == id || name == id))?;
        Some((arn.clone(), name.clone(), text.clone()))
    }

    fn kept(&self) -> MutexGuard<'_, BTreeMap<(SecretKind, String), (String, String)>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
