//! The machine's record, as small as the protocol lets it be.

use std::{cell::RefCell, collections::HashMap, rc::Rc, sync::LazyLock, time::Duration};

use proto::{
    change::Clause,
    ids::Label,
    instance::{InstanceRecord, Job},
    signal::{Report, Signal},
    state::{State, Transition},
    time::Time,
};

use super::{Weakness, controllers::Write};

const NOW: Time = Time::EPOCH;
const SOON: Duration = Duration::from_hours(1);

/// A workflow run that wants a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Run {
    One,
    Other,
}

impl Run {
    pub(crate) const BOTH: [Self; 2] = [Self::One, Self::Other];

    pub(crate) fn label(self) -> Label {
        static LABELS: LazyLock<[Label; 2]> =
            LazyLock::new(|| ["1", "2"].map(|label| label.parse().expect("a valid label")));
        LABELS[self as usize].clone()
    }

    fn of(label: &Label) -> Self {
        if *label == Self::One.label() {
            Self::One
        } else {
            Self::Other
        }
    }
}

/// The record.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Row {
    pub(crate) state: State,
    pub(crate) run: Option<Run>,
    pub(crate) generation: u64,
    /// Whether its threshold has passed.
    pub(crate) over: bool,
    pub(crate) said: Option<(Signal, u64)>,
    pub(crate) job: bool,
}

impl Default for Row {
    /// Idle and clean.
    fn default() -> Self {
        Self {
            state: State::Idle,
            run: None,
            generation: 1,
            over: false,
            said: Some((Signal::RemoveRegOk, 1)),
            job: false,
        }
    }
}

/// What a conditional write came to, and the record after it.
#[derive(Clone)]
pub(crate) enum Written {
    Applied(Rc<InstanceRecord>),
    Refused(Rc<InstanceRecord>),
}

/// What is known of all rows so far: there are few, and each is asked for often.
#[derive(Default)]
struct Known {
    records: HashMap<Row, Rc<InstanceRecord>>,
    writes: HashMap<(Row, Write, Option<Weakness>), (Row, Written)>,
}

thread_local! {
    static KNOWN: RefCell<Known> = RefCell::default();
}

impl Row {
    /// The record as the program sees it.
    pub(crate) fn record(&self) -> Rc<InstanceRecord> {
        KNOWN.with_borrow_mut(|known| {
            if let Some(record) = known.records.get(self) {
                return Rc::clone(record);
            }
            let record = Rc::new(self.in_full());
            known.records.insert(self.clone(), Rc::clone(&record));
            record
        })
    }

    fn in_full(&self) -> InstanceRecord {
        let report = |(signal, generation)| Report {
            signal,
            generation,
            at: NOW,
            detail: None,
        };
        let job = || Job {
            name: "job".to_owned(),
            since: NOW,
        };
        InstanceRecord {
            label: self.run.map(Run::label),
            generation: self.generation,
            threshold: Some(if self.over { NOW - SOON } else { NOW + SOON }),
            report: self.said.map(report),
            job: self.job.then(job),
            heartbeat: Some(NOW),
            ..InstanceRecord::example(self.state)
        }
    }

    /// The record as the program sees it without one of its conditions.
    pub(crate) fn seen(&self, without: Option<Weakness>) -> Rc<InstanceRecord> {
        let told_now = |(signal, _)| (signal, self.generation);
        match without {
            Some(Weakness::SignalsWithoutGeneration) => Self {
                said: self.said.map(told_now),
                ..self.clone()
            }
            .record(),
            Some(
                Weakness::ClaimOfTheUnclean
                | Weakness::TerminationWithoutCondition
                | Weakness::NoRelisting,
            )
            | None => self.record(),
        }
    }

    /// Whether anybody may claim the machine.
    pub(crate) fn is_claimable(&self) -> bool {
        let claimed = self.clone().write(Write::Claim(Run::One), None);
        matches!(claimed, Written::Applied(_))
    }

    /// Does what DynamoDB does with the write.
    pub(crate) fn write(&mut self, write: Write, without: Option<Weakness>) -> Written {
        let key = (self.clone(), write, without);
        let known = KNOWN.with_borrow(|known| known.writes.get(&key).cloned());
        let (row, written) = known.unwrap_or_else(|| {
            let done = self.written(write, without);
            KNOWN.with_borrow_mut(|known| known.writes.insert(key, done.clone()));
            done
        });
        *self = row;
        written
    }

    fn written(&self, write: Write, without: Option<Weakness>) -> (Self, Written) {
        let step = write.step();
        let mut change = step.change(NOW);
        match without {
            Some(Weakness::ClaimOfTheUnclean) => change.when.retain(|c| *c != Clause::Clean),
            Some(Weakness::TerminationWithoutCondition)
                if matches!(step, Transition::Terminate { .. }) =>
            {
                change.when = vec![Clause::Exists];
            }
            Some(
                Weakness::SignalsWithoutGeneration
                | Weakness::TerminationWithoutCondition
                | Weakness::NoRelisting,
            )
            | None => {}
        }
        let record = self.seen(without);
        if !change.holds(Some(&record)) {
            return (self.clone(), Written::Refused(record));
        }
        let mut record = (*record).clone();
        change.apply(&mut record);
        let row = Self {
            state: record.state,
            run: record.label.as_ref().map(Run::of),
            generation: record.generation,
            over: record.threshold.is_some_and(|threshold| threshold <= NOW),
            ..self.clone()
        };
        (row, Written::Applied(Rc::new(record)))
    }
}
