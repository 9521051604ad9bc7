//! Refresh of pools of different sizes: its time, its memory, and how its calls of AWS grow.
//!
//! Of each pool's machines a fifth has to end, two fifths run, two fifths are idle and listed. They
//! are seen at EC2 alone: nothing of them runs, or 5,000 agents would be measured too.

use std::{fmt::Write as _, time::Duration};

use controller::{
    aws::{fleet::Ec2Fleet, pool::SqsPool},
    ports::{Allocation, Fleet, FleetRequest, Pool as _},
};
use futures::future::join_all;
use proto::{
    config::{Config, LaunchTemplate, ResourceClass},
    ids::{Home, InstanceArn, InstanceId},
    instance::{InstanceRecord, UsageClass},
    message::PoolMessage,
    signal::{Report, Signal},
    state::State,
    table::{Table, dynamo::DynamoTable},
    time::{Clock, SystemClock},
};

use super::{
    Wrong,
    pool::Pool,
    sample::{Sample, measure},
};
use crate::{binaries::Binaries, clients};

/// How many records there are.
const SIZES: [usize; 3] = [100, 1_000, 5_000];
/// What the largest pool's refresh may take, in seconds.
const SECONDS: f64 = 15.0;
/// What it may have resident, in megabytes.
const MEGABYTES: f64 = 120.0;
/// `CreateFleet` launches so many at once here.
const FLEET: usize = 500;
/// So many writes are under way at once.
const WRITES: usize = 50;

/// Refreshes of one pool.
struct Figures {
    records: usize,
    /// With machines to end.
    first: Sample,
    /// With nothing to do.
    second: Sample,
}

/// Measures all sizes; the table.
///
/// # Errors
///
/// When a refresh fails, ends other machines than it has to, or finds something to do again.
pub async fn play(binaries: &Binaries, latency: Duration) -> Result<String, Wrong> {
    let mut all = Vec::new();
    for records in SIZES {
        eprintln!("{records} records");
        all.push(of(binaries, latency, records).await?);
    }
    Ok(render(&all))
}

async fn of(binaries: &Binaries, latency: Duration, records: usize) -> Result<Figures, Wrong> {
    let pool = Pool::hollow(binaries).await?;
    let ending = records / 5;
    fill(&pool, records, ending).await?;
    pool.yard.aws.set_latency(latency);
    let inputs = pool.refresh_inputs();
    let inputs: Vec<(&str, &str)> = inputs
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    let first = measure(&pool, 2, "refresh", &inputs).await?;
    let instances = pool.yard.aws.instances();
    let alive = instances.iter().filter(|view| view.alive()).count();
    if alive != records - ending {
        return Err(format!("{alive} of {records} machines are alive").into());
    }
    let second = measure(&pool, 3, "refresh", &inputs).await?;
    if second.calls.contains_key("PutItem") {
        return Err("the second refresh found something to do".into());
    }
    pool.yard.stop().await;
    Ok(Figures {
        records,
        first,
        second,
    })
}

/// Launches the machines, and writes what a pool knows of them.
async fn fill(pool: &Pool<'_>, records: usize, ending: usize) -> Result<(), Wrong> {
    let url = pool.yard.aws.url();
    let table = DynamoTable::new(&clients::dynamodb(&url), "paddock-acme-widgets");
    let Config {
        launch_template: Some(template),
        schema: Some(schema),
        resource_classes,
        ..
    } = table.config().await?
    else {
        return Err("the pool is not set up".into());
    };
    let named = |class: &&ResourceClass| class.name.as_str() == "large";
    let class = resource_classes.iter().find(named).ok_or("no class")?;
    let home = Home::of_arn(&schema.table_arn)?;
    let mut ids = Vec::new();
    while ids.len() < records {
        let count = FLEET.min(records - ids.len());
        ids.extend(launch(&url, class, &template, count, ids.len()).await?);
    }
    let all: Vec<InstanceRecord> = ids
        .iter()
        .enumerate()
        .map(|(n, id)| record(&home, id, n, ending, template.version))
        .collect();
    for some in all.chunks(WRITES) {
        for written in join_all(some.iter().map(|record| table.insert_instance(record))).await {
            written?;
        }
    }
    let now = SystemClock.now();
    let idle = all.iter().filter(|record| record.state == State::Idle);
    let messages: Vec<PoolMessage> = idle.map(|record| PoolMessage::of(record, now)).collect();
    let queue = SqsPool::new(clients::sqs(&url));
    Ok(queue.send(&class.queue_url, &messages).await?)
}

async fn launch(
    url: &str,
    class: &ResourceClass,
    template: &LaunchTemplate,
    count: usize,
    number: usize,
) -> Result<Vec<InstanceId>, Wrong> {
    let client_token = format!("bench.{number}");
    let request = FleetRequest {
        count: u32::try_from(count)?,
        template_id: template.id.clone(),
        template_version: template.version,
        subnet_ids: vec!["subnet-0a".to_owned()],
        cpu: class.cpu,
        mmem: class.mmem,
        allowed_instance_types: vec!["c*".to_owned()],
        usage_class: UsageClass::OnDemand,
        allocation: Allocation::LowestPrice,
        max_price: None,
        tags: vec![
            ("paddock:pool".to_owned(), "acme-widgets".to_owned()),
            ("paddock:fleet".to_owned(), client_token.clone()),
        ],
        client_token,
    };
    let answer = Ec2Fleet::new(clients::ec2(url)).launch(&request).await?;
    if answer.launched.len() != count {
        return Err(format!("EC2 launched too few: {:?}", answer.errors).into());
    }
    Ok(answer.launched.into_iter().map(|it| it.id).collect())
}

/// The first ones have to end; of the others every second one is idle.
fn record(
    home: &Home,
    id: &InstanceId,
    number: usize,
    ending: usize,
    version: i64,
) -> InstanceRecord {
    let now = SystemClock.now();
    let (state, threshold) = if number < ending {
        (State::Running, now - Duration::from_mins(1))
    } else if number.is_multiple_of(2) {
        (State::Running, now + Duration::from_hours(1))
    } else {
        (State::Idle, now + Duration::from_hours(1))
    };
    let run = 1_000_000 + number;
    let label = format!("{run}").parse().ok();
    InstanceRecord {
        arn: InstanceArn::new(home, id),
        label: label.filter(|_| state == State::Running),
        threshold: Some(threshold),
        since: now,
        created_at: now,
        template_version: version,
        heartbeat: Some(now),
        report: Some(Report {
            signal: Signal::RemoveRegOk,
            generation: 1,
            at: now,
            detail: None,
        }),
        ..InstanceRecord::example(state)
    }
}

fn render(all: &[Figures]) -> String {
    let mut text = String::from(
        "| records | of them to end | seconds | MB | calls | again: seconds | calls |\n\
         |---|---|---|---|---|---|---|\n",
    );
    let total = |sample: &Sample| sample.calls.values().sum::<usize>();
    for figures in all {
        let (first, second) = (&figures.first, &figures.second);
        let _ = writeln!(
            text,
            "| {} | {} | {:.2} | {:.0} | {} | {:.2} | {} |",
            figures.records,
            figures.records / 5,
            first.took.as_secs_f64(),
            megabytes(first),
            total(first),
            second.took.as_secs_f64(),
            total(second),
        );
    }
    if let Some(largest) = all.last() {
        let met =
            largest.first.took.as_secs_f64() <= SECONDS && megabytes(&largest.first) <= MEGABYTES;
        let _ = writeln!(
            text,
            "\nTargets for {} records: ≤ {SECONDS:.0} s, ≤ {MEGABYTES:.0} MB: {}.",
            largest.records,
            if met { "met" } else { "**missed**" }
        );
    }
    for figures in all {
        let calls = figures.first.calls.iter();
        let calls: Vec<String> = calls
            .map(|(action, count)| format!("{count} {action}"))
            .collect();
        let _ = writeln!(
            text,
            "\nCalls for {}: {}.",
            figures.records,
            calls.join(", ")
        );
    }
    text
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52 bytes")]
fn megabytes(sample: &Sample) -> f64 {
    sample.memory as f64 / 1e6
}
