//! A small writer for EC2's XML.

use std::fmt::Display;

use quick_xml::escape::escape;

use super::form::Form;

/// XML under construction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Xml(String);

impl Xml {
    /// A fragment that `write` fills.
    pub(super) fn of(write: impl FnOnce(&mut Self)) -> Self {
        let mut xml = Self::default();
        write(&mut xml);
        xml
    }

    /// A root element in a namespace.
    pub(super) fn document(name: &str, namespace: &str, write: impl FnOnce(&mut Self)) -> Self {
        let mut xml = Self(format!("<{name} xmlns=\"{namespace}\">"));
        write(&mut xml);
        xml.0.push_str("</");
        xml.0.push_str(name);
        xml.0.push('>');
        xml
    }

    /// Bare text.
    pub(super) fn value(&mut self, value: impl Display) -> &mut Self {
        self.0.push_str(&escape(value.to_string()));
        self
    }

    /// `<name>value</name>`
    pub(super) fn text(&mut self, name: &str, value: impl Display) -> &mut Self {
        self.node(name, |xml| {
            xml.value(value);
        })
    }

    /// The same, or nothing.
    pub(super) fn opt(&mut self, name: &str, value: Option<impl Display>) -> &mut Self {
        match value {
            Some(value) => self.text(name, value),
            None => self,
        }
    }

    /// `<name>…</name>` with whatever `write` puts inside.
    pub(super) fn node(&mut self, name: &str, write: impl FnOnce(&mut Self)) -> &mut Self {
        self.0.push('<');
        self.0.push_str(name);
        self.0.push('>');
        write(self);
        self.0.push_str("</");
        self.0.push_str(name);
        self.0.push('>');
        self
    }

    /// `<name><item>…</item>…</name>`, one item for each of `items`.
    pub(super) fn set<T>(
        &mut self,
        name: &str,
        items: impl IntoIterator<Item = T>,
        mut write: impl FnMut(&mut Self, T),
    ) -> &mut Self {
        self.node(name, |xml| {
            for item in items {
                xml.node("item", |xml| write(xml, item));
            }
        })
    }

    /// Gives request parameters back the way answers spell them: names begin
    /// in lower case, and a list is a set of items.
    pub(super) fn echo(&mut self, form: &Form) -> &mut Self {
        for (name, node) in form.children() {
            let name = lower_first(name);
            if node.is_list() && name == "securityGroupId" && form.get("DeviceIndex").is_some() {
                // A network interface calls its security groups something else.
                self.node("groupSet", |xml| {
                    for id in node.elements().into_iter().filter_map(Form::value) {
                        xml.text("groupId", id);
                    }
                });
            } else if node.is_list() {
                self.set(&set_name(&name), node.elements(), |xml, element| {
                    match element.value() {
                        Some(value) => xml.value(value),
                        None => xml.echo(element),
                    };
                });
            } else if let Some(value) = node.value() {
                self.text(&name, value);
            } else {
                self.node(&name, |xml| {
                    xml.echo(node);
                });
            }
        }
        self
    }

    /// Appends another fragment.
    pub(super) fn append(&mut self, other: &Self) -> &mut Self {
        self.0.push_str(&other.0);
        self
    }

    /// The text so far.
    pub(super) fn into_string(self) -> String {
        self.0
    }
}

fn lower_first(name: &str) -> String {
    let mut chars = name.chars();
    chars
        .next()
        .map(|first| first.to_ascii_lowercase().to_string() + chars.as_str())
        .unwrap_or_default()
}

fn set_name(name: &str) -> String {
    // Requests say `Overrides`, answers say `overrides`: those keep their name.
    if name.ends_with('s') {
        name.to_owned()
    } else {
        format!("{name}Set")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_and_escapes() {
        let xml = Xml::of(|xml| {
            xml.text("a", "1 < 2").opt("b", None::<u8>);
            xml.set("cSet", [1, 2], |xml, n| {
                xml.text("n", n);
            });
        });
        assert_eq!(
            xml.into_string(),
            "<a>1 &lt; 2</a><cSet><item><n>1</n></item><item><n>2</n></item></cSet>"
        );
    }

    #[test]
    fn echoes_parameters() {
        let form = Form::parse(b"ImageId=ami-1&SecurityGroupId.1=sg-1&MetadataOptions.HttpTokens=required&TagSpecification.1.Tag.1.Key=k").unwrap();
        let xml = Xml::of(|xml| {
            xml.echo(&form);
        });
        assert_eq!(
            xml.into_string(),
            "<imageId>ami-1</imageId>\
             <metadataOptions><httpTokens>required</httpTokens></metadataOptions>\
             <securityGroupIdSet><item>sg-1</item></securityGroupIdSet>\
             <tagSpecificationSet><item><tagSet><item><key>k</key></item></tagSet></item></tagSpecificationSet>"
        );
    }
}
