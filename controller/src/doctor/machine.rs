//! Whether the machines' role is as narrow as `packaging/iam/machine.json`: whoever gets hold of it
//! must reach one record alone, and of that the agent's part alone.

use std::collections::{BTreeMap, BTreeSet};

use proto::ids::{Home, InstanceArn, InstanceId, PoolName};

use super::permissions::{ATTRIBUTES, Grant, LEADING_KEYS, POLICIES, Policy, SOURCE, grants};

const MACHINE: &str = include_str!("../../../packaging/iam/machine.json");
const DESTROY: &str = include_str!("../../../packaging/iam/controller-destroy.json");
/// Fields that only the controller writes: with them a job would extend its time, or take over.
const CONTROLLERS: [&str; 4] = ["generation", "label", "state", "threshold"];
/// Of the controller's actions, those of these services could harm the pool.
const HARMFUL: [&str; 6] = ["dynamodb", "ec2", "iam", "secretsmanager", "sqs", "ssm"];
/// What AWS publishes there anybody may read.
const PUBLIC: &str = "parameter/aws/";

/// What to ask of IAM about the machines' role.
#[derive(Clone, Debug)]
pub struct Question {
    /// The actions, and on what.
    pub grant: Grant,
    /// Whether the machines need it; all else they must not do.
    pub needed: bool,
    /// On what, in words.
    pub on: String,
}

/// All questions.
///
/// # Errors
///
/// When a policy cannot be read.
pub fn questions(
    pool: &PoolName,
    home: &Home,
    role: &str,
) -> Result<Vec<Question>, serde_json::Error> {
    let policy: Policy = serde_json::from_str(MACHINE)?;
    let writable = policy.values_of(ATTRIBUTES);
    let [own, other] = ["i-00000000000000001", "i-00000000000000002"];
    let row = |id: &str| id.parse().map(|id: InstanceId| InstanceArn::new(home, &id));
    let (Ok(own), Ok(other)) = (row(own), row(other)) else {
        return Ok(Vec::new());
    };
    let table = format!(
        "arn:{}:dynamodb:{}:{}:table/{}",
        home.partition,
        home.region,
        home.account,
        pool.resource_name()
    );
    let on_row = |action: &str, row: &InstanceArn, attributes: &[String]| Grant {
        actions: vec![action.to_owned()],
        resource: table.clone(),
        context: BTreeMap::from([
            (SOURCE.to_owned(), vec![own.to_string()]),
            (LEADING_KEYS.to_owned(), vec![row.to_string()]),
            (ATTRIBUTES.to_owned(), attributes.to_vec()),
        ]),
    };
    let ask = |grant: Grant, needed: bool, on: String| Question { grant, needed, on };
    let mut questions = Vec::new();
    for action in ["dynamodb:GetItem", "dynamodb:UpdateItem"] {
        for (row, needed, on) in [
            (&own, true, "its own record"),
            (&other, false, "other machines' records"),
        ] {
            questions.push(ask(on_row(action, row, &writable), needed, on.to_owned()));
        }
    }
    for field in CONTROLLERS {
        let with = ["pk", "sk", field].map(str::to_owned);
        let on = format!("`{field}` of its own record");
        questions.push(ask(on_row("dynamodb:UpdateItem", &own, &with), false, on));
    }
    let documents = POLICIES.iter().map(|(_, document)| *document);
    let mut merged: BTreeMap<_, BTreeSet<String>> = BTreeMap::new();
    for document in documents.chain([DESTROY]) {
        for grant in grants(document, pool, home, Some(role))? {
            let harmful = |action: &String| HARMFUL.iter().any(|it| action.starts_with(it));
            let actions = grant.actions.into_iter().filter(harmful);
            if !grant.resource.contains(PUBLIC) {
                let known = merged.entry((grant.resource, grant.context)).or_default();
                known.extend(actions);
            }
        }
    }
    for ((resource, context), actions) in merged {
        let on = resource.clone();
        let actions: Vec<String> = actions.into_iter().collect();
        if !actions.is_empty() {
            let grant = Grant {
                actions,
                resource,
                context,
            };
            questions.push(ask(grant, false, on));
        }
    }
    Ok(questions)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_only_the_controller_may_is_asked_for() {
        let home = Home {
            partition: "aws".into(),
            region: "eu-west-1".into(),
            account: "123456789012".into(),
        };
        let questions = questions(&"web".parse().unwrap(), &home, "arn:role").unwrap();
        let needed: Vec<&Question> = questions.iter().filter(|it| it.needed).collect();
        assert_eq!(needed.len(), 2);
        for it in needed {
            assert!(it.grant.context[ATTRIBUTES].contains(&"heartbeat".to_owned()));
        }
        let about: BTreeSet<&str> = questions
            .iter()
            .filter(|it| !it.needed)
            .flat_map(|it| it.grant.actions.iter().map(String::as_str))
            .collect();
        for action in [
            "dynamodb:DeleteTable",
            "dynamodb:GetItem",
            "dynamodb:UpdateItem",
            "ec2:RunInstances",
            "ec2:TerminateInstances",
            "iam:PassRole",
            "secretsmanager:GetSecretValue",
            "sqs:ReceiveMessage",
        ] {
            assert!(about.contains(action), "{action}: {about:?}");
        }
        assert!(!about.contains("cloudwatch:PutMetricData"));
    }
}
