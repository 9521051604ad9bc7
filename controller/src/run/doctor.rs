//! Doctor: inputs → looks → findings → exit code.

use std::{collections::BTreeSet, sync::Arc};

use proto::{
    ids::{Home, PoolName},
    table::dynamo::DynamoTable,
    time::SystemClock,
};

use super::{RunError, github::Github};
use crate::{
    aws::{
        Clients, fleet::Ec2Fleet, pool::SqsPool, schema::DynamoAdmin, surroundings::AwsSurroundings,
    },
    doctor::{
        DoctorPorts, Findings, Health, Seen, Surroundings, examine,
        machine::{self, Question},
        permissions::{POLICIES, Principal, grants, principal},
    },
    exit::Exit,
    github::release::Wanted,
    inputs::DoctorInputs,
    output::{Console, chain},
    ports::Forge,
    settings::{BadInput, Common, github::GithubSettings},
};

pub(super) async fn run(inputs: &DoctorInputs, console: &Console) -> Result<Exit, RunError> {
    let Common { region, pool } = Common::new(&inputs.common)?;
    let login = GithubSettings::optional(&inputs.common, &inputs.github)?;
    let commands = commands(inputs)?;
    let role = role(inputs)?;
    let sdk = proto::aws::sdk_config(Some(region.clone())).await;
    let mut findings = Findings::default();
    let github = match &login {
        None => None,
        Some(login) => match Github::open(login, &sdk, console).await {
            Ok(github) => Some(github),
            Err(error @ RunError::Input(_)) => return Err(error),
            Err(error) => {
                findings.add("GitHub", Health::Ill, chain(&error));
                None
            }
        },
    };
    let clients = Clients::new(&sdk);
    let name = pool.resource_name();
    let surroundings = Arc::new(AwsSurroundings::new(sdk.clone()));
    let ports = DoctorPorts {
        admin: Arc::new(DynamoAdmin::new(clients.dynamo.clone(), &name)),
        table: Arc::new(DynamoTable::new(&clients.dynamo, &name)),
        pool: Arc::new(SqsPool::new(clients.sqs)),
        fleet: Arc::new(Ec2Fleet::new(clients.ec2)),
        forge: github.as_ref().map(|github| &github.forge as &dyn Forge),
        surroundings: surroundings.clone(),
        clock: Arc::new(SystemClock),
        masks: console.masks(),
    };
    let (found, seen) = examine(&pool, &ports).await;
    findings.extend(found);
    if let (Some(github), Some(runner)) = (&github, &seen.runner)
        && let Ok(version) = runner.version.parse()
    {
        match github.outdated(Wanted::Pinned(version)).await {
            Ok(None) => findings.add("runner program", Health::Well, &*runner.version),
            Ok(Some(why)) | Err(why) => findings.add("runner program", Health::Doubtful, why),
        }
    }
    let role = match (role, &seen.caller) {
        (Some(role), _) => Some(role.to_owned()),
        (None, Some(caller)) => Some(role_of(caller, surroundings.as_ref(), &mut findings).await),
        (None, None) => None,
    };
    if let Some(role) = role {
        let asked = Asked {
            role,
            region,
            pool,
            seen,
        };
        for command in commands {
            asked
                .may(command, surroundings.as_ref(), &mut findings)
                .await;
        }
        if let Some(role) = &asked.seen.machine_role {
            asked
                .is_narrow(role, surroundings.as_ref(), &mut findings)
                .await;
        }
    }
    for finding in findings.all() {
        console.say(finding);
    }
    let ill = findings.all().iter().filter(|it| it.health == Health::Ill);
    match ill.count() {
        0 => Ok(Exit::Done),
        ill => Err(RunError::Ill(ill)),
    }
}

/// The role or user that is asked about, if one is named.
fn role(inputs: &DoctorInputs) -> Result<Option<&str>, BadInput> {
    let role = inputs.role.as_deref().map(str::trim);
    let Some(role) = role.filter(|role| !role.is_empty()) else {
        return Ok(None);
    };
    let parts: Vec<&str> = role.splitn(6, ':').collect();
    if let ["arn", _, "iam", _, _, name] = parts[..]
        && (name.starts_with("role/") || name.starts_with("user/"))
    {
        return Ok(Some(role));
    }
    Err(BadInput {
        input: "role",
        wrong: format!("`{role}` is no ARN of a role or user"),
        allowed: "give one such as arn:aws:iam::123456789012:role/ci".to_owned(),
    })
}

/// The role or user of the credentials.
async fn role_of(caller: &str, surroundings: &dyn Surroundings, findings: &mut Findings) -> String {
    match principal(caller) {
        Principal::Known(arn) => arn,
        Principal::Role { name, at_the_root } => match surroundings.role(&name).await {
            Ok(arn) => arn,
            Err(error) => {
                let words = format!(
                    "whether {name} has a path is not known; if it has, give --role its ARN ({})",
                    chain(&error)
                );
                findings.add("role", Health::Doubtful, words);
                at_the_root
            }
        },
    }
}

/// The commands whose permissions are asked for.
fn commands(inputs: &DoctorInputs) -> Result<Vec<(&'static str, &'static str)>, BadInput> {
    let text = inputs.commands.as_deref().unwrap_or("refresh");
    let words = text.split(|c: char| c.is_whitespace() || c == ',');
    words
        .filter(|word| !word.is_empty())
        .map(|word| {
            let known = POLICIES.into_iter().find(|(name, _)| *name == word);
            known.ok_or_else(|| BadInput {
                input: "commands",
                wrong: format!("`{word}` is none"),
                allowed: "give some of refresh, provision and release".to_owned(),
            })
        })
        .collect()
}

/// Whose permissions are asked for, and for what.
struct Asked {
    role: String,
    region: String,
    pool: PoolName,
    seen: Seen,
}

impl Asked {
    /// Where a role's account has the pool.
    fn home(&self, role: &str) -> Option<Home> {
        let parts: Vec<&str> = role.split(':').collect();
        let ["arn", partition, "iam", _, account, _] = parts[..] else {
            return None;
        };
        Some(Home {
            partition: partition.to_owned(),
            region: self.region.clone(),
            account: account.to_owned(),
        })
    }

    /// Whether the machines' role may do what it needs and nothing that harms the pool, as far as
    /// IAM's simulation tells.
    async fn is_narrow(
        &self,
        role: &str,
        surroundings: &dyn Surroundings,
        findings: &mut Findings,
    ) {
        const ABOUT: &str = "machines' role";
        let Some(home) = self.home(role) else {
            let words = format!("{role} is no role");
            return findings.add(ABOUT, Health::Doubtful, words);
        };
        let questions = match machine::questions(&self.pool, &home, role) {
            Ok(questions) => questions,
            Err(error) => return findings.add(ABOUT, Health::Ill, error.to_string()),
        };
        let (mut lacks, mut may) = (Vec::new(), Vec::new());
        for Question { grant, needed, on } in &questions {
            let denied = match surroundings.denied(role, grant).await {
                Ok(denied) => denied,
                Err(error) => {
                    let words = format!("what it may do is not known: {}", chain(&error));
                    return findings.add(ABOUT, Health::Doubtful, words);
                }
            };
            let (list, odd): (&mut Vec<String>, Vec<String>) = if *needed {
                (&mut lacks, denied)
            } else {
                let allowed = |action: &&String| !denied.contains(action);
                let allowed = grant.actions.iter().filter(allowed).cloned();
                (&mut may, allowed.collect())
            };
            list.extend((!odd.is_empty()).then(|| format!("{} on {on}", odd.join(", "))));
        }
        if lacks.is_empty() && may.is_empty() {
            let words = format!("{role} reaches its machine's own record alone");
            findings.add(ABOUT, Health::Well, words);
        }
        for (what, list) in [
            ("lacks", lacks),
            ("should not be allowed, for jobs could get hold of it,", may),
        ] {
            if !list.is_empty() {
                let words = format!(
                    "{role} {what} {}: compare it with packaging/iam/machine.json",
                    list.join("; ")
                );
                findings.add(ABOUT, Health::Doubtful, words);
            }
        }
    }

    async fn may(
        &self,
        (command, document): (&str, &str),
        surroundings: &dyn Surroundings,
        findings: &mut Findings,
    ) {
        let about = format!("permissions for {command}");
        let Some(home) = self.home(&self.role) else {
            let words = format!("{} is no role or user: give --role its ARN", self.role);
            return findings.add(about, Health::Doubtful, words);
        };
        let machine_role = self.seen.machine_role.as_deref();
        let grants = match grants(document, &self.pool, &home, machine_role) {
            Ok(grants) => grants,
            Err(error) => return findings.add(about, Health::Ill, error.to_string()),
        };
        let mut missing = BTreeSet::new();
        for grant in &grants {
            match surroundings.denied(&self.role, grant).await {
                Ok(denied) => missing.extend(denied),
                Err(error) => {
                    let words = format!("not known: {}", chain(&error));
                    return findings.add(about, Health::Doubtful, words);
                }
            }
        }
        if missing.is_empty() {
            findings.add(about, Health::Well, format!("{} has all", self.role));
        } else {
            let missing: Vec<String> = missing.into_iter().collect();
            let words = format!("{} lacks {}", self.role, missing.join(", "));
            findings.add(about, Health::Ill, words);
        }
    }
}
