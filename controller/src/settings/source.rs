//! Where a secret is: in the input itself, or at AWS under the name that the input gives.

use proto::instance::Secret;

use super::BadInput;

/// Where a secret is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Here.
    Given(Secret),
    /// In Secrets Manager.
    SecretsManager {
        /// The secret's ARN.
        arn: String,
        /// Its region.
        region: String,
    },
    /// A parameter of Systems Manager.
    Parameter {
        /// Its name or ARN.
        name: String,
        /// Its region, if that is not the pool's.
        region: Option<String>,
    },
}

impl Source {
    /// Reads an input that is a secret, an ARN, or `ssm:` and a parameter's name.
    pub(super) fn parse(input: &'static str, text: &str) -> Result<Self, BadInput> {
        if let Some(name) = text.strip_prefix("ssm:") {
            return Ok(Self::Parameter {
                name: name.to_owned(),
                region: None,
            });
        }
        if !text.starts_with("arn:") {
            return Ok(Self::Given(Secret::new(text)));
        }
        match text.splitn(6, ':').collect::<Vec<_>>()[..] {
            ["arn", _, "secretsmanager", region, _, resource]
                if !region.is_empty() && resource.starts_with("secret:") =>
            {
                Ok(Self::SecretsManager {
                    arn: text.to_owned(),
                    region: region.to_owned(),
                })
            }
            ["arn", _, "ssm", region, _, resource]
                if !region.is_empty() && resource.starts_with("parameter/") =>
            {
                Ok(Self::Parameter {
                    name: text.to_owned(),
                    region: Some(region.to_owned()),
                })
            }
            _ => Err(BadInput::new(
                input,
                format!("`{text}` names neither a secret nor a parameter"),
                "give the secret itself, arn:aws:secretsmanager:<region>:<account>:secret:<name>, \
                 arn:aws:ssm:<region>:<account>:parameter/<name> or ssm:<name>",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_told_from_names_of_secrets() {
        let parse = |text| Source::parse("github-token", text);
        assert_eq!(parse("ghp_x").unwrap(), Source::Given(Secret::new("ghp_x")));
        let arn = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:ci/pat-AbCdEf";
        assert!(matches!(
            parse(arn).unwrap(),
            Source::SecretsManager { region, .. } if region == "eu-west-1"
        ));
        let arn = "arn:aws:ssm:eu-west-1:123456789012:parameter/ci/pat";
        assert_eq!(
            parse(arn).unwrap(),
            Source::Parameter {
                name: arn.into(),
                region: Some("eu-west-1".into())
            }
        );
        assert!(matches!(
            parse("ssm:/ci/pat").unwrap(),
            Source::Parameter { name, region: None } if name == "/ci/pat"
        ));
        let error = parse("arn:aws:s3:::bucket").unwrap_err();
        assert!(error.to_string().contains("secretsmanager"), "{error}");
    }
}
