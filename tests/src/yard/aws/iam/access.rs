//! Which permissions a call takes.
//!
//! Most calls take the permission of their own name. The others stand in [`of`], each as the
//! "Actions, resources, and condition keys" pages of AWS's Service Authorization Reference have
//! it.

use std::collections::BTreeSet;
use std::fmt;

use serde_json::Value;

use crate::yard::aws::form::Form;
use crate::yard::aws::service::Request;

/// Where everything is.
#[derive(Clone, Debug)]
pub struct Account {
    /// Such as `us-east-1`.
    pub region: String,
    /// Its number.
    pub id: String,
}

impl Account {
    fn arn(&self, service: &str, resource: &str) -> String {
        format!("arn:aws:{service}:{}:{}:{resource}", self.region, self.id)
    }

    pub(super) fn instance(&self, id: &str) -> String {
        self.arn("ec2", &format!("instance/{id}"))
    }
}

/// One permission that is needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Access {
    /// Such as `dynamodb:UpdateItem`.
    pub(super) action: String,
    /// The resource, where it can be told.
    pub(super) resource: Option<String>,
    /// The partition keys; none where the call tells none or they cannot be told.
    pub(super) keys: Option<BTreeSet<String>>,
    /// The attributes that an update names, in what it writes and in its conditions.
    pub(super) attributes: Option<BTreeSet<String>>,
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.action)?;
        if let Some(resource) = &self.resource {
            write!(f, " on {resource}")?;
        }
        if let Some(keys) = &self.keys {
            write!(f, " with the keys {keys:?}")?;
        }
        if let Some(attributes) = &self.attributes {
            write!(f, " naming {attributes:?}")?;
        }
        Ok(())
    }
}

/// What a call takes.
pub(super) fn of(request: &Request, account: &Account) -> Vec<Access> {
    match request.service.as_str() {
        "dynamodb" => dynamodb(request, account),
        "sqs" => sqs(request, account),
        "ec2" => ec2(request),
        "secretsmanager" => vec![secret(request)],
        "ssm" if request.action == "SendCommand" => commands(request, account),
        "ssm" if request.action.contains("Command") => {
            vec![named(format!("ssm:{}", request.action))]
        }
        "ssm" => vec![parameter(request, account)],
        "monitoring" => vec![named(format!("cloudwatch:{}", request.action))],
        // Anybody may ask who he is.
        "sts" => Vec::new(),
        other => vec![named(format!("{other}:{}", request.action))],
    }
}

/// Sending takes leave for the document and for each machine.
fn commands(request: &Request, account: &Account) -> Vec<Access> {
    let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
    let document = body["DocumentName"].as_str().unwrap_or_default();
    let document = account.arn("ssm", &format!("document/{document}"));
    let machines = body["InstanceIds"].as_array().into_iter().flatten();
    let machines = machines.filter_map(|id| Some(account.instance(id.as_str()?)));
    std::iter::once(document)
        .chain(machines)
        .map(|resource| Access {
            resource: Some(resource),
            ..named("ssm:SendCommand")
        })
        .collect()
}

fn named(action: impl Into<String>) -> Access {
    Access {
        action: action.into(),
        resource: None,
        keys: None,
        attributes: None,
    }
}

/// What counts for `dynamodb:Attributes` in an update: the attributes of its key, of what it writes
/// and of its conditions, in today's form of the call and in the one from before expressions.
fn attributes(update: &Value) -> BTreeSet<String> {
    let names = &update["ExpressionAttributeNames"];
    let maps = ["Key", "AttributeUpdates", "Expected"];
    let keys = maps.into_iter().filter_map(|map| update[map].as_object());
    let keys = keys.flat_map(|map| map.keys().cloned());
    let expressions = ["UpdateExpression", "ConditionExpression"];
    let expressions = expressions.into_iter().filter_map(|it| update[it].as_str());
    keys.chain(expressions.flat_map(|expression| named_in(expression, names)))
        .collect()
}

/// The top-level attributes that an expression names.
fn named_in(expression: &str, names: &Value) -> BTreeSet<String> {
    const WORDS: [&str; 9] = [
        "SET", "REMOVE", "ADD", "DELETE", "AND", "OR", "NOT", "BETWEEN", "IN",
    ];
    let is_in_word = |c: char| c.is_ascii_alphanumeric() || "_#:.".contains(c);
    let mut found = BTreeSet::new();
    let mut rest = expression;
    while let Some(start) = rest.find(is_in_word) {
        let word = &rest[start..];
        let end = word.find(|c| !is_in_word(c)).unwrap_or(word.len());
        let (word, after) = word.split_at(end);
        rest = after;
        let is_function = after.trim_start().starts_with('(');
        // Of a path the first part; there is none after an index.
        let name = word.split('.').next().unwrap_or_default();
        let is_no_name = name.is_empty()
            || name.starts_with(|c: char| c == ':' || c.is_ascii_digit())
            || is_function
            || WORDS.iter().any(|word| word.eq_ignore_ascii_case(name));
        if !is_no_name {
            found.insert(names[name].as_str().unwrap_or(name).to_owned());
        }
    }
    found
}

fn dynamodb(request: &Request, account: &Account) -> Vec<Access> {
    let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
    let one = |action: &str, table: &Value, index: Option<&str>, keys| Access {
        action: format!("dynamodb:{action}"),
        resource: table.as_str().map(|name| {
            let index = index.map_or_else(String::new, |index| format!("/index/{index}"));
            account.arn("dynamodb", &format!("table/{name}{index}"))
        }),
        keys,
        attributes: None,
    };
    let partition = |key: &Value| {
        let key = key["pk"]["S"].as_str()?.to_owned();
        Some(BTreeSet::from([key]))
    };
    let table = &body["TableName"];
    match request.action.as_str() {
        // A table that is made with tags is tagged, too.
        "CreateTable" => vec![
            one("CreateTable", table, None, None),
            one("TagResource", table, None, None),
        ],
        "PutItem" => vec![one("PutItem", table, None, partition(&body["Item"]))],
        action @ ("GetItem" | "DeleteItem") => {
            vec![one(action, table, None, partition(&body["Key"]))]
        }
        "UpdateItem" => vec![Access {
            attributes: Some(attributes(&body)),
            ..one("UpdateItem", table, None, partition(&body["Key"]))
        }],
        "Query" => vec![one("Query", table, body["IndexName"].as_str(), None)],
        "BatchGetItem" => {
            let tables = body["RequestItems"].as_object().into_iter().flatten();
            let access = tables.map(|(table, wanted)| {
                let keys = wanted["Keys"].as_array().into_iter().flatten();
                let keys: Option<BTreeSet<String>> = keys
                    .map(|key| key["pk"]["S"].as_str().map(str::to_owned))
                    .collect();
                one("BatchGetItem", &table.as_str().into(), None, keys)
            });
            access.collect()
        }
        // Each of its parts takes the permission of the call that would make it alone.
        "TransactWriteItems" => {
            let parts = body["TransactItems"].as_array().into_iter().flatten();
            let parts = parts.filter_map(Value::as_object).flatten();
            let access = parts.map(|(kind, part)| {
                let keys = partition(&part["Key"]).or_else(|| partition(&part["Item"]));
                one(&format!("{kind}Item"), &part["TableName"], None, keys)
            });
            access.collect()
        }
        action => vec![one(action, table, None, None)],
    }
}

fn sqs(request: &Request, account: &Account) -> Vec<Access> {
    let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
    let url = body["QueueUrl"].as_str();
    let name = body["QueueName"]
        .as_str()
        .or_else(|| url.and_then(|url| url.rsplit('/').next()));
    let resource = name.map(|name| account.arn("sqs", name));
    // A batch takes the permission of the single call.
    let action = request.action.trim_end_matches("Batch");
    let mut actions = vec![action];
    if action == "CreateQueue" && body["tags"].is_object() {
        actions.push("TagQueue");
    }
    let access = actions.into_iter().map(|action| Access {
        resource: resource.clone(),
        ..named(format!("sqs:{action}"))
    });
    access.collect()
}

/// A secret is named by its ARN; a name alone tells no resource.
fn secret(request: &Request) -> Access {
    let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
    let id = body["SecretId"].as_str().map(str::to_owned);
    Access {
        resource: id.filter(|id| id.starts_with("arn:")),
        ..named(format!("secretsmanager:{}", request.action))
    }
}

fn parameter(request: &Request, account: &Account) -> Access {
    let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
    let resource = body["Name"].as_str().map(|name| {
        if name.starts_with("arn:") {
            name.to_owned()
        } else {
            account.arn(
                "ssm",
                &format!("parameter/{}", name.trim_start_matches('/')),
            )
        }
    });
    Access {
        resource,
        ..named(format!("ssm:{}", request.action))
    }
}

fn ec2(request: &Request) -> Vec<Access> {
    let form = Form::parse(&request.body).unwrap_or_default();
    let mut actions = vec![format!("ec2:{}", request.action)];
    match request.action.as_str() {
        // An instant fleet launches in the caller's name: machines from the template, which have
        // its instance profile. Spot needs a role of Spot's own, made by the first who comes.
        "CreateFleet" => {
            actions
                .extend(["ec2:RunInstances", "ec2:CreateTags", "iam:PassRole"].map(str::to_owned));
            let kind = form.text("TargetCapacitySpecification.DefaultTargetCapacityType");
            if kind == Some("spot") {
                actions.push("iam:CreateServiceLinkedRole".to_owned());
            }
        }
        "CreateLaunchTemplate" => actions.push("ec2:CreateTags".to_owned()),
        _ => {}
    }
    actions.into_iter().map(named).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn whatever_an_update_names_counts() {
        let named = |update: Value| {
            attributes(&update)
                .into_iter()
                .collect::<Vec<_>>()
                .join(" ")
        };
        let today = json!({
            "Key": {"pk": {"S": "a"}, "sk": {"S": "b"}},
            "UpdateExpression": "SET #h = :v0, beats=beats+:one,list[0].x=if_not_exists(old, :v) \
                                 REMOVE #t.#inner, plain",
            "ConditionExpression": "attribute_exists(#p) AND NOT size ( body )>:n and #s IN (:a, other)",
            "ExpressionAttributeNames": {"#h": "heartbeat", "#t": "threshold", "#p": "pk", "#s": "state"},
        });
        assert_eq!(
            named(today),
            "beats body heartbeat list old other pk plain sk state threshold"
        );
        let before = json!({
            "Key": {"pk": {"S": "a"}},
            "AttributeUpdates": {"threshold": {}},
            "Expected": {"label": {}},
        });
        assert_eq!(named(before), "label pk threshold");
    }
}
