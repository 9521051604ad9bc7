//! What there is of a pool, to be shown before it is taken down.

use std::{collections::BTreeSet, fmt};

use proto::{
    config::Config,
    ids::{InstanceId, Label, PoolName},
    instance::InstanceRecord,
    state::State,
};

use super::{DestroyError, DestroyPorts};
use crate::ports::ForgeRunner;

/// All that there is of a pool.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inventory {
    /// Id of the launch template.
    pub template: Option<String>,
    /// Machines that live at EC2, and what their records say.
    pub machines: Vec<(InstanceId, Option<Use>)>,
    /// Runners of such machines.
    pub runners: Vec<ForgeRunner>,
    /// URLs.
    pub queues: Vec<String>,
    /// Name of the table.
    pub table: Option<String>,
}

/// What a machine is there for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Use {
    /// Its state.
    pub state: State,
    /// Whose it is, if it is somebody's.
    pub label: Option<Label>,
}

impl fmt::Display for Use {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.label {
            Some(label) => write!(f, "{} for {label}", self.state),
            None => self.state.fmt(f),
        }
    }
}

impl Inventory {
    /// Everything of the pool.
    ///
    /// # Errors
    ///
    /// When something could not be looked at: what is not seen would be left.
    pub async fn of(pool: &PoolName, ports: &DestroyPorts) -> Result<(Self, Config), DestroyError> {
        let name = pool.resource_name();
        let there = ports.admin.observe().await?.is_some();
        let (config, records) = if there {
            (
                ports.table.config().await?,
                ports.table.live().await?.instances,
            )
        } else {
            (Config::default(), Vec::new())
        };
        let found = ports.fleet.machines(pool).await?;
        let machines: Vec<(InstanceId, Option<Use>)> = found
            .iter()
            .filter(|machine| machine.alive)
            .map(|machine| {
                let record = records.iter().find(|record| *record.id() == machine.id);
                let used = record.map(|record| Use {
                    state: record.state,
                    label: record.label.clone(),
                });
                (machine.id.clone(), used)
            })
            .collect();
        let ours: BTreeSet<&InstanceId> = found
            .iter()
            .map(|machine| &machine.id)
            .chain(records.iter().map(InstanceRecord::id))
            .collect();
        let runners = match &ports.forge {
            None => Vec::new(),
            Some(forge) => forge.runners().await?,
        };
        let inventory = Self {
            template: ports
                .fleet
                .template(&name)
                .await?
                .map(|template| template.id),
            runners: runners
                .into_iter()
                .filter(|runner| runner.machine().is_some_and(|id| ours.contains(&id)))
                .collect(),
            machines,
            queues: ports.demolition.queues(pool).await?,
            table: there.then_some(name),
        };
        Ok((inventory, config))
    }

    /// Each thing in a line of its own.
    pub fn lines(&self) -> Vec<String> {
        let template = self
            .template
            .iter()
            .map(|id| format!("- launch template {id}"));
        let machines = self.machines.iter().map(|(id, used)| match used {
            Some(used) => format!("- machine {id} ({used})"),
            None => format!("- machine {id} (no record)"),
        });
        let runners = self
            .runners
            .iter()
            .map(|runner| format!("- runner {} at GitHub", runner.name));
        let queues = self
            .queues
            .iter()
            .map(|url| format!("- queue {}", short(url)));
        let table = self
            .table
            .iter()
            .map(|name| format!("- table {name} and all in it"));
        template
            .chain(machines)
            .chain(runners)
            .chain(queues)
            .chain(table)
            .collect()
    }

    /// The labels of those who would lose machines, each once.
    pub fn users(&self) -> Vec<String> {
        let labels = self
            .machines
            .iter()
            .filter_map(|(_, used)| used.as_ref()?.label.as_ref());
        let labels: BTreeSet<String> = labels.map(ToString::to_string).collect();
        labels.into_iter().collect()
    }
}

pub(super) fn short(url: &str) -> &str {
    url.rsplit('/').next().unwrap_or(url)
}
