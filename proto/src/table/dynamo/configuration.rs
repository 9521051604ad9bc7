//! The configuration's items.

use super::{CONFIG, DynamoTable, REFRESH, values};
use crate::{
    config::{Config, ConfigItem},
    ids::ClassName,
    table::TableError,
};

const CLASS_PREFIX: &str = "resource-class#";

/// The sort key of a resource class.
pub(super) fn class_key(name: &ClassName) -> String {
    format!("{CLASS_PREFIX}{name}")
}

impl DynamoTable {
    pub(super) async fn read_config(&self) -> Result<Config, TableError> {
        let operation = "read the configuration";
        let mut config = Config::default();
        for item in self
            .query(
                operation,
                "pk = :pk",
                values([(":pk", CONFIG.to_owned())]),
                None,
            )
            .await?
        {
            let name = item
                .get("sk")
                .and_then(|sk| sk.as_s().ok())
                .cloned()
                .unwrap_or_default();
            match name.as_str() {
                "schema" => config.put(ConfigItem::Schema(self.read(operation, item)?)),
                "launch-template" => {
                    config.put(ConfigItem::LaunchTemplate(self.read(operation, item)?));
                }
                "parameters" => config.put(ConfigItem::Parameters(self.read(operation, item)?)),
                "github-token" => config.put(ConfigItem::GithubTokens(self.read(operation, item)?)),
                REFRESH => config.refresh = Some(self.read(operation, item)?),
                name if name.starts_with(CLASS_PREFIX) => {
                    config.put(ConfigItem::ResourceClass(self.read(operation, item)?));
                }
                // Written by a version that knows more: no business of ours.
                _ => {}
            }
        }
        Ok(config)
    }

    pub(super) async fn write_config(&self, item: &ConfigItem) -> Result<(), TableError> {
        let operation = "write the configuration";
        let keyed = |sk: String| [("pk", CONFIG.to_owned()), ("sk", sk)];
        let item = match item {
            ConfigItem::Schema(schema) => self.write(operation, schema, keyed("schema".into())),
            ConfigItem::LaunchTemplate(template) => {
                self.write(operation, template, keyed("launch-template".into()))
            }
            ConfigItem::ResourceClass(class) => {
                self.write(operation, class, keyed(class_key(&class.name)))
            }
            ConfigItem::Parameters(parameters) => {
                self.write(operation, parameters, keyed("parameters".into()))
            }
            ConfigItem::GithubTokens(tokens) => {
                self.write(operation, tokens, keyed("github-token".into()))
            }
        }?;
        self.client
            .put_item()
            .table_name(&self.name)
            .set_item(Some(item))
            .send()
            .await
            .map_err(self.refused(operation))?;
        Ok(())
    }
}
