//! Destroy: takes down all that refresh made.
//!
//! The launch template goes first, so that nothing is launched any more; then the machines, until
//! EC2 shows none; then what registers and lists them. The table is last: as long as it stands, a
//! destroy that failed can be repeated. A machine that EC2 did not show in time finds no table and
//! switches itself off.

mod inventory;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use proto::{
    config::{Config, RefreshJournal},
    ids::{InstanceId, PoolName},
    table::{Outcome, Table, TableError},
    time::{Clock, Time},
};

pub use self::inventory::Inventory;
use self::inventory::short;
use crate::{
    output::chain,
    ports::{Deleted, Fleet, Forge, Pool, PortError, Unknown},
    refresh::table::{TableAdmin, TableTrouble},
};

/// How often EC2 is asked whether a machine is left.
const LOOKS: usize = 10;
/// Between two of these looks.
const PAUSE: Duration = Duration::from_secs(1);
/// For so long no refresh may begin: what is taken down one by one, some hundred runners, is done
/// by then.
const LEASE: Duration = Duration::from_mins(10);

/// Taking down what no other command does.
#[async_trait]
pub trait Demolition: Send + Sync {
    /// The queues of the pool, whether its configuration knows them or not.
    async fn queues(&self, pool: &PoolName) -> Result<Vec<String>, PortError>;

    /// Deletes a launch template with all its versions. One that is gone is no error.
    async fn delete_template(&self, id: &str) -> Result<(), PortError>;

    /// Deletes the pool's table. One that is gone is no error.
    async fn delete_table(&self) -> Result<(), PortError>;
}

/// What destroy works on.
#[derive(Clone)]
pub struct DestroyPorts {
    /// The table itself.
    pub admin: Arc<dyn TableAdmin>,
    /// What stands in it.
    pub table: Arc<dyn Table>,
    /// The pool's queues.
    pub pool: Arc<dyn Pool>,
    /// EC2.
    pub fleet: Arc<dyn Fleet>,
    /// GitHub, if there is a login for it.
    pub forge: Option<Arc<dyn Forge>>,
    /// What no other command takes down.
    pub demolition: Arc<dyn Demolition>,
    /// The present.
    pub clock: Arc<dyn Clock>,
}

/// Why nothing is destroyed.
#[derive(Debug, thiserror::Error)]
pub enum DestroyError {
    /// AWS or GitHub could not be asked.
    #[error(transparent)]
    Port(#[from] PortError),
    /// The table could not be asked.
    #[error(transparent)]
    Table(#[from] TableError),
    /// There is a table that cannot be asked, or is not the pool's.
    #[error(transparent)]
    Trouble(#[from] TableTrouble),
    /// Runs have begun since somebody looked at what there is.
    #[error("runs have begun meanwhile: {}", .0.join(", "))]
    InUse(Vec<String>),
    /// A refresh could make anew what is taken down.
    #[error("a refresh of the pool has been at work since {0}: wait for its end")]
    Refresh(Time),
}

/// Takes all of it down, and whatever was launched meanwhile; what is left, with its cause. `agreed`
/// holds the labels whose machines may be taken.
///
/// # Errors
///
/// When a refresh is at work, when other runs have begun, or when the table cannot be asked.
pub async fn destroy(
    pool: &PoolName,
    agreed: &[String],
    config: &Config,
    holder: &str,
    ports: &DestroyPorts,
    out: &mut (dyn FnMut(&str) + Send),
) -> Result<Vec<String>, DestroyError> {
    let lease = match &config.schema {
        Some(_) => Some(keep_refresh_away(config, holder, ports).await?),
        None => None,
    };
    let inventory = match look_again(pool, agreed, ports).await {
        Ok(inventory) => inventory,
        Err(error) => {
            if let Some(lease) = lease {
                let_refresh_in(lease, ports).await?;
            }
            return Err(error);
        }
    };
    let mut left = Vec::new();
    let mut note = |what: String, done: Result<(), PortError>| {
        if let Err(error) = done {
            left.push(format!("{what}: {}", chain(&error)));
        }
    };
    if let Some(id) = &inventory.template {
        let done = ports.demolition.delete_template(id).await;
        note(format!("launch template {id}"), done);
    }
    let machines = end_machines(pool, ports).await;
    note("the machines".to_owned(), machines);
    if let Some(forge) = &ports.forge {
        for runner in &inventory.runners {
            let name = &runner.name;
            match forge.delete_runner(runner.id).await {
                Ok(Deleted::Yes) => {}
                Ok(Deleted::Busy) => out(&format!(
                    "runner {name} still has a job at GitHub, which will forget it by itself"
                )),
                Err(error) => note(format!("runner {name}"), Err(error)),
            }
        }
    }
    for url in &inventory.queues {
        let done = ports.pool.delete_queue(url).await;
        note(format!("queue {}", short(url)), done);
    }
    // What is left needs the table, to be found again and to end by itself.
    if let Some(name) = inventory.table.as_ref().filter(|_| left.is_empty())
        && let Err(error) = ports.demolition.delete_table().await
    {
        left.push(format!("table {name}: {}", chain(&error)));
    }
    if let Some(lease) = lease.filter(|_| !left.is_empty()) {
        let_refresh_in(lease, ports).await?;
    }
    Ok(left)
}

/// Minutes may have passed until somebody agreed.
async fn look_again(
    pool: &PoolName,
    agreed: &[String],
    ports: &DestroyPorts,
) -> Result<Inventory, DestroyError> {
    let (inventory, _) = Inventory::of(pool, ports).await?;
    let mut users = inventory.users();
    users.retain(|label| !agreed.contains(label));
    if users.is_empty() {
        Ok(inventory)
    } else {
        Err(DestroyError::InUse(users))
    }
}

async fn let_refresh_in(lease: RefreshJournal, ports: &DestroyPorts) -> Result<(), TableError> {
    let over = RefreshJournal {
        revision: lease.revision + 1,
        until: None,
        ..lease
    };
    ports.table.put_refresh(&over).await.map(drop)
}

async fn keep_refresh_away(
    config: &Config,
    holder: &str,
    ports: &DestroyPorts,
) -> Result<RefreshJournal, DestroyError> {
    let now = ports.clock.now();
    let read = config.refresh.as_ref();
    if let Some(other) = read.filter(|journal| journal.is_held(now)) {
        return Err(DestroyError::Refresh(other.since));
    }
    let journal = RefreshJournal {
        revision: read.map_or(0, |journal| journal.revision) + 1,
        holder: holder.to_owned(),
        since: now,
        until: Some(now + LEASE),
        floor: read.map_or_else(Vec::new, |journal| journal.floor.clone()),
    };
    match ports.table.put_refresh(&journal).await? {
        Outcome::Applied(_) => Ok(journal),
        Outcome::Conflict(other) => Err(DestroyError::Refresh(
            other.map_or(now, |other| other.since),
        )),
    }
}

/// Terminates until EC2 shows no machine of the pool: a launch may have been under way.
async fn end_machines(pool: &PoolName, ports: &DestroyPorts) -> Result<(), PortError> {
    let mut refused = None;
    for _ in 0..LOOKS {
        let machines = ports.fleet.machines(pool).await?.into_iter();
        let alive: Vec<InstanceId> = machines
            .filter(|machine| machine.alive)
            .map(|machine| machine.id)
            .collect();
        if alive.is_empty() {
            return Ok(());
        }
        refused = ports
            .fleet
            .terminate(&alive, Unknown::Gone)
            .await?
            .into_iter()
            .next();
        tokio::time::sleep(PAUSE).await;
    }
    Err(refused.map_or_else(
        || PortError {
            operation: "end all machines".to_owned(),
            code: None,
            source: "EC2 still shows some of them alive: run destroy again".into(),
        },
        |(_, error)| error,
    ))
}
