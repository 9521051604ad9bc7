//! Status: the pool as it is, machine by machine, and what it costs.
//!
//! Pure: [`Status::of`] makes it of what the table holds; [`table`] shows it to people, and its
//! JSON form is this very structure.

pub mod prices;
pub mod table;

use std::{collections::BTreeMap, time::Duration};

use proto::{
    ids::{ClassName, InstanceId, Label, PoolName},
    instance::{InstanceRecord, UsageClass},
    signal::Signal,
    state::State,
    time::Time,
};
use serde::Serialize;

use self::prices::Prices;

/// The pool as it is.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// Its name.
    pub pool: PoolName,
    /// When it was looked at.
    pub at: Time,
    /// Where its runners register.
    pub github_url: String,
    /// Its machines, the oldest first.
    pub machines: Vec<MachineStatus>,
    /// Its classes, by name; those without a machine too.
    pub classes: Vec<ClassStatus>,
    /// What the machines cost an hour, if prices are known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost: Option<Cost>,
}

/// One machine.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MachineStatus {
    /// Its id.
    pub id: InstanceId,
    /// Its state.
    pub state: State,
    /// Whose it is.
    pub label: Option<Label>,
    /// Its class.
    pub resource_class: ClassName,
    /// Such as `m6i.large`.
    #[serde(rename = "type")]
    pub instance_type: String,
    /// Such as `us-east-1a`.
    pub zone: String,
    /// On demand or spot.
    pub usage_class: UsageClass,
    /// The version of the launch template that it was made from.
    pub template_version: i64,
    /// Seconds since it was launched.
    pub age_sec: u64,
    /// Seconds until it has to leave its state; below zero when it should have.
    pub left_sec: Option<i64>,
    /// Seconds since its agent was heard of.
    pub heartbeat_sec: Option<u64>,
    /// The job that runs there.
    pub job: Option<String>,
    /// What is wrong with it.
    pub trouble: Option<String>,
}

/// The machines of one class.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ClassStatus {
    /// Its name; none for the sum of all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<ClassName>,
    /// Machines on their way.
    pub created: usize,
    /// Machines that wait.
    pub idle: usize,
    /// Machines that register.
    pub claimed: usize,
    /// Machines that work.
    pub running: usize,
    /// vCPU of them all.
    pub cpu: u64,
}

/// What the machines cost.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Cost {
    /// USD an hour, of the machines whose price is known.
    pub usd_per_hour: f64,
    /// Machines whose price is not known, by type and usage class.
    pub unpriced: BTreeMap<String, usize>,
}

impl ClassStatus {
    fn count(&mut self, record: &InstanceRecord) {
        match record.state {
            State::Created => self.created += 1,
            State::Idle => self.idle += 1,
            State::Claimed => self.claimed += 1,
            State::Running => self.running += 1,
            State::Terminated => return,
        }
        self.cpu += u64::from(record.cpu);
    }

    /// All machines of it.
    pub fn machines(&self) -> usize {
        self.created + self.idle + self.claimed + self.running
    }
}

/// What of the configuration a status needs.
#[derive(Clone, Debug)]
pub struct Known<'a> {
    /// The pool's name.
    pub pool: &'a PoolName,
    /// Where its runners register.
    pub github_url: &'a str,
    /// Its classes, in the order to show them in; retired ones that still have machines follow.
    pub classes: Vec<&'a ClassName>,
    /// How old the last beat of a healthy machine may be.
    pub healthy_within: Duration,
}

impl Status {
    /// The status by the live records.
    pub fn of(
        known: &Known<'_>,
        mut records: Vec<InstanceRecord>,
        prices: Option<&Prices>,
        now: Time,
    ) -> Self {
        records.sort_by(|a, b| (a.created_at, a.id()).cmp(&(b.created_at, b.id())));
        let none = |name: &ClassName| ClassStatus {
            name: Some(name.clone()),
            ..ClassStatus::default()
        };
        let mut classes: Vec<ClassStatus> = known.classes.iter().copied().map(none).collect();
        for record in &records {
            let name = &record.resource_class;
            let at = classes.iter().position(|it| it.name.as_ref() == Some(name));
            let at = at.unwrap_or_else(|| {
                classes.push(none(name));
                classes.len() - 1
            });
            classes[at].count(record);
        }
        Self {
            pool: known.pool.clone(),
            at: now,
            github_url: known.github_url.to_owned(),
            classes,
            cost: prices.map(|prices| prices.cost(&records)),
            machines: records
                .iter()
                .map(|record| MachineStatus::of(record, known.healthy_within, now))
                .collect(),
        }
    }

    /// All classes together.
    pub fn total(&self) -> ClassStatus {
        let mut total = ClassStatus::default();
        for class in &self.classes {
            total.created += class.created;
            total.idle += class.idle;
            total.claimed += class.claimed;
            total.running += class.running;
            total.cpu += class.cpu;
        }
        total
    }
}

impl MachineStatus {
    fn of(record: &InstanceRecord, healthy_within: Duration, now: Time) -> Self {
        Self {
            id: record.id().clone(),
            state: record.state,
            label: record.label.clone(),
            resource_class: record.resource_class.clone(),
            instance_type: record.instance_type.clone(),
            zone: record.zone.clone(),
            usage_class: record.usage_class,
            template_version: record.template_version,
            age_sec: now.since(record.created_at).as_secs(),
            left_sec: record
                .threshold
                .map(|threshold| (threshold.as_millis() - now.as_millis()).div_euclid(1000)),
            heartbeat_sec: record.heartbeat.map(|beat| now.since(beat).as_secs()),
            job: record.job.as_ref().map(|job| job.name.clone()),
            trouble: trouble(record, healthy_within, now),
        }
    }
}

/// What is wrong with a machine: by its own word, by its agent's last failure, by its silence.
fn trouble(record: &InstanceRecord, healthy_within: Duration, now: Time) -> Option<String> {
    if let Some(reason) = record.unhealthy() {
        return Some(reason.to_owned());
    }
    if let Some(report) = record.fresh_report() {
        let failed = match report.signal {
            Signal::Failed => Some("it did not boot"),
            Signal::RegFailed => Some("its runner did not register"),
            Signal::RemoveRegFailed => Some("it did not come clean"),
            Signal::Interrupted => Some("EC2 takes it away"),
            Signal::Ok | Signal::RegOk | Signal::RemoveRegOk => None,
        };
        if let Some(words) = failed {
            return Some(match &report.detail {
                Some(detail) => format!("{words}: {detail}"),
                None => words.to_owned(),
            });
        }
    }
    // One that has just been launched has not been able to say anything.
    let silent = match record.state {
        State::Created => record.heartbeat.is_some() && !record.beats(now, healthy_within),
        State::Idle | State::Claimed | State::Running => !record.beats(now, healthy_within),
        State::Terminated => false,
    };
    silent.then(|| "its agent is silent".to_owned())
}

#[cfg(test)]
mod tests {
    use proto::{instance::Health, signal::Report};

    use super::*;

    const HEALTHY: Duration = Duration::from_secs(15);

    fn status(records: Vec<InstanceRecord>, prices: Option<&Prices>) -> Status {
        let (pool, large) = ("p".parse().unwrap(), "large".parse().unwrap());
        let small = "small".parse().unwrap();
        let known = Known {
            pool: &pool,
            github_url: "https://github.com/acme/web",
            classes: vec![&large, &small],
            healthy_within: HEALTHY,
        };
        Status::of(&known, records, prices, Time::from_millis(100_000))
    }

    fn record(state: State, beat: i64) -> InstanceRecord {
        InstanceRecord {
            heartbeat: Some(Time::from_millis(beat)),
            ..InstanceRecord::example(state)
        }
    }

    #[test]
    fn a_class_without_machines_is_there_too() {
        let retired = InstanceRecord {
            resource_class: "retired".parse().unwrap(),
            ..InstanceRecord::example(State::Terminated)
        };
        let status = status(vec![record(State::Idle, 99_000), retired], None);
        let names = status.classes.iter().flat_map(|class| &class.name);
        let names: Vec<String> = names.map(ToString::to_string).collect();
        assert_eq!(names, ["large", "small", "retired"]);
        let total = status.total();
        assert_eq!((total.idle, total.machines(), total.cpu), (1, 1, 2));
        let machine = &status.machines[0];
        assert_eq!(machine.age_sec, 100);
        assert_eq!(machine.left_sec, Some(-40));
        assert_eq!(machine.heartbeat_sec, Some(1));
        assert_eq!(machine.trouble, None);
        assert_eq!(status.cost, None);
    }

    #[test]
    fn what_is_wrong_is_said() {
        let silent = record(State::Running, 1_000);
        let sick = InstanceRecord {
            health: Some(Health {
                healthy: false,
                reason: Some("disk full".into()),
            }),
            ..record(State::Idle, 99_000)
        };
        let failed = InstanceRecord {
            report: Some(Report {
                signal: Signal::Failed,
                generation: 1,
                at: Time::EPOCH,
                detail: Some("exit code 3".into()),
            }),
            ..record(State::Created, 99_000)
        };
        let young = InstanceRecord::example(State::Created);
        let troubles: Vec<Option<String>> = [silent, sick, failed, young]
            .into_iter()
            .map(|record| status(vec![record], None).machines[0].trouble.clone())
            .collect();
        assert_eq!(troubles[0].as_deref(), Some("its agent is silent"));
        assert_eq!(troubles[1].as_deref(), Some("disk full"));
        assert_eq!(troubles[2].as_deref(), Some("it did not boot: exit code 3"));
        assert_eq!(troubles[3], None);
    }
}
