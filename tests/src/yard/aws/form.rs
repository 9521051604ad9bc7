//! The parameters of a call in the EC2 query protocol, as a tree.
//!
//! On the wire they are flat: `TagSpecification.1.Tag.2.Key=a`. A number is an
//! element of a list, counted from one.

use std::collections::BTreeMap;
use std::str::FromStr;

/// Deeper than any request of EC2 goes.
const MAX_DEPTH: usize = 16;

/// One node: a value, or children by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Form {
    value: Option<String>,
    children: BTreeMap<String, Form>,
}

/// A parameter that cannot be understood.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed {
    /// The parameter's path.
    pub(super) name: String,
    /// What stood there.
    pub(super) value: String,
}

impl Form {
    /// Reads an `application/x-www-form-urlencoded` body.
    pub(super) fn parse(body: &[u8]) -> Result<Self, Malformed> {
        let mut root = Self::default();
        for pair in body.split(|byte| *byte == b'&').filter(|p| !p.is_empty()) {
            let (name, value) = match pair.iter().position(|byte| *byte == b'=') {
                Some(at) => (&pair[..at], &pair[at + 1..]),
                None => (pair, &[][..]),
            };
            root.insert(&decode(name), decode(value))?;
        }
        Ok(root)
    }

    /// Sets the value at a dotted path.
    pub(super) fn insert(&mut self, path: &str, value: String) -> Result<(), Malformed> {
        if path.split('.').count() > MAX_DEPTH {
            return Err(Malformed {
                name: path.chars().take(80).collect(),
                value,
            });
        }
        let mut node = self;
        for part in path.split('.') {
            node = node.children.entry(part.to_owned()).or_default();
        }
        node.value = Some(value);
        Ok(())
    }

    /// The node at a dotted path.
    pub(super) fn get(&self, path: &str) -> Option<&Self> {
        path.split('.')
            .try_fold(self, |node, part| node.children.get(part))
    }

    /// The text at a dotted path.
    pub(super) fn text(&self, path: &str) -> Option<&str> {
        self.get(path)?.value.as_deref()
    }

    /// The text at a dotted path as a number, a Boolean …
    pub(super) fn parsed<T: FromStr>(&self, path: &str) -> Result<Option<T>, Malformed> {
        self.text(path)
            .map(|text| {
                text.parse().map_err(|_| Malformed {
                    name: path.to_owned(),
                    value: text.to_owned(),
                })
            })
            .transpose()
    }

    /// Whether the text at a dotted path is `true`.
    pub(super) fn flag(&self, path: &str) -> bool {
        self.text(path) == Some("true")
    }

    /// The elements of the list at a dotted path, in order.
    pub(super) fn list(&self, path: &str) -> Vec<&Self> {
        self.get(path).map(Self::elements).unwrap_or_default()
    }

    /// The texts of the list at a dotted path, in order.
    pub(super) fn texts(&self, path: &str) -> Vec<&str> {
        self.list(path)
            .into_iter()
            .filter_map(|element| element.value.as_deref())
            .collect()
    }

    /// This node's own value.
    pub(super) fn value(&self) -> Option<&str> {
        self.value.as_deref()
    }

    /// The named children.
    pub(super) fn children(&self) -> impl Iterator<Item = (&str, &Self)> {
        self.children
            .iter()
            .map(|(name, node)| (name.as_str(), node))
    }

    /// Whether this node is a list.
    pub(super) fn is_list(&self) -> bool {
        !self.children.is_empty() && self.children.keys().all(|name| name.parse::<u32>().is_ok())
    }

    /// The elements of this node, when it is a list.
    pub(super) fn elements(&self) -> Vec<&Self> {
        let mut numbered: Vec<(u32, &Self)> = self
            .children
            .iter()
            .filter_map(|(name, node)| Some((name.parse().ok()?, node)))
            .collect();
        numbered.sort_by_key(|(number, _)| *number);
        numbered.into_iter().map(|(_, node)| node).collect()
    }

    /// This node with `over`'s children in the place of its own of those names.
    pub(super) fn overlaid(&self, over: &Self) -> Self {
        let mut merged = self.clone();
        merged.children.extend(over.children.clone());
        merged
    }

    /// The flat form again, for sending it on.
    pub(super) fn encode(&self) -> String {
        let mut pairs = Vec::new();
        self.flatten("", &mut pairs);
        pairs.join("&")
    }

    fn flatten(&self, path: &str, pairs: &mut Vec<String>) {
        if let Some(value) = &self.value {
            pairs.push(format!("{}={}", encode(path), encode(value)));
        }
        for (name, node) in &self.children {
            let path = if path.is_empty() {
                name.clone()
            } else {
                format!("{path}.{name}")
            };
            node.flatten(&path, pairs);
        }
    }
}

fn decode(text: &[u8]) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, tail @ ..] = rest {
        rest = tail;
        match (*first, hex_pair(tail)) {
            (b'+', _) => bytes.push(b' '),
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            (other, _) => bytes.push(other),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn hex_pair(text: &[u8]) -> Option<u8> {
    let digits = std::str::from_utf8(text.get(..2)?).ok()?;
    u8::from_str_radix(digits, 16).ok()
}

fn encode(text: &str) -> String {
    use std::fmt::Write as _;

    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flat_names_become_a_tree() {
        let form = Form::parse(b"Action=A&L.2.K=b&L.10.K=c&L.1.K=a%2Bb+c&Flag=true&N=x").unwrap();
        assert_eq!(form.text("Action"), Some("A"));
        let keys: Vec<_> = form.list("L").iter().map(|e| e.text("K")).collect();
        assert_eq!(keys, [Some("a+b c"), Some("b"), Some("c")]);
        assert!(form.flag("Flag"));
        assert_eq!(form.parsed::<u32>("Absent"), Ok(None));
        assert!(form.parsed::<u32>("N").is_err());
        assert_eq!(Form::parse(form.encode().as_bytes()).unwrap(), form);
    }

    #[test]
    fn hostile_input_is_an_error_or_text() {
        assert!(Form::parse("a.".repeat(10_000).as_bytes()).is_err());
        assert_eq!(Form::parse(b"a=%zz&=&%").unwrap().text("a"), Some("%zz"));
    }
}
