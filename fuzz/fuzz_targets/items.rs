//! Items of the table, in DynamoDB's JSON: read or refused as whatever they may be, and what is read
//! is written back as it was.
#![no_main]

use std::{collections::HashMap, fmt::Debug, time::Duration};

use aws_sdk_dynamodb::{primitives::Blob, types::AttributeValue};
use libfuzzer_sys::fuzz_target;
use proto::{
    config::{GithubTokens, LaunchTemplate, Parameters, RefreshJournal, ResourceClass, Schema},
    instance::InstanceRecord,
    provision::ProvisionRecord,
    signal::Report,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};

/// Past whatever deadline.
const NEVER: Duration = Duration::MAX;

type Item = HashMap<String, AttributeValue>;

fuzz_target!(|json: &str| {
    let Ok(map) = serde_json::from_str::<Map<String, Value>>(json) else {
        return;
    };
    let Some(item) = map
        .iter()
        .map(|(name, value)| Some((name.clone(), attribute(value)?)))
        .collect::<Option<Item>>()
    else {
        return;
    };
    if let Some(record) = check::<InstanceRecord>(&item) {
        let now = record.threshold.unwrap_or(record.since) + NEVER;
        assert!(!record.beats(now, Duration::ZERO) || record.heartbeat >= Some(now));
        let detail = record
            .report
            .and_then(|report| report.detail)
            .unwrap_or_default();
        assert!(Report::cut_detail(&detail).len() <= Report::LONGEST_DETAIL);
    }
    if let Some(record) = check::<ProvisionRecord>(&item) {
        assert_eq!(record.lent().len(), record.machines().count());
        assert!(record.phase.is_open() || !record.is_orphaned(record.beat + NEVER));
    }
    if let Some(parameters) = check::<Parameters>(&item) {
        assert!(parameters.stay() >= parameters.idle_time());
        assert!(parameters.created_timeout() >= parameters.fleet_timeout());
    }
    if let Some(tokens) = check::<GithubTokens>(&item) {
        assert!(tokens.is_half_over(tokens.expires_at));
    }
    if let Some(journal) = check::<RefreshJournal>(&item) {
        assert!(!journal.is_held(journal.since + NEVER) || journal.until.is_some());
    }
    check::<Schema>(&item);
    check::<LaunchTemplate>(&item);
    check::<ResourceClass>(&item);
});

fn check<T: Serialize + DeserializeOwned + PartialEq + Debug>(item: &Item) -> Option<T> {
    let record: T = serde_dynamo::from_item(item.clone()).ok()?;
    let written: Item = serde_dynamo::to_item(&record).expect("what was read has a form");
    let again: T = serde_dynamo::from_item(written).expect("our own");
    assert_eq!(again, record);
    Some(record)
}

/// `{"S": "text"}`, `{"M": {"name": {"N": "1"}}}` …
fn attribute(value: &Value) -> Option<AttributeValue> {
    let (kind, value) = value.as_object()?.iter().next()?;
    let text = || value.as_str().map(str::to_owned);
    let texts = || -> Option<Vec<String>> {
        let each = value.as_array()?.iter();
        each.map(|one| one.as_str().map(str::to_owned)).collect()
    };
    let blob = |text: String| Blob::new(text.into_bytes());
    Some(match kind.as_str() {
        "S" => AttributeValue::S(text()?),
        "N" => AttributeValue::N(text()?),
        "B" => AttributeValue::B(blob(text()?)),
        "BOOL" => AttributeValue::Bool(value.as_bool()?),
        "NULL" => AttributeValue::Null(value.as_bool()?),
        "SS" => AttributeValue::Ss(texts()?),
        "NS" => AttributeValue::Ns(texts()?),
        "BS" => AttributeValue::Bs(texts()?.into_iter().map(blob).collect()),
        "L" => {
            let each = value.as_array()?.iter();
            AttributeValue::L(each.map(attribute).collect::<Option<_>>()?)
        }
        "M" => {
            let each = value.as_object()?.iter();
            let each = each.map(|(name, value)| Some((name.clone(), attribute(value)?)));
            AttributeValue::M(each.collect::<Option<_>>()?)
        }
        _ => return None,
    })
}
