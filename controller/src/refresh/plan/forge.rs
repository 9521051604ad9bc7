//! What GitHub knows that the table does not: runners whose machine is gone, and runs that ended
//! without a release.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use proto::{
    ids::{InstanceId, RunId},
    instance::InstanceRecord,
    state::State,
    time::Time,
};

use super::Observed;
use crate::{ports::ForgeRunner, refresh::step::Step};

/// A run keeps its machines for so long at least before GitHub is asked whether it is over: most
/// are released before, and one that has just ended may be about to be run again.
const GRACE: Duration = Duration::from_mins(5);
/// GitHub is asked for so many runs at most in one refresh.
const RUNS: usize = 20;
/// Then come the next ones' turns: those that are asked for first are others after so long.
const TURN_SEC: i64 = 10 * 60;

/// The runs to ask GitHub for: those that have held machines for longest first, as long as all of
/// them get their turn.
pub(in crate::refresh) fn doubtful(records: &[InstanceRecord], now: Time) -> Vec<RunId> {
    let mut since: BTreeMap<RunId, Time> = BTreeMap::new();
    for (run, record) in running(records) {
        let first = since.entry(run).or_insert(record.since);
        *first = record.since.min(*first);
    }
    let mut runs: Vec<(Time, RunId)> = since
        .into_iter()
        .filter(|(_, since)| now.since(*since) > GRACE)
        .map(|(run, since)| (since, run))
        .collect();
    runs.sort();
    if runs.len() > RUNS {
        let turn = usize::try_from(now.as_secs() / TURN_SEC).unwrap_or_default();
        let first = turn.wrapping_mul(RUNS) % runs.len();
        runs.rotate_left(first);
    }
    runs.into_iter().map(|(_, run)| run).take(RUNS).collect()
}

fn running(records: &[InstanceRecord]) -> impl Iterator<Item = (RunId, &InstanceRecord)> {
    records
        .iter()
        .filter(|record| record.state == State::Running)
        .filter_map(|record| Some((record.label.as_ref()?.run()?, record)))
}

/// The releases that nobody made, of machines that do not end anyway.
pub(super) fn releases(
    observed: &Observed,
    records: &[InstanceRecord],
    ending: &BTreeSet<InstanceId>,
) -> Vec<Step> {
    let mut machines: BTreeMap<RunId, Vec<(InstanceId, u64)>> = BTreeMap::new();
    for (run, record) in running(records) {
        if observed.over.contains(&run) && !ending.contains(record.id()) {
            let machine = (record.id().clone(), record.generation);
            machines.entry(run).or_default().push(machine);
        }
    }
    machines
        .into_iter()
        .map(|(run, machines)| Step::Release { run, machines })
        .collect()
}

/// Offline runners that no live record of this pool accounts for, and the machines that they say
/// they are on. Whether those are gone, and ours, their records have to tell.
pub(in crate::refresh) fn orphans<'a>(
    runners: &'a [ForgeRunner],
    records: &[InstanceRecord],
) -> Vec<(&'a ForgeRunner, InstanceId)> {
    let live: BTreeSet<&InstanceId> = records.iter().map(InstanceRecord::id).collect();
    runners
        .iter()
        .filter(|runner| !runner.online && !runner.busy)
        .filter_map(|runner| Some((runner, runner.machine()?)))
        .filter(|(_, machine)| !live.contains(machine))
        .collect()
}

/// Runners to delete. A runner without a record may be another pool's, which knows its machine.
pub(super) fn gone_runners(observed: &Observed) -> Vec<Step> {
    let (Some(runners), Some(records), Some(machines)) =
        (&observed.runners, &observed.records, &observed.machines)
    else {
        return Vec::new();
    };
    let alive = |id: &InstanceId| machines.iter().any(|at| at.alive && at.id == *id);
    let terminated = |id: &InstanceId| {
        let record = observed.unlisted.get(id);
        record.is_some_and(|record| record.state == State::Terminated)
    };
    orphans(runners, records)
        .into_iter()
        .filter(|(_, machine)| terminated(machine) && !alive(machine))
        .map(|(runner, _)| Step::DeleteRunner(runner.clone()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(label: &str, since: i64) -> InstanceRecord {
        InstanceRecord {
            label: Some(label.parse().unwrap()),
            since: Time::from_millis(since * 60_000),
            ..InstanceRecord::example(State::Running)
        }
    }

    #[test]
    fn github_is_asked_once_for_each_run_that_has_lasted() {
        let records = [
            record("7", 3),
            record("8-gpu", 1),
            record("8", 9),
            record("9", 6),
        ];
        let idle = InstanceRecord::example(State::Idle);
        let all: Vec<_> = records.into_iter().chain([idle]).collect();
        let asked = |minute: i64| {
            let now = Time::from_millis(minute * 60_000 + 1);
            doubtful(&all, now)
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
        };
        assert_eq!(asked(5), [] as [&str; 0]);
        assert_eq!(asked(8), ["8", "7"]);
        assert_eq!(asked(60), ["8", "7", "9"]);
        let many: Vec<_> = (100..200).map(|run| record(&run.to_string(), 0)).collect();
        let asked: Vec<BTreeSet<RunId>> = (6..11)
            .map(|turn| doubtful(&many, Time::from_millis(turn * 600_000)))
            .map(BTreeSet::from_iter)
            .collect();
        assert!(asked.iter().all(|asked| asked.len() == RUNS));
        let all: BTreeSet<&RunId> = asked.iter().flatten().collect();
        assert_eq!(all.len(), many.len(), "each gets its turn");
    }
}
