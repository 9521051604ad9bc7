//! The keys of the table and of its index.

use std::fmt;

use aws_sdk_dynamodb::types::{
    AttributeDefinition, IndexStatus, KeySchemaElement, KeyType, Projection, ProjectionType,
    ScalarAttributeType, TableDescription,
};

use super::super::odd;
use crate::ports::PortError;

/// Names of attributes, all of them texts, and their parts in a key.
pub(super) type Key = [(&'static str, KeyType); 2];

/// The table's key.
pub(super) const KEY: Key = [("pk", KeyType::Hash), ("sk", KeyType::Range)];
/// The index's.
pub(super) const INDEX_KEY: Key = [("state", KeyType::Hash), ("threshold", KeyType::Range)];

/// Whether no index is on its way.
pub(super) fn is_indexed(table: &TableDescription) -> bool {
    let indexes = table.global_secondary_indexes().iter();
    let mut states = indexes.filter_map(|index| index.index_status());
    states.all(|state| *state == IndexStatus::Active)
}

pub(super) fn has_key(schema: &[KeySchemaElement], key: &Key) -> bool {
    let schema = schema.iter().map(|it| (it.attribute_name(), it.key_type()));
    schema.eq(key.iter().map(|(name, kind)| (*name, kind)))
}

pub(super) fn invalid(error: impl fmt::Display) -> PortError {
    odd("describe the table", None, error.to_string())
}

pub(super) fn keys(key: &Key) -> Result<Vec<KeySchemaElement>, PortError> {
    let element = |(name, kind): &(&str, KeyType)| {
        let element = KeySchemaElement::builder().attribute_name(*name);
        element.key_type(kind.clone()).build().map_err(invalid)
    };
    key.iter().map(element).collect()
}

/// All attributes that a key has.
pub(super) fn attributes() -> Result<Vec<AttributeDefinition>, PortError> {
    let attribute = |(name, _): &(&str, KeyType)| {
        let attribute = AttributeDefinition::builder().attribute_name(*name);
        let attribute = attribute.attribute_type(ScalarAttributeType::S);
        attribute.build().map_err(invalid)
    };
    KEY.iter().chain(&INDEX_KEY).map(attribute).collect()
}

/// The index holds keys alone: the records are read from the table.
pub(super) fn projection() -> Projection {
    Projection::builder()
        .projection_type(ProjectionType::KeysOnly)
        .build()
}
