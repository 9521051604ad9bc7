//! Names and ids as types: what cannot be valid cannot be built.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A text that is no valid id of its kind.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no valid {kind}: {allowed}")]
pub struct InvalidId {
    /// What it should have been.
    pub kind: &'static str,
    /// What was given, at most 80 characters of it.
    pub text: String,
    /// What is allowed.
    pub allowed: &'static str,
}

/// A newtype over a checked text. `valid` tells whether a text is one, `allowed` says it in words.
macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $allowed:literal, $valid:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The text itself.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                let valid: fn(&str) -> bool = $valid;
                if valid(text) {
                    Ok(Self(text.to_owned()))
                } else {
                    Err(InvalidId {
                        kind: $kind,
                        text: text.chars().take(80).collect(),
                        allowed: $allowed,
                    })
                }
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;

            fn try_from(text: String) -> Result<Self, InvalidId> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

fn made_of(text: &str, longest: usize, extra: &str) -> bool {
    !text.is_empty()
        && text.len() <= longest
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || extra.contains(c))
}

text_id!(
    /// An EC2 instance id: `i-0123456789abcdef0`.
    InstanceId,
    "instance id",
    "`i-` and 8 to 17 hexadecimal digits",
    |text| text
        .strip_prefix("i-")
        .is_some_and(|hex| (8..=17).contains(&hex.len()) && hex.chars().all(|c| c.is_ascii_hexdigit()))
);

text_id!(
    /// A workflow run at GitHub: `github.run_id`.
    RunId,
    "run id",
    "a number, as in GITHUB_RUN_ID",
    |text| made_of(text, 20, "") && text.chars().all(|c| c.is_ascii_digit())
);

text_id!(
    /// What jobs put in `runs-on`: the run id, or `<run id>-<name>`.
    ///
    /// GitHub splits labels at commas and limits them to 256 characters.
    Label,
    "label",
    "letters, digits, `.`, `_` and `-`, at most 100 of them",
    |text| made_of(text, 100, "._-")
);

text_id!(
    /// The `name` input: tells several provisions of one workflow apart.
    ProvisionName,
    "name",
    "letters, digits, `.`, `_` and `-`, at most 64 of them",
    |text| made_of(text, 64, "._-")
);

text_id!(
    /// A pool's name. It stands in the names of a table, a launch template and queues; an SQS
    /// queue's name allows the fewest characters (80, no dot).
    PoolName,
    "pool name",
    "letters, digits, `_` and `-`, at most 48 of them",
    |text| made_of(text, 48, "_-")
);

text_id!(
    /// The name of a resource class, such as `large`. Without a hyphen, so that a queue's name
    /// (`paddock-<pool>-<class>`) tells one pool and class.
    ClassName,
    "resource class name",
    "letters, digits and `_`, at most 20 of them",
    |text| made_of(text, 20, "_")
);

impl Label {
    /// The label of a run's provision. In lower case, since GitHub does not tell labels apart by
    /// case.
    pub fn of(run: &RunId, name: Option<&ProvisionName>) -> Self {
        Self(match name {
            None => run.to_string(),
            Some(name) => format!("{run}-{}", name.as_str().to_ascii_lowercase()),
        })
    }

    /// The run that it was made of.
    pub fn run(&self) -> Option<RunId> {
        self.0.split('-').next()?.parse().ok()
    }
}

impl PoolName {
    /// The default pool of a repository `owner/repo` (or of an organisation `owner`): its name
    /// with a hyphen for each character that a pool name cannot have, cut to the longest allowed.
    ///
    /// # Errors
    ///
    /// When the repository's name is empty.
    pub fn default_of(repository: &str) -> Result<Self, InvalidId> {
        repository
            .chars()
            .map(|c| {
                if c.is_ascii_alphanumeric() || c == '_' {
                    c
                } else {
                    '-'
                }
            })
            .take(48)
            .collect::<String>()
            .parse()
    }

    /// The name of the pool's table and of its launch template.
    pub fn resource_name(&self) -> String {
        format!("paddock-{self}")
    }

    /// The name of the queue that lists the pool's idle machines of a class.
    pub fn queue_name(&self, class: &ClassName) -> String {
        format!("paddock-{self}-{class}")
    }
}

/// The account and region that a pool lives in, as the table's ARN tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Home {
    /// `aws`, `aws-cn`, `aws-us-gov` …
    pub partition: String,
    /// Such as `eu-central-1`.
    pub region: String,
    /// Twelve digits.
    pub account: String,
}

impl Home {
    /// Reads partition, region and account out of any ARN that has them.
    ///
    /// # Errors
    ///
    /// When the text is no ARN with a region and an account.
    pub fn of_arn(arn: &str) -> Result<Self, InvalidId> {
        match arn.split(':').collect::<Vec<_>>()[..] {
            ["arn", partition, _, region, account, _, ..]
                if ![partition, region, account].contains(&"") =>
            {
                Ok(Self {
                    partition: partition.to_owned(),
                    region: region.to_owned(),
                    account: account.to_owned(),
                })
            }
            _ => Err(InvalidId {
                kind: "ARN",
                text: arn.chars().take(80).collect(),
                allowed: "arn:<partition>:<service>:<region>:<account>:<resource>",
            }),
        }
    }

    /// The partition of a region: every region's name tells it.
    pub fn partition_of(region: &str) -> &'static str {
        match region {
            r if r.starts_with("cn-") => "aws-cn",
            r if r.starts_with("us-gov-") => "aws-us-gov",
            _ => "aws",
        }
    }
}

/// An instance's ARN: the partition key of its record.
///
/// IAM can confine a machine to this key (`dynamodb:LeadingKeys` = `${ec2:SourceInstanceARN}`), so
/// a job that steals the instance role reaches no other machine's record.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct InstanceArn {
    text: String,
    id: InstanceId,
}

impl InstanceArn {
    /// The ARN of an instance in a pool's home.
    pub fn new(home: &Home, id: &InstanceId) -> Self {
        let Home {
            partition,
            region,
            account,
        } = home;
        Self {
            text: format!("arn:{partition}:ec2:{region}:{account}:instance/{id}"),
            id: id.clone(),
        }
    }

    /// The instance's id, its last part.
    pub fn id(&self) -> &InstanceId {
        &self.id
    }

    /// The whole ARN.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl TryFrom<String> for InstanceArn {
    type Error = InvalidId;

    fn try_from(text: String) -> Result<Self, InvalidId> {
        let home = Home::of_arn(&text)?;
        let (_, id) = text.rsplit_once(":instance/").ok_or_else(|| InvalidId {
            kind: "instance ARN",
            text: text.chars().take(80).collect(),
            allowed: "arn:<partition>:ec2:<region>:<account>:instance/<id>",
        })?;
        Ok(Self::new(&home, &id.parse()?))
    }
}

impl From<InstanceArn> for String {
    fn from(arn: InstanceArn) -> Self {
        arn.text
    }
}

impl fmt::Display for InstanceArn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_arn_holds_its_instance() {
        let text = "arn:aws:ec2:us-east-1:123456789012:instance/i-0123456789abcdef0";
        let arn = InstanceArn::try_from(text.to_owned()).unwrap();
        assert_eq!(arn.id().as_str(), "i-0123456789abcdef0");
        let table = "arn:aws:dynamodb:us-east-1:123456789012:table/paddock-x";
        assert_eq!(
            InstanceArn::new(&Home::of_arn(table).unwrap(), arn.id()),
            arn
        );
    }

    #[test]
    fn what_is_no_id_is_refused_with_words() {
        let error = "i-xyz".parse::<InstanceId>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "`i-xyz` is no valid instance id: `i-` and 8 to 17 hexadecimal digits"
        );
        assert!("a,b".parse::<Label>().is_err());
        assert!("".parse::<PoolName>().is_err());
        assert!("12a".parse::<RunId>().is_err());
        assert!(Home::of_arn("arn:aws:s3:::bucket").is_err());
    }

    #[test]
    fn a_repository_names_its_pool() {
        assert_eq!(
            PoolName::default_of("acme/web.site").unwrap().as_str(),
            "acme-web-site"
        );
    }

    #[test]
    fn a_label_is_the_run_with_its_name() {
        let run = "42".parse().unwrap();
        assert_eq!(Label::of(&run, None).as_str(), "42");
        assert_eq!(
            Label::of(&run, Some(&"GPU".parse().unwrap())).as_str(),
            "42-gpu"
        );
        for label in ["42", "42-gpu", "42-a-b"] {
            assert_eq!(label.parse::<Label>().unwrap().run().as_ref(), Some(&run));
        }
        assert_eq!("mine".parse::<Label>().unwrap().run(), None);
    }
}
