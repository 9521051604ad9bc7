//! The MD5 sums that clients check.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::error::SqsError;

/// An attribute of a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct MessageAttribute {
    data_type: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    string_value: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    binary_value: Option<String>,
}

pub(super) fn of_body(body: &str) -> String {
    hex(body.as_bytes())
}

/// The sum over all attributes, or nothing when there are none.
pub(super) fn of_attributes(
    attributes: &BTreeMap<String, MessageAttribute>,
) -> Result<Option<String>, SqsError> {
    if attributes.is_empty() {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    for (name, attribute) in attributes {
        put(&mut bytes, name.as_bytes());
        put(&mut bytes, attribute.data_type.as_bytes());
        match (&attribute.string_value, &attribute.binary_value) {
            (Some(text), None) => {
                bytes.push(1);
                put(&mut bytes, text.as_bytes());
            }
            (None, Some(binary)) => {
                bytes.push(2);
                put(&mut bytes, &STANDARD.decode(binary).map_err(|_| bad(name))?);
            }
            (None, None) | (Some(_), Some(_)) => return Err(bad(name)),
        }
    }
    Ok(Some(hex(&bytes)))
}

fn bad(name: &str) -> SqsError {
    SqsError::InvalidParameterValue(format!(
        "The message attribute '{name}' must contain exactly one non-empty value."
    ))
}

fn put(bytes: &mut Vec<u8>, part: &[u8]) {
    let length = u32::try_from(part.len()).unwrap_or(u32::MAX);
    bytes.extend(length.to_be_bytes());
    bytes.extend(part);
}

fn hex(bytes: &[u8]) -> String {
    format!("{:x}", md5::compute(bytes))
}
