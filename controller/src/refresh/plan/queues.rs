//! What the queues have lost, and what they hold for nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use proto::{
    ids::{ClassName, InstanceId},
    instance::InstanceRecord,
    signal::Signal,
    state::State,
    time::Time,
};

use super::{Observed, is_wanted};
use crate::refresh::{RefreshSettings, step::Step};

/// How long a machine must have been idle before its message counts as lost: the release that
/// pooled it sends the message last.
const UNLISTED: Duration = Duration::from_mins(1);
/// So many stale messages cost a provision one more round of receive and claim.
const WORTH_A_SWEEP: u64 = 10;

/// A queue that holds fewer messages than its class has machines that have been idle for a while has
/// lost some. Which, it does not tell: all of those are listed again, and doubles do no harm.
pub(super) fn lost_messages(
    settings: &RefreshSettings,
    observed: &Observed,
    records: &[InstanceRecord],
    ending: &BTreeSet<InstanceId>,
    now: Time,
) -> Vec<Step> {
    let mut listable: BTreeMap<&ClassName, Vec<&InstanceRecord>> = BTreeMap::new();
    for record in records {
        if is_listable(record) && !ending.contains(record.id()) {
            listable
                .entry(&record.resource_class)
                .or_default()
                .push(record);
        }
    }
    listable
        .into_iter()
        .filter(|(class, _)| is_wanted(settings, class))
        .filter_map(|(class, idle)| {
            let queue = observed.queues.get(class)?.as_ref();
            let depth = queue.map_or(0, |queue| queue.messages);
            let records: Vec<InstanceRecord> = idle
                .into_iter()
                .filter(|record| now.since(record.since) > UNLISTED)
                .cloned()
                .collect();
            let lost = depth < u64::try_from(records.len()).unwrap_or(u64::MAX);
            lost.then(|| Step::Resend {
                class: class.clone(),
                records,
            })
        })
        .collect()
}

/// A queue that holds more messages than its class has idle machines holds stale ones. A few are
/// left for provisions to delete: a sweep hides the good ones for a moment.
pub(super) fn stale_messages(
    settings: &RefreshSettings,
    observed: &Observed,
    records: &[InstanceRecord],
    ending: &BTreeSet<InstanceId>,
) -> Vec<Step> {
    let wanted = settings.classes.iter().map(|spec| &spec.name);
    wanted
        .filter_map(|class| {
            let depth = observed.queues.get(class)?.as_ref()?.messages;
            let idle = records.iter().filter(|record| {
                record.resource_class == *class
                    && record.state == State::Idle
                    && !ending.contains(record.id())
            });
            let idle = u64::try_from(idle.count()).unwrap_or(u64::MAX);
            let surplus = depth.saturating_sub(idle);
            let worth_it = surplus >= WORTH_A_SWEEP || (surplus > 0 && idle == 0);
            worth_it.then(|| Step::Sweep {
                class: class.clone(),
                surplus,
            })
        })
        .collect()
}

/// Whether the machine is free and said so: one that is still cleaning up is not listed.
fn is_listable(record: &InstanceRecord) -> bool {
    record.state == State::Idle
        && record.unhealthy().is_none()
        && (record.says(Signal::RemoveRegOk) || record.says(Signal::Ok))
}
