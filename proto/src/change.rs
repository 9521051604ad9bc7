//! A conditional write as data, so that every form of the table does the same with it.
//!
//! A [`Change`] is a list of conditions, all of which must hold, and a list of assignments. The
//! in-memory table runs it with [`Change::holds`] and [`Change::apply`]; the DynamoDB table writes
//! it as one `UpdateItem`. One contract suite keeps the two equal.

use crate::{
    ids::Label,
    instance::{Health, InstanceRecord, Job, Runner, Secret},
    signal::{Report, Signal},
    state::State,
    time::Time,
};

/// One condition. A condition on an attribute that is not there does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Clause {
    /// There is a record.
    Exists,
    /// The record is in one of these states.
    StateIn(Vec<State>),
    /// It bears this label.
    LabelIs(Label),
    /// It bears none.
    NoLabel,
    /// It is in this generation.
    GenerationIs(u64),
    /// Its threshold lies after this instant.
    ThresholdAfter(Time),
    /// Its threshold is this instant or lies before it.
    ThresholdReached(Time),
    /// Its last report is this signal, for this generation.
    Reported(Signal, u64),
    /// Its last beat is this instant or later.
    BeatAfter(Time),
    /// Its agent knows of no job.
    NoJob,
    /// Its agent said in this very generation that it is deregistered and clean, and no job runs.
    Clean,
    /// It holds this token of GitHub's.
    TokenIs(Secret),
    /// Its last beat is of this very instant.
    BeatIs(Time),
}

/// One assignment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Assign {
    /// Moves to a state.
    State(State),
    /// Sets or clears the label.
    Label(Option<Label>),
    /// Sets or clears the threshold.
    Threshold(Option<Time>),
    /// Counts the generation up by one.
    NextGeneration,
    /// When the present state began.
    Since(Time),
    /// Sets or removes GitHub's token.
    Token(Option<Secret>),
    /// Why the machine was terminated.
    Reason(String),
    /// When DynamoDB may forget the record.
    ExpiresAt(Time),
    /// The agent's beat.
    Heartbeat(Time),
    /// The agent's signal.
    Report(Report),
    /// The runner program.
    Runner(Runner),
    /// The job that runs, or none.
    Job(Option<Job>),
    /// How many jobs ended on the machine.
    Jobs(u32),
    /// The machine's health.
    Health(Health),
}

/// A conditional write to one instance record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// All of these must hold.
    pub when: Vec<Clause>,
    /// Then all of these are written, as one.
    pub set: Vec<Assign>,
}

impl Change {
    /// The agent's beat: writes the heartbeat, and whatever else it has to say, to a record that
    /// exists. The answer is the whole record, so one call reports and looks.
    pub fn beat(now: Time, also: impl IntoIterator<Item = Assign>) -> Self {
        Self {
            when: vec![Clause::Exists],
            set: std::iter::once(Assign::Heartbeat(now))
                .chain(also)
                .collect(),
        }
    }

    /// Lets a machine that is idle still, as it was when it was looked at, stay so until then.
    pub fn stay_idle(generation: u64, now: Time, until: Time) -> Self {
        Self {
            when: vec![
                Clause::StateIn(vec![State::Idle]),
                Clause::GenerationIs(generation),
                Clause::ThresholdAfter(now),
            ],
            set: vec![Assign::Threshold(Some(until))],
        }
    }

    /// Removes GitHub's token from the record, unless the controller has moved on meanwhile and
    /// written another; a call that arrives after the agent's next beat does nothing, for the same
    /// token may be there anew. Both conditions are on what the agent may write: IAM counts what a
    /// condition names as if it were written, and would have to allow the generation, too.
    pub fn forget_token(token: Secret, last_beat: Option<Time>) -> Self {
        Self {
            when: std::iter::once(Clause::TokenIs(token))
                .chain(last_beat.map(Clause::BeatIs))
                .collect(),
            set: vec![Assign::Token(None)],
        }
    }

    /// Hands GitHub's removal token to a machine that was released while a job ran on it, now that
    /// none does: a job could read it.
    pub fn hand_token(generation: u64, token: Secret) -> Self {
        Self {
            when: vec![
                Clause::StateIn(vec![State::Idle]),
                Clause::NoLabel,
                Clause::GenerationIs(generation),
                Clause::NoJob,
            ],
            set: vec![Assign::Token(Some(token))],
        }
    }

    /// Hands GitHub's registration token to a machine whose runner registers anew after each job.
    pub fn renew_token(generation: u64, token: Secret) -> Self {
        Self {
            when: vec![
                Clause::StateIn(vec![State::Running]),
                Clause::GenerationIs(generation),
            ],
            set: vec![Assign::Token(Some(token))],
        }
    }

    /// Whether every condition holds of the record, or of its absence.
    pub fn holds(&self, record: Option<&InstanceRecord>) -> bool {
        record.is_some_and(|record| self.when.iter().all(|clause| clause.holds(record)))
    }

    /// Writes every assignment.
    pub fn apply(&self, record: &mut InstanceRecord) {
        for assign in &self.set {
            assign.apply(record);
        }
    }
}

impl Clause {
    fn holds(&self, record: &InstanceRecord) -> bool {
        match self {
            Self::Exists => true,
            Self::StateIn(states) => states.contains(&record.state),
            Self::LabelIs(label) => record.label.as_ref() == Some(label),
            Self::NoLabel => record.label.is_none(),
            Self::GenerationIs(generation) => record.generation == *generation,
            Self::ThresholdAfter(time) => record.threshold.is_some_and(|t| t > *time),
            Self::ThresholdReached(time) => record.threshold.is_some_and(|t| t <= *time),
            Self::Reported(signal, generation) => record
                .report
                .as_ref()
                .is_some_and(|r| r.signal == *signal && r.generation == *generation),
            Self::NoJob => record.job.is_none(),
            Self::Clean => record.says(Signal::RemoveRegOk) && record.job.is_none(),
            Self::BeatAfter(time) => record.heartbeat.is_some_and(|beat| beat >= *time),
            Self::TokenIs(token) => record.token.as_ref() == Some(token),
            Self::BeatIs(time) => record.heartbeat == Some(*time),
        }
    }
}

impl Assign {
    fn apply(&self, record: &mut InstanceRecord) {
        match self {
            Self::State(state) => record.state = *state,
            Self::Label(label) => record.label.clone_from(label),
            Self::Threshold(threshold) => record.threshold = *threshold,
            Self::NextGeneration => record.generation += 1,
            Self::Since(since) => record.since = *since,
            Self::Token(token) => record.token.clone_from(token),
            Self::Reason(reason) => record.reason = Some(reason.clone()),
            Self::ExpiresAt(time) => record.expires_at = Some(time.as_secs()),
            Self::Heartbeat(time) => record.heartbeat = Some(*time),
            Self::Report(report) => record.report = Some(report.clone()),
            Self::Runner(runner) => record.runner = Some(runner.clone()),
            Self::Job(job) => record.job.clone_from(job),
            Self::Jobs(jobs) => record.jobs = *jobs,
            Self::Health(health) => record.health = Some(health.clone()),
        }
    }
}
