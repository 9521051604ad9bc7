//! A policy, and whether it allows an access.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use serde::Deserialize;
use wildmatch::WildMatch;

use super::access::{Access, Account};

/// A policy document: what is not allowed is forbidden.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct Policy {
    #[serde(rename = "Version")]
    _version: Version,
    statement: Vec<Statement>,
}

#[derive(Clone, Debug, Deserialize)]
enum Version {
    #[serde(rename = "2012-10-17")]
    Newest,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Statement {
    #[serde(rename = "Sid")]
    _sid: String,
    #[serde(rename = "Effect")]
    _effect: Effect,
    action: Vec<String>,
    resource: Vec<String>,
    #[serde(default)]
    condition: BTreeMap<String, BTreeMap<String, Vec<String>>>,
}

#[derive(Clone, Debug, Deserialize)]
enum Effect {
    Allow,
}

impl Policy {
    /// Reads a document.
    ///
    /// # Errors
    ///
    /// When it has anything that is not understood here, so that nothing is judged wrongly.
    pub fn parse(text: &[u8]) -> io::Result<Self> {
        serde_json::from_slice(text).map_err(io::Error::other)
    }

    /// Everything that it grants.
    pub fn actions(&self) -> BTreeSet<String> {
        let statements = self.statement.iter();
        statements.flat_map(|one| one.action.clone()).collect()
    }

    /// Whether a statement allows this to a caller on the machine with the ARN `source`, if it is
    /// on one.
    pub(super) fn allows(&self, access: &Access, account: &Account, source: Option<&str>) -> bool {
        self.statement.iter().any(|one| {
            let mut actions = one.action.iter();
            actions.any(|it| WildMatch::new(it).matches(&access.action))
                && access.resource.as_ref().is_none_or(|resource| {
                    let mut patterns = one.resource.iter();
                    patterns
                        .any(|pattern| WildMatch::new(&filled(pattern, account)).matches(resource))
                })
                && one.condition.iter().all(|(operator, keys)| {
                    let mut keys = keys.iter();
                    keys.all(|(key, values)| holds(operator, key, values, access, source))
                })
        })
    }
}

/// A resource with the places filled that an operator fills; any pool will do.
fn filled(pattern: &str, account: &Account) -> String {
    pattern
        .replace("{partition}", "aws")
        .replace("{region}", &account.region)
        .replace("{account}", &account.id)
        .replace("{pool}", "*")
        .replace("{machine-role}", "arn:aws:iam::*:role/*")
}

fn holds(
    operator: &str,
    key: &str,
    values: &[String],
    access: &Access,
    source: Option<&str>,
) -> bool {
    match (operator, key) {
        ("ForAllValues:StringEquals", "dynamodb:LeadingKeys") => {
            let (true, Some(own), Some(keys)) =
                (values == ["${ec2:SourceInstanceARN}"], source, &access.keys)
            else {
                return false;
            };
            keys.iter().all(|key| key == own)
        }
        ("Null", "dynamodb:LeadingKeys") => {
            values == ["false"] && access.keys.as_ref().is_some_and(|keys| !keys.is_empty())
        }
        ("ForAllValues:StringEquals", "dynamodb:Attributes") => {
            let named = access.attributes.as_ref();
            named.is_some_and(|named| named.iter().all(|name| values.contains(name)))
        }
        ("Null", "dynamodb:Attributes") => {
            let named = access.attributes.as_ref();
            values == ["false"] && named.is_some_and(|named| !named.is_empty())
        }
        // They are about EC2's resources, or about calls that AWS makes by itself.
        (
            "StringEquals",
            "aws:RequestTag/paddock:pool"
            | "aws:ResourceTag/paddock:pool"
            | "ssm:resourceTag/paddock:pool"
            | "ec2:CreateAction"
            | "cloudwatch:namespace"
            | "iam:PassedToService"
            | "iam:AWSServiceName",
        ) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: &str = r#"{
        "Version": "2012-10-17",
        "Statement": [{
            "Sid": "OwnRow",
            "Effect": "Allow",
            "Action": ["dynamodb:GetItem"],
            "Resource": ["arn:{partition}:dynamodb:{region}:{account}:table/paddock-{pool}"],
            "Condition": {
                "ForAllValues:StringEquals": {
                    "dynamodb:LeadingKeys": ["${ec2:SourceInstanceARN}"]
                }
            }
        }]
    }"#;

    #[test]
    fn a_machine_reaches_its_own_row_of_a_pools_table() {
        let policy = Policy::parse(POLICY.as_bytes()).expect("a policy");
        let account = Account {
            region: "us-east-1".to_owned(),
            id: "1".to_owned(),
        };
        let allows = |action: &str, table: &str, keys: Option<&[&str]>, source: &str| {
            let access = Access {
                action: action.to_owned(),
                resource: Some(format!("arn:aws:dynamodb:us-east-1:1:table/{table}")),
                keys: keys.map(|keys| keys.iter().map(ToString::to_string).collect()),
                attributes: None,
            };
            policy.allows(&access, &account, Some(source))
        };
        let get = "dynamodb:GetItem";
        assert!(allows(get, "paddock-x", Some(&["me"]), "me"));
        assert!(!allows(get, "paddock-x", Some(&["other"]), "me"));
        assert!(!allows(get, "paddock-x", Some(&["me", "other"]), "me"));
        assert!(!allows(get, "paddock-x", None, "me"));
        assert!(!allows(get, "payroll", Some(&["me"]), "me"));
        assert!(!allows("dynamodb:Query", "paddock-x", Some(&["me"]), "me"));
    }
}
