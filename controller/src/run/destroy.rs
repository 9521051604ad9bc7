//! Destroy: inputs → what there is → a question → its end.

use std::{
    io::{self, IsTerminal, Write},
    sync::Arc,
};

use proto::{config::SCHEMA_VERSION, ids::PoolName, table::dynamo::DynamoTable};

use super::{RunError, github::Github};
use crate::{
    aws::{
        Clients, demolition::AwsDemolition, fleet::Ec2Fleet, pool::SqsPool, schema::DynamoAdmin,
    },
    destroy::{DestroyPorts, Inventory, destroy},
    exit::Exit,
    inputs::DestroyInputs,
    output::Console,
    ports::Forge,
    refresh::Refused,
    settings::{BadInput, Common, github::GithubSettings},
};

pub(super) async fn run(inputs: &DestroyInputs, console: &Console) -> Result<Exit, RunError> {
    let Common { region, pool } = Common::new(&inputs.common)?;
    let login = GithubSettings::optional(&inputs.common, &inputs.github)?;
    let confirmed = confirms(inputs.confirm.as_deref(), &pool)?;
    let sdk = proto::aws::sdk_config(Some(region)).await;
    let forge: Option<Arc<dyn Forge>> = match &login {
        None => {
            console.say("no login for GitHub is given: its runners are left to it");
            None
        }
        Some(login) => Some(Arc::new(Github::open(login, &sdk, console).await?.forge)),
    };
    let clients = Clients::new(&sdk);
    let table = pool.resource_name();
    let ports = DestroyPorts {
        admin: Arc::new(DynamoAdmin::new(clients.dynamo.clone(), &table)),
        table: Arc::new(DynamoTable::new(&clients.dynamo, &table)),
        pool: Arc::new(SqsPool::new(clients.sqs.clone())),
        fleet: Arc::new(Ec2Fleet::new(clients.ec2.clone())),
        forge,
        clock: Arc::new(clients.clock.clone()),
        demolition: Arc::new(AwsDemolition::new(clients, table)),
    };
    let (inventory, config) = Inventory::of(&pool, &ports).await?;
    console.masks().hide_tokens_of(&config);
    if let Some(schema) = config
        .schema
        .as_ref()
        .filter(|s| s.version > SCHEMA_VERSION)
    {
        return Err(Refused::Newer(schema.version).into());
    }
    let lines = inventory.lines();
    if lines.is_empty() {
        console.say(format!("there is nothing of a pool {pool}"));
        return Ok(Exit::Done);
    }
    for line in &lines {
        console.say(line);
    }
    let users = inventory.users();
    let in_use = !users.is_empty() && !inputs.force;
    if inputs.dry_run {
        if in_use {
            console.say(RunError::InUse(users));
        }
        return Ok(Exit::Done);
    }
    if in_use {
        return Err(RunError::InUse(users));
    }
    if !inputs.yes && !confirmed && !agreed(pool.as_str())? {
        console.say("nothing is destroyed");
        return Ok(Exit::Failed);
    }
    let holder = uuid::Uuid::new_v4().simple().to_string();
    let mut say = |line: &str| console.say(line);
    let left = destroy(&pool, &users, &config, &holder, &ports, &mut say).await?;
    if left.is_empty() {
        console.say(format!("pool {pool} is gone"));
        Ok(Exit::Done)
    } else {
        for line in left {
            console.say(format!("left: {line}"));
        }
        Err(RunError::Standing)
    }
}

/// Whether the pool's name is given for an answer.
fn confirms(name: Option<&str>, pool: &PoolName) -> Result<bool, BadInput> {
    match name.map(str::trim) {
        None | Some("") => Ok(false),
        Some(name) if name == pool.as_str() => Ok(true),
        Some(name) => Err(BadInput {
            input: "confirm",
            wrong: format!("is `{name}`, which is not the pool's name"),
            allowed: format!("`{pool}` destroys all of it"),
        }),
    }
}

/// Whether somebody at the terminal types the pool's name.
fn agreed(pool: &str) -> Result<bool, BadInput> {
    if !io::stdin().is_terminal() {
        return Err(BadInput {
            input: "confirm",
            wrong: "is missing, and there is no terminal to ask at".to_owned(),
            allowed: format!("`{pool}` as `confirm`, or --yes, destroys all of the above"),
        });
    }
    let mut line = String::new();
    let asked = write!(io::stderr(), "type {pool} to destroy all of it: ")
        .and_then(|()| io::stdin().read_line(&mut line));
    Ok(asked.is_ok() && line.trim() == pool)
}
