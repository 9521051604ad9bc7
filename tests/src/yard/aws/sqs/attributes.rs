//! The attributes of a queue: their names, defaults and limits.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;

use super::error::SqsError;

/// Attributes that are numbers: name, default, smallest, largest.
const NUMBERS: [(&str, u64, u64, u64); 5] = [
    ("DelaySeconds", 0, 0, 900),
    ("MaximumMessageSize", 1 << 20, 1024, 1 << 20),
    ("MessageRetentionPeriod", 345_600, 60, 1_209_600),
    ("ReceiveMessageWaitTimeSeconds", 0, 0, 20),
    ("VisibilityTimeout", 30, 0, 43_200),
];

/// Attributes that are kept as they are.
const TEXTS: [&str; 6] = [
    "KmsDataKeyReusePeriodSeconds",
    "KmsMasterKeyId",
    "Policy",
    "RedriveAllowPolicy",
    "RedrivePolicy",
    "SqsManagedSseEnabled",
];

/// The attributes that the owner of a queue can set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Attributes(BTreeMap<String, String>);

/// Where messages go that nobody could handle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Redrive {
    pub(super) target: String,
    pub(super) max_receive_count: u32,
}

impl Default for Attributes {
    fn default() -> Self {
        let numbers = NUMBERS
            .iter()
            .map(|&(name, default, ..)| (name.to_owned(), default.to_string()));
        let managed = ("SqsManagedSseEnabled".to_owned(), "true".to_owned());
        Self(numbers.chain([managed]).collect())
    }
}

impl Attributes {
    /// Changes some; all or none.
    pub(super) fn set(&mut self, changes: &BTreeMap<String, String>) -> Result<(), SqsError> {
        for (name, value) in changes {
            check(name, value)?;
        }
        self.0.extend(changes.clone());
        Ok(())
    }

    /// The first of `wanted` that is not the case here.
    pub(super) fn difference(&self, wanted: &BTreeMap<String, String>) -> Option<String> {
        wanted
            .iter()
            .find(|(name, value)| self.0.get(*name) != Some(value))
            .map(|(name, _)| name.clone())
    }

    /// All of them, by name.
    pub(super) fn all(&self) -> &BTreeMap<String, String> {
        &self.0
    }

    pub(super) fn seconds(&self, name: &str) -> Duration {
        Duration::from_secs(self.number(name))
    }

    pub(super) fn number(&self, name: &str) -> u64 {
        // What stands in the map was checked on its way in.
        self.0
            .get(name)
            .and_then(|value| value.parse().ok())
            .unwrap_or_default()
    }

    pub(super) fn redrive(&self) -> Option<Redrive> {
        parse_redrive(self.0.get("RedrivePolicy")?)
    }
}

fn check(name: &str, value: &str) -> Result<(), SqsError> {
    let invalid = || SqsError::InvalidAttributeValue(name.to_owned());
    if name == "FifoQueue" {
        let refusal = "this yard has standard queues only".to_owned();
        return Err(SqsError::UnsupportedOperation(refusal));
    }
    if let Some(&(.., least, most)) = NUMBERS.iter().find(|(known, ..)| *known == name) {
        let number: u64 = value.parse().map_err(|_| invalid())?;
        return if (least..=most).contains(&number) {
            Ok(())
        } else {
            Err(invalid())
        };
    }
    if !TEXTS.contains(&name) {
        return Err(SqsError::InvalidAttributeName(name.to_owned()));
    }
    if name == "RedrivePolicy" && !value.is_empty() && parse_redrive(value).is_none() {
        return Err(invalid());
    }
    Ok(())
}

fn parse_redrive(policy: &str) -> Option<Redrive> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Policy {
        dead_letter_target_arn: String,
        max_receive_count: Count,
    }
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Count {
        Number(u32),
        Text(String),
    }
    let policy: Policy = serde_json::from_str(policy).ok()?;
    Some(Redrive {
        target: policy.dead_letter_target_arn,
        max_receive_count: match policy.max_receive_count {
            Count::Number(number) => number,
            Count::Text(text) => text.parse().ok()?,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(name: &str, value: &str) -> BTreeMap<String, String> {
        BTreeMap::from([(name.to_owned(), value.to_owned())])
    }

    #[test]
    fn names_and_values_are_checked() {
        let mut attributes = Attributes::default();
        assert_eq!(attributes.set(&one("VisibilityTimeout", "45")), Ok(()));
        assert_eq!(attributes.number("VisibilityTimeout"), 45);
        assert_eq!(
            attributes.set(&one("VisibilityTimeout", "-1")),
            Err(SqsError::InvalidAttributeValue("VisibilityTimeout".into()))
        );
        assert_eq!(
            attributes.set(&one("Colour", "red")),
            Err(SqsError::InvalidAttributeName("Colour".into()))
        );
        assert!(attributes.set(&one("FifoQueue", "true")).is_err());
        assert_eq!(attributes.difference(&one("DelaySeconds", "0")), None);
    }

    #[test]
    fn a_redrive_policy_may_spell_its_count_either_way() {
        for count in ["3", "\"3\""] {
            let policy = format!(r#"{{"deadLetterTargetArn":"arn:q","maxReceiveCount":{count}}}"#);
            let redrive = parse_redrive(&policy).unwrap();
            assert_eq!(redrive.max_receive_count, 3);
        }
    }
}
