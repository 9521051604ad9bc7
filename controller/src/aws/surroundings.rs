//! What doctor looks at and no other command does.

use async_trait::async_trait;
use aws_config::SdkConfig;
use proto::config::LaunchTemplate;
use serde::Deserialize;

use super::{Clients, failed, odd, query::Service};
use crate::{
    doctor::{
        Caller, Parts, Surroundings,
        permissions::{Grant, is_list},
    },
    ports::PortError,
};

const STS: Service = Service {
    name: "sts",
    version: "2011-06-15",
};
const IAM: Service = Service {
    name: "iam",
    version: "2010-05-08",
};

/// AWS, as far as doctor looks.
#[derive(Clone, Debug)]
pub struct AwsSurroundings {
    config: SdkConfig,
    clients: Clients,
}

impl AwsSurroundings {
    /// As this configuration describes it.
    pub fn new(config: SdkConfig) -> Self {
        let clients = Clients::new(&config);
        Self { config, clients }
    }
}

#[derive(Deserialize)]
struct Identified {
    #[serde(rename = "GetCallerIdentityResult")]
    result: Identity,
}

#[derive(Deserialize)]
struct Identity {
    #[serde(rename = "Arn")]
    arn: String,
}

#[derive(Deserialize)]
struct Profiled {
    #[serde(rename = "GetInstanceProfileResult")]
    result: ProfileResult,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ProfileResult {
    instance_profile: Profile,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Profile {
    roles: List<Role>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Role {
    arn: String,
}

#[derive(Deserialize)]
struct FoundRole {
    #[serde(rename = "GetRoleResult")]
    result: RoleResult,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RoleResult {
    role: Role,
}

#[derive(Deserialize)]
struct Simulated {
    #[serde(rename = "SimulatePrincipalPolicyResult")]
    result: Simulation,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Simulation {
    evaluation_results: List<Evaluation>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Evaluation {
    eval_action_name: String,
    eval_decision: String,
}

#[derive(Deserialize)]
struct List<T> {
    #[serde(default = "Vec::new")]
    member: Vec<T>,
}

fn read<'a, T: Deserialize<'a>>(operation: &str, xml: &'a str) -> Result<T, PortError> {
    quick_xml::de::from_str(xml).map_err(|error| odd(operation, None, error.to_string()))
}

fn pair(name: impl Into<String>, value: impl Into<String>) -> (String, String) {
    (name.into(), value.into())
}

#[async_trait]
impl Surroundings for AwsSurroundings {
    async fn caller(&self) -> Result<Caller, PortError> {
        let answer = STS.call(&self.config, "GetCallerIdentity", &[]).await?;
        let identified: Identified = read("ask whose the credentials are", &answer.xml)?;
        Ok(Caller {
            arn: identified.result.arn,
            time: answer.date,
        })
    }

    async fn parts(&self, template: &LaunchTemplate) -> Result<Parts, PortError> {
        let call = self.clients.ec2.describe_launch_template_versions();
        let call = call.launch_template_id(&template.id);
        let answer = call.versions(template.version.to_string()).send().await;
        let operation = format!("read version {} of {}", template.version, template.id);
        let answer = answer.map_err(failed(&operation))?;
        let data = answer
            .launch_template_versions()
            .first()
            .and_then(|version| version.launch_template_data())
            .ok_or_else(|| odd(&operation, None, "it has no content"))?;
        let profile = data.iam_instance_profile();
        let profile = profile.and_then(|profile| profile.name().or(profile.arn()));
        Ok(Parts {
            security_groups: data.security_group_ids().to_vec(),
            instance_profile: profile.map(str::to_owned),
        })
    }

    async fn subnets(&self, ids: &[String]) -> Result<(), PortError> {
        let call = self.clients.ec2.describe_subnets();
        let found = call.set_subnet_ids(Some(ids.to_vec())).send().await;
        found.map(drop).map_err(failed("find all subnets"))
    }

    async fn security_groups(&self, ids: &[String]) -> Result<(), PortError> {
        let call = self.clients.ec2.describe_security_groups();
        let found = call.set_group_ids(Some(ids.to_vec())).send().await;
        found.map(drop).map_err(failed("find all security groups"))
    }

    async fn role_of_profile(&self, profile: &str) -> Result<Option<String>, PortError> {
        // An ARN ends with the path and the name.
        let name = profile.rsplit('/').next().unwrap_or(profile);
        let name = [pair("InstanceProfileName", name)];
        let answer = IAM.call(&self.config, "GetInstanceProfile", &name).await?;
        let profiled: Profiled = read("read the instance profile", &answer.xml)?;
        let mut roles = profiled.result.instance_profile.roles.member.into_iter();
        Ok(roles.next().map(|role| role.arn))
    }

    async fn role(&self, name: &str) -> Result<String, PortError> {
        let name = [pair("RoleName", name)];
        let answer = IAM.call(&self.config, "GetRole", &name).await?;
        let found: FoundRole = read("read the role", &answer.xml)?;
        Ok(found.result.role.arn)
    }

    async fn denied(&self, principal: &str, grant: &Grant) -> Result<Vec<String>, PortError> {
        let mut asked = vec![
            pair("PolicySourceArn", principal),
            pair("ResourceArns.member.1", &grant.resource),
        ];
        for (number, action) in (1..).zip(&grant.actions) {
            asked.push(pair(format!("ActionNames.member.{number}"), action));
        }
        for (number, (key, values)) in (1..).zip(&grant.context) {
            let entry = format!("ContextEntries.member.{number}.ContextKey");
            let kind = if is_list(key) { "stringList" } else { "string" };
            asked.push(pair(format!("{entry}Name"), key));
            asked.push(pair(format!("{entry}Type"), kind));
            for (number, value) in (1..).zip(values) {
                asked.push(pair(format!("{entry}Values.member.{number}"), value));
            }
        }
        let answer = IAM
            .call(&self.config, "SimulatePrincipalPolicy", &asked)
            .await?;
        let simulated: Simulated = read("read what IAM allows", &answer.xml)?;
        let results = simulated.result.evaluation_results.member.into_iter();
        let denied = results.filter(|result| result.eval_decision != "allowed");
        Ok(denied.map(|result| result.eval_action_name).collect())
    }
}
