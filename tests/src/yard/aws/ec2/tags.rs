//! Tags of all resources, by the resource's id.

use std::collections::BTreeMap;

use super::super::form::Form;
use super::super::xml::Xml;
use super::error::Ec2Error;
use super::filter::Filters;
use super::{Answer, State};

/// The tags of one resource.
pub(super) type TagMap = BTreeMap<String, String>;

/// All tags.
#[derive(Debug, Default)]
pub(super) struct Tags(BTreeMap<String, TagMap>);

impl Tags {
    pub(super) fn of(&self, id: &str) -> &TagMap {
        static NONE: TagMap = TagMap::new();
        self.0.get(id).unwrap_or(&NONE)
    }

    pub(super) fn add(&mut self, id: &str, tags: TagMap) {
        self.0.entry(id.to_owned()).or_default().extend(tags);
    }

    pub(super) fn forget(&mut self, id: &str) {
        self.0.remove(id);
    }

    /// Writes `<tagSet>`.
    pub(super) fn show(&self, id: &str, xml: &mut Xml) {
        xml.set("tagSet", self.of(id), |xml, (key, value)| {
            xml.text("key", key).text("value", value);
        });
    }
}

/// The tags in a list of keys and values.
pub(super) fn read(list: &[&Form]) -> Result<TagMap, Ec2Error> {
    list.iter()
        .map(|tag| {
            let key = tag
                .text("Key")
                .ok_or_else(|| Ec2Error::missing("Tag.Key"))?;
            if key.starts_with("aws:") || key.is_empty() || key.chars().count() > 128 {
                return Err(Ec2Error::invalid("Tag.Key", key));
            }
            let value = tag.text("Value").unwrap_or_default();
            if value.chars().count() > 256 {
                return Err(Ec2Error::invalid("Tag.Value", value));
            }
            Ok((key.to_owned(), value.to_owned()))
        })
        .collect()
}

/// The tags that a request has for one type of resource.
pub(super) fn specified(form: &Form, resource_type: &str) -> Result<TagMap, Ec2Error> {
    let mut tags = TagMap::new();
    for specification in form.list("TagSpecification") {
        if specification.text("ResourceType") == Some(resource_type) {
            tags.extend(read(&specification.list("Tag"))?);
        }
    }
    Ok(tags)
}

fn resource_type(id: &str) -> &'static str {
    match id.split('-').next() {
        Some("i") => "instance",
        Some("lt") => "launch-template",
        Some("fleet") => "fleet",
        Some("subnet") => "subnet",
        Some("sg") => "security-group",
        Some("vpc") => "vpc",
        Some("ami") => "image",
        _ => "unknown",
    }
}

impl State {
    pub(super) fn create_tags(&mut self, form: &Form) -> Answer {
        let tags = read(&form.list("Tag"))?;
        let resources = form.texts("ResourceId");
        for id in &resources {
            if id.starts_with("i-") && self.instances.find(id).is_none() {
                return Err(Ec2Error::new(
                    "InvalidID",
                    format!("The ID '{id}' is not valid"),
                ));
            }
        }
        for id in resources {
            self.tags.add(id, tags.clone());
        }
        Ok(Xml::of(|xml| {
            xml.text("return", true);
        }))
    }

    pub(super) fn describe_tags(&mut self, form: &Form) -> Answer {
        let filters = Filters::parse(form)?;
        let all = self.tags.0.iter().flat_map(|(id, tags)| {
            tags.iter()
                .map(move |(key, value)| (id.as_str(), key.as_str(), value.as_str()))
        });
        let found = filters.keep(all, |filters, (id, key, value)| {
            let own = TagMap::from([((*key).to_owned(), (*value).to_owned())]);
            filters.admit(&own, |name| match name {
                "resource-id" => Some(vec![(*id).to_owned()]),
                "resource-type" => Some(vec![resource_type(id).to_owned()]),
                "key" => Some(vec![(*key).to_owned()]),
                "value" => Some(vec![(*value).to_owned()]),
                _ => None,
            })
        })?;
        Ok(Xml::of(|xml| {
            xml.set("tagSet", found, |xml, (id, key, value)| {
                xml.text("resourceId", id)
                    .text("resourceType", resource_type(id))
                    .text("key", key)
                    .text("value", value);
            });
        }))
    }
}
