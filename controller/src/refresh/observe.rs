//! Looks at everything that the plan depends on, and changes nothing.

use std::collections::{BTreeMap, BTreeSet};

use proto::{
    config::Config,
    ids::{ClassName, Home, InstanceArn, InstanceId},
    instance::InstanceRecord,
    table::TableError,
};

use super::{Failed, RefreshPorts, RefreshSettings, Report, StepError, plan::Observed};
use crate::ports::{Machine, PortError, QueueState};

/// The world as it is. What cannot be looked at is noted in the report and left out.
pub(super) async fn observe(
    settings: &RefreshSettings,
    ports: &RefreshPorts,
    table_arn: String,
    home: Option<&Home>,
    config: Config,
    report: &mut Report,
) -> Observed {
    let name = settings.pool.resource_name();
    let (template, machines, queues) = tokio::join!(
        ports.fleet.template(&name),
        ports.fleet.machines(&settings.pool),
        queues(ports, &config),
    );
    let template = kept(template, "the launch template", report);
    let mut machines = kept(machines, "the machines at EC2", report);
    let mut queue_states = BTreeMap::new();
    for (class, state) in queues {
        if let Some(state) = kept(state, "a queue", report) {
            queue_states.insert(class, state);
        }
    }

    let (mut records, mut provisions) = (Some(Vec::new()), Some(Vec::new()));
    let mut unlisted = BTreeMap::new();
    if let Some(home) = home {
        let live = kept(ports.table.live().await, "the live records", report);
        (records, provisions) = live.map(|live| (live.instances, live.provisions)).unzip();
        if let (Some(records), Some(found)) = (&records, &machines) {
            match unlisted_records(ports, home, records, found).await {
                Ok(found) => unlisted = found,
                Err(error) => {
                    report
                        .failed
                        .push((Failed::Look("the records of machines"), error.into()));
                    // Without them a machine could be taken for one without a record.
                    machines = None;
                }
            }
        }
    } else {
        // No table, no records: nothing can be said of any machine.
        machines = None;
    }
    Observed {
        table_arn,
        config,
        template,
        queues: queue_states,
        records,
        provisions,
        machines,
        unlisted,
    }
}

/// The value, or a note of why there is none.
fn kept<T, E: Into<StepError>>(
    looked: Result<T, E>,
    source: &'static str,
    report: &mut Report,
) -> Option<T> {
    looked
        .map_err(|error| report.failed.push((Failed::Look(source), error.into())))
        .ok()
}

async fn queues(
    ports: &RefreshPorts,
    config: &Config,
) -> Vec<(ClassName, Result<Option<QueueState>, PortError>)> {
    let looks = config
        .resource_classes
        .iter()
        .map(|class| async { (class.name.clone(), ports.pool.queue(&class.queue_url).await) });
    futures::future::join_all(looks).await
}

/// The records, read from the table itself, of machines that are not among the live ones.
async fn unlisted_records(
    ports: &RefreshPorts,
    home: &Home,
    live: &[InstanceRecord],
    machines: &[Machine],
) -> Result<BTreeMap<InstanceId, InstanceRecord>, TableError> {
    let known: BTreeSet<&InstanceId> = live.iter().map(InstanceRecord::id).collect();
    let arns: Vec<InstanceArn> = machines
        .iter()
        .filter(|machine| machine.alive && !known.contains(&machine.id))
        .map(|machine| InstanceArn::new(home, &machine.id))
        .collect();
    let records = ports.table.instances(&arns).await?;
    Ok(records
        .into_iter()
        .map(|record| (record.id().clone(), record))
        .collect())
}
