//! The table as one process sees it: the in-memory form, behind a network.

use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt;
use proto::{
    change::Change,
    config::{Config, ConfigItem, RefreshJournal},
    ids::{ClassName, InstanceArn, RunId},
    instance::InstanceRecord,
    provision::ProvisionRecord,
    state::State,
    table::{Live, Outcome, Table, TableError, TableErrorKind, memory::MemoryTable},
    time::Time,
};

use super::{
    fault::Fault,
    invariant,
    process::{Broken, Process},
    world::{INDEX_LAG, Past, Sim},
};

pub(super) struct SimTable(pub(super) Process);

fn failed(operation: &'static str) -> impl Fn(Broken) -> TableError {
    move |broken| TableError {
        operation,
        table: "paddock-p".to_owned(),
        kind: TableErrorKind::Unavailable,
        source: broken.into(),
    }
}

/// The in-memory table answers at once.
fn at_once<T>(answer: impl Future<Output = Result<T, TableError>>) -> T {
    answer
        .now_or_never()
        .expect("the table in memory never waits")
        .expect("the table in memory never fails")
}

impl SimTable {
    async fn call<T: Send + 'static>(
        &self,
        operation: &'static str,
        mut ask: impl FnMut(&Process, &MemoryTable) -> T + Send + 'static,
    ) -> Result<T, TableError> {
        self.0
            .call(move |process| ask(process, process.sim.memory()))
            .await
            .map_err(failed(operation))
    }
}

/// What a write came to, for the story.
fn outcome<T>(outcome: &Outcome<T>) -> &'static str {
    match outcome {
        Outcome::Applied(_) => "written",
        Outcome::Conflict(Some(_)) => "refused",
        Outcome::Conflict(None) => "refused, there is none",
    }
}

fn describe(record: &InstanceRecord) -> String {
    let label = record.label.as_ref();
    let label = label.map_or_else(|| "-".to_owned(), ToString::to_string);
    let report = record.report.as_ref().map_or_else(
        || "-".to_owned(),
        |report| format!("{:?}@{}", report.signal, report.generation),
    );
    let job = if record.job.is_some() { ", job" } else { "" };
    format!(
        "{} is {} of {label} in generation {}, says {report}{job}",
        record.id(),
        record.state,
        record.generation
    )
}

fn insert(
    process: &Process,
    memory: &MemoryTable,
    record: &InstanceRecord,
) -> Outcome<InstanceRecord> {
    let done = at_once(memory.insert_instance(record));
    process.sim.step(|state| {
        if let Outcome::Applied(record) = &done {
            let now = state.now();
            let past = Past::new(now, record.clone());
            state.records.insert(record.arn.clone(), past);
        }
        let what = format!("insert {} {}", record.id(), outcome(&done));
        state.say(process, what);
    });
    done
}

fn change(
    process: &Process,
    memory: &MemoryTable,
    arn: &InstanceArn,
    change: &Change,
) -> Outcome<InstanceRecord> {
    let done = at_once(memory.change_instance(arn, change));
    process.sim.step(|state| {
        let now = state.now();
        let Outcome::Applied(after) = &done else {
            return state.say(process, format!("change {} {}", arn.id(), outcome(&done)));
        };
        let Some(past) = state.records.get_mut(arn) else {
            return;
        };
        let before = past.now().clone();
        past.push(now, after.clone());
        let told = |record: &InstanceRecord| {
            let job = record.job.is_some();
            (record.generation, record.report.clone(), job)
        };
        if told(&before) != told(after) {
            state.say(process, describe(after));
        }
        invariant::after_change(state, process, &before, after);
    });
    done
}

fn put_provision(
    process: &Process,
    memory: &MemoryTable,
    record: &ProvisionRecord,
) -> Outcome<ProvisionRecord> {
    let done = at_once(memory.put_provision(record));
    process.sim.step(|state| {
        let now = state.now();
        if let Outcome::Applied(record) = &done {
            invariant::before_taking_over(state, process, record);
            let key = (record.run.clone(), record.label.clone());
            match state.journals.get_mut(&key) {
                Some(past) => past.push(now, record.clone()),
                None => drop(state.journals.insert(key, Past::new(now, record.clone()))),
            }
        }
        let what = format!(
            "journal {} revision {} {} ({} claimed, {} launched) {}",
            record.label,
            record.revision,
            record.phase,
            record.claimed.len(),
            record.launched.len(),
            outcome(&done)
        );
        state.say(process, what);
    });
    done
}

impl Sim {
    /// How far behind the index is with one item.
    fn lagging<T>(state: &mut super::world::State, items: Vec<T>) -> Vec<(T, Duration)> {
        let now = state.now();
        let lag = |state: &mut super::world::State| {
            if state.strikes(Fault::StaleIndex) {
                state.between(Duration::ZERO, INDEX_LAG)
            } else {
                Duration::ZERO
            }
        };
        let seen = |item| (item, now.saturating_sub(lag(state)));
        items.into_iter().map(seen).collect()
    }

    fn index_of_records(&self) -> Vec<InstanceRecord> {
        self.step(|state| {
            let keys = state.records.keys().cloned().collect();
            let seen = Self::lagging(state, keys).into_iter();
            seen.filter_map(|(key, at)| state.records[&key].at(at).cloned())
                .collect()
        })
    }

    fn index_of_journals(&self) -> Vec<ProvisionRecord> {
        self.step(|state| {
            let keys = state.journals.keys().cloned().collect();
            let seen = Self::lagging(state, keys).into_iter();
            seen.filter_map(|(key, at)| state.journals[&key].at(at).cloned())
                .collect()
        })
    }
}

#[async_trait]
impl Table for SimTable {
    async fn insert_instance(
        &self,
        record: &InstanceRecord,
    ) -> Result<Outcome<InstanceRecord>, TableError> {
        let record = record.clone();
        self.call("write an instance", move |process, memory| {
            insert(process, memory, &record)
        })
        .await
    }

    async fn change_instance(
        &self,
        arn: &InstanceArn,
        wanted: &Change,
    ) -> Result<Outcome<InstanceRecord>, TableError> {
        let (arn, wanted) = (arn.clone(), wanted.clone());
        self.call("change an instance", move |process, memory| {
            change(process, memory, &arn, &wanted)
        })
        .await
    }

    /// As one call: it comes back as a whole or not at all.
    async fn change_instances(
        &self,
        changes: &[(InstanceArn, Change)],
    ) -> Vec<Result<Outcome<(), InstanceRecord>, TableError>> {
        let wanted = changes.to_vec();
        let done = self
            .0
            .call(move |process| {
                let each = wanted.iter();
                each.map(|(arn, wanted)| change(process, process.sim.memory(), arn, wanted))
                    .collect::<Vec<_>>()
            })
            .await;
        match done {
            Ok(done) => done
                .into_iter()
                .map(|outcome| {
                    Ok(match outcome {
                        Outcome::Applied(_) => Outcome::Applied(()),
                        Outcome::Conflict(current) => Outcome::Conflict(current),
                    })
                })
                .collect(),
            Err(broken) => changes
                .iter()
                .map(|_| Err(failed("change instances")(broken)))
                .collect(),
        }
    }

    async fn instance(&self, arn: &InstanceArn) -> Result<Option<InstanceRecord>, TableError> {
        let arn = arn.clone();
        self.call("read an instance", move |process, memory| {
            process.sim.step(|_| at_once(memory.instance(&arn)))
        })
        .await
    }

    async fn instances(&self, arns: &[InstanceArn]) -> Result<Vec<InstanceRecord>, TableError> {
        let arns = arns.to_vec();
        self.call("read instances", move |process, memory| {
            process.sim.step(|_| at_once(memory.instances(&arns)))
        })
        .await
    }

    async fn instances_in(
        &self,
        state: State,
        until: Option<Time>,
    ) -> Result<Vec<InstanceRecord>, TableError> {
        self.call("list instances by state", move |process, _| {
            let mut found = process.sim.index_of_records();
            found.retain(|record| {
                let threshold = record.threshold;
                record.state == state
                    && threshold.is_some_and(|t| until.is_none_or(|until| t <= until))
            });
            found.sort_by_key(|record| record.threshold);
            found
        })
        .await
    }

    async fn put_provision(
        &self,
        record: &ProvisionRecord,
    ) -> Result<Outcome<ProvisionRecord>, TableError> {
        let record = record.clone();
        self.call("write a provision record", move |process, memory| {
            put_provision(process, memory, &record)
        })
        .await
    }

    async fn provisions_of(&self, run: &RunId) -> Result<Vec<ProvisionRecord>, TableError> {
        let run = run.clone();
        self.call("read the run's provisions", move |process, memory| {
            process.sim.step(|_| at_once(memory.provisions_of(&run)))
        })
        .await
    }

    async fn live(&self) -> Result<Live, TableError> {
        self.call("list what is under way", |process, _| {
            let mut live = Live {
                instances: process.sim.index_of_records(),
                provisions: process.sim.index_of_journals(),
            };
            live.instances
                .retain(|record| record.state != State::Terminated);
            live.provisions.retain(|record| record.phase.is_open());
            live
        })
        .await
    }

    async fn put_refresh(
        &self,
        journal: &RefreshJournal,
    ) -> Result<Outcome<RefreshJournal>, TableError> {
        let journal = journal.clone();
        self.call("write refresh's journal", move |process, memory| {
            let done = at_once(memory.put_refresh(&journal));
            process.sim.step(|state| {
                let what = format!("lease {} {}", journal.revision, outcome(&done));
                state.say(process, what);
            });
            done
        })
        .await
    }

    async fn config(&self) -> Result<Config, TableError> {
        self.call("read the configuration", |process, memory| {
            process.sim.step(|_| at_once(memory.config()))
        })
        .await
    }

    async fn put_config(&self, item: &ConfigItem) -> Result<(), TableError> {
        let item = item.clone();
        self.call("write the configuration", move |process, memory| {
            process.sim.step(|_| at_once(memory.put_config(&item)));
        })
        .await
    }

    async fn delete_class(&self, name: &ClassName) -> Result<(), TableError> {
        let name = name.clone();
        self.call("remove a class", move |process, memory| {
            process.sim.step(|_| at_once(memory.delete_class(&name)));
        })
        .await
    }
}
