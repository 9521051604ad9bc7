//! Looks at everything that the plan depends on, and changes nothing.

use std::collections::{BTreeMap, BTreeSet};

use proto::{
    config::Config,
    ids::{ClassName, Home, InstanceArn, InstanceId, RunId},
    instance::InstanceRecord,
    provision::Phase,
    table::{TableError, TableErrorKind},
};

use super::{
    Failed, RefreshPorts, RefreshSettings, Report, StepError,
    plan::{Observed, forge},
    prepare::Found,
};
use crate::ports::{Machine, PortError, QueueState, RunState};

/// The world as it is. What cannot be looked at is noted in the report and left out.
pub(super) async fn observe(
    settings: &RefreshSettings,
    ports: &RefreshPorts,
    found: Found,
    home: Option<&Home>,
    report: &mut Report,
) -> Observed {
    let Found {
        arn: table_arn,
        config,
        content,
        ..
    } = found;
    let name = settings.pool.resource_name();
    let (template, machines, queues, runners) = tokio::join!(
        ports.fleet.template(&name),
        ports.fleet.machines(&settings.pool),
        queues(ports, &config),
        ports.forge.runners(),
    );
    let runners = kept(runners, "the runners at GitHub", report);
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
    let mut over = BTreeSet::new();
    let mut unindexed = false;
    if let Some(home) = home {
        let live = ports.table.live().await;
        unindexed = matches!(&live, Err(error) if error.kind == TableErrorKind::NoIndex);
        let live = kept(live, "the live records", report);
        (records, provisions) = live.map(|live| (live.instances, live.provisions)).unzip();
        if let Some(records) = &records {
            over = over_runs(ports, records, report).await;
        }
        if let (Some(records), Some(found)) = (&records, &machines) {
            let orphans = forge::orphans(runners.as_deref().unwrap_or_default(), records);
            let orphans = orphans.into_iter().map(|(_, machine)| machine);
            match unlisted_records(ports, home, records, found, orphans).await {
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
        content,
        template,
        queues: queue_states,
        records,
        provisions,
        machines,
        unlisted,
        runners,
        over,
        unindexed,
    }
}

/// The runs that hold machines and are over, by their provisions and by GitHub.
async fn over_runs(
    ports: &RefreshPorts,
    records: &[InstanceRecord],
    report: &mut Report,
) -> BTreeSet<RunId> {
    let mut over = BTreeSet::new();
    for run in forge::doubtful(records, ports.clock.now()) {
        match is_over(ports, &run).await {
            Ok(true) => {
                over.insert(run);
            }
            Ok(false) => {}
            Err(error) => {
                // What GitHub refuses once it refuses for all.
                report.failed.push((Failed::Look("runs at GitHub"), error));
                break;
            }
        }
    }
    over
}

async fn is_over(ports: &RefreshPorts, run: &RunId) -> Result<bool, StepError> {
    let provisions = ports.table.provisions_of(run).await?;
    let Some(held) = provisions
        .iter()
        .find(|held| held.phase == Phase::Committed)
    else {
        return Ok(false);
    };
    let state = ports.forge.run(held.repository.as_deref(), run).await?;
    Ok(match state {
        RunState::Over => true,
        RunState::Active | RunState::Unknown => false,
    })
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

/// The records, read from the table itself, of machines that are not among the live ones: those
/// at EC2, and those of offline runners.
async fn unlisted_records(
    ports: &RefreshPorts,
    home: &Home,
    live: &[InstanceRecord],
    machines: &[Machine],
    orphans: impl Iterator<Item = InstanceId>,
) -> Result<BTreeMap<InstanceId, InstanceRecord>, TableError> {
    let known: BTreeSet<&InstanceId> = live.iter().map(InstanceRecord::id).collect();
    let strays = machines
        .iter()
        .filter(|machine| machine.alive && !known.contains(&machine.id))
        .map(|machine| machine.id.clone());
    let ids: BTreeSet<InstanceId> = strays.chain(orphans).collect();
    let arns: Vec<InstanceArn> = ids.iter().map(|id| InstanceArn::new(home, id)).collect();
    let records = ports.table.instances(&arns).await?;
    Ok(records
        .into_iter()
        .map(|record| (record.id().clone(), record))
        .collect())
}
