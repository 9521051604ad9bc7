//! What a command's policy grants, to be asked of IAM piece by piece.

use std::collections::BTreeMap;

use proto::ids::{Home, PoolName};
use serde::Deserialize;

/// The commands with their policies, as `packaging/iam` has them.
pub const POLICIES: [(&str, &str); 3] = [
    (
        "refresh",
        include_str!("../../../packaging/iam/controller-refresh.json"),
    ),
    (
        "provision",
        include_str!("../../../packaging/iam/controller-provision.json"),
    ),
    (
        "release",
        include_str!("../../../packaging/iam/controller-release.json"),
    ),
];

/// Actions on one resource, under conditions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Such as `dynamodb:Query`.
    pub actions: Vec<String>,
    /// The resource's ARN, or `*`.
    pub resource: String,
    /// What the calls will say of themselves: keys and their values.
    pub context: BTreeMap<String, Vec<String>>,
}

/// The condition key of the machine that its role's credentials are for.
pub const SOURCE: &str = "ec2:SourceInstanceARN";
/// The condition key of the records that a call is about.
pub const LEADING_KEYS: &str = "dynamodb:LeadingKeys";
/// The condition key of the fields that a call names.
pub const ATTRIBUTES: &str = "dynamodb:Attributes";

/// Whether a condition key has several values by its nature.
pub fn is_list(key: &str) -> bool {
    [LEADING_KEYS, ATTRIBUTES].contains(&key)
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Policy {
    statement: Vec<Statement>,
}

impl Policy {
    /// What it demands of a condition key, but for whether it is there.
    pub(super) fn values_of(&self, key: &str) -> Vec<String> {
        let conditions = self.statement.iter().flat_map(|it| &it.condition);
        let demands = conditions.filter(|(operator, _)| *operator != "Null");
        let values = demands.filter_map(|(_, keys)| keys.get(key));
        values.flatten().cloned().collect()
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Statement {
    action: Vec<String>,
    resource: Vec<String>,
    #[serde(default)]
    condition: BTreeMap<String, BTreeMap<String, Vec<String>>>,
}

/// Everything that a policy grants, with the pool's names in their places. What is about the
/// machines' role is left out where that is not known.
///
/// # Errors
///
/// When the document cannot be read.
pub fn grants(
    document: &str,
    pool: &PoolName,
    home: &Home,
    machine_role: Option<&str>,
) -> Result<Vec<Grant>, serde_json::Error> {
    let policy: Policy = serde_json::from_str(document)?;
    let fill = |text: &str| {
        text.replace("{partition}", &home.partition)
            .replace("{region}", &home.region)
            .replace("{account}", &home.account)
            .replace("{pool}", pool.as_str())
            .replace("{machine-role}", machine_role.unwrap_or_default())
    };
    let mut grants = Vec::new();
    for statement in &policy.statement {
        let keys = statement.condition.values().flatten();
        let context: BTreeMap<String, Vec<String>> = keys
            .filter_map(|(key, values)| Some((key.clone(), vec![fill(values.first()?)])))
            .collect();
        for resource in statement.resource.iter().map(|it| fill(it)) {
            if !resource.is_empty() {
                grants.push(Grant {
                    actions: statement.action.clone(),
                    resource,
                    context: context.clone(),
                });
            }
        }
    }
    Ok(grants)
}

/// Whose policies count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Principal {
    /// A role or user, by its ARN.
    Known(String),
    /// The role of a session, whose ARN leaves out the role's path.
    Role {
        /// Its name.
        name: String,
        /// Its ARN, if it has no path.
        at_the_root: String,
    },
}

/// The role or user whose policies count: an assumed role's session is not one.
pub fn principal(caller: &str) -> Principal {
    let parts: Vec<&str> = caller.splitn(6, ':').collect();
    if let [arn, partition, "sts", region, account, session] = parts[..]
        && let Some(role) = session.strip_prefix("assumed-role/")
    {
        let name = role.split('/').next().unwrap_or_default().to_owned();
        return Principal::Role {
            at_the_root: format!("{arn}:{partition}:iam:{region}:{account}:role/{name}"),
            name,
        };
    }
    Principal::Known(caller.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_policy_is_asked_for_with_its_conditions() {
        let home = Home {
            partition: "aws".into(),
            region: "eu-west-1".into(),
            account: "123456789012".into(),
        };
        let pool = "web".parse().unwrap();
        for (command, document) in POLICIES {
            let grants = grants(document, &pool, &home, Some("arn:role")).unwrap();
            let text = format!("{grants:?}");
            assert!(
                !text.contains('{') || !text.contains("{pool}"),
                "{command}: {text}"
            );
            assert!(text.contains("table/paddock-web"), "{command}: {text}");
        }
        let provision = grants(POLICIES[1].1, &pool, &home, None).unwrap();
        let pass = |grant: &&Grant| grant.actions == ["iam:PassRole"];
        assert_eq!(provision.iter().find(pass), None, "the role is not known");
        let ends = |grant: &&Grant| grant.actions == ["ec2:TerminateInstances"];
        let end = provision.iter().find(ends).unwrap();
        let tag = "aws:ResourceTag/paddock:pool".to_owned();
        assert_eq!(end.context, BTreeMap::from([(tag, vec!["web".to_owned()])]));
    }

    #[test]
    fn a_session_has_the_policies_of_its_role() {
        let session = "arn:aws:sts::123456789012:assumed-role/ops/run-7";
        let role = Principal::Role {
            name: "ops".into(),
            at_the_root: "arn:aws:iam::123456789012:role/ops".into(),
        };
        assert_eq!(principal(session), role);
        let user = "arn:aws:iam::123456789012:user/ops";
        assert_eq!(principal(user), Principal::Known(user.into()));
    }
}
