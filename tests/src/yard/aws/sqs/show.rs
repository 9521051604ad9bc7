//! Messages as their receivers see them.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};

use super::error::SqsError;
use super::queue::{Message, Receipt};

/// Which attributes a receiver wants to see.
#[derive(Debug, Deserialize)]
pub(super) struct Wanted {
    /// The older of two names for the same.
    #[serde(default, rename = "AttributeNames")]
    system_before: Vec<String>,
    #[serde(default, rename = "MessageSystemAttributeNames")]
    system: Vec<String>,
    #[serde(default, rename = "MessageAttributeNames")]
    own: Vec<String>,
}

/// A receipt handle names the message and the receive.
fn handle(message: &Message) -> String {
    STANDARD.encode(format!("{}#{}", message.id, message.receive_count))
}

/// Reads a receipt handle.
pub(super) fn receipt(handle: &str) -> Result<Receipt, SqsError> {
    let parse = || {
        let text = String::from_utf8(STANDARD.decode(handle).ok()?).ok()?;
        let (message, count) = text.split_once('#')?;
        Some(Receipt {
            message: message.to_owned(),
            count: count.parse().ok()?,
        })
    };
    parse().ok_or_else(|| SqsError::ReceiptHandleIsInvalid(handle.to_owned()))
}

/// A message as its receiver sees it.
pub(super) fn show(message: &Message, asked: &Wanted) -> Value {
    let mut shown = json!({
        "MessageId": message.id,
        "ReceiptHandle": handle(message),
        "Body": message.sent.body,
        "MD5OfBody": message.sent.md5_of_body,
    });
    let first = message.first_received_at.unwrap_or_default();
    let system: BTreeMap<_, _> = [
        ("SenderId", message.sent.sender.clone()),
        ("SentTimestamp", message.sent.at.to_string()),
        ("ApproximateReceiveCount", message.receive_count.to_string()),
        ("ApproximateFirstReceiveTimestamp", first.to_string()),
    ]
    .into_iter()
    .filter(|(name, _)| {
        let system = [&asked.system_before, &asked.system];
        let mut system = system.into_iter().flatten();
        system.any(|asked| asked == "All" || asked == name)
    })
    .collect();
    if !system.is_empty() {
        shown["Attributes"] = json!(system);
    }
    let attributes: BTreeMap<_, _> = message
        .sent
        .attributes
        .iter()
        .filter(|(name, _)| asked.own.iter().any(|asked| wanted(asked, name)))
        .collect();
    if !attributes.is_empty() {
        // The sum is over what is shown; the sender's holds for all of it.
        let all = attributes.len() == message.sent.attributes.len();
        if let Some(sum) = message.sent.md5_of_attributes.as_ref().filter(|_| all) {
            shown["MD5OfMessageAttributes"] = json!(sum);
        }
        shown["MessageAttributes"] = json!(attributes);
    }
    shown
}

/// `All`, a name, or a prefix such as `bar.*`.
fn wanted(asked: &str, name: &str) -> bool {
    asked == "All"
        || asked == name
        || asked
            .strip_suffix(".*")
            .is_some_and(|prefix| name.starts_with(prefix))
}
