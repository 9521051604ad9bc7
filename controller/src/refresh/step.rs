//! What refresh can do, each as a value that says itself in one line.

mod because;
mod changes;
mod display;

use proto::{
    config::{LaunchTemplate, Parameters, ResourceClass, Schema},
    ids::{ClassName, InstanceArn, InstanceId, RunId},
    instance::InstanceRecord,
    provision::ProvisionRecord,
    state::State,
    time::Time,
};

pub use self::because::{Because, Stray};
pub(super) use self::display::count_line;
use super::{ClassSpec, bounds::Kind, table::TableStep};
use crate::ports::{ForgeRunner, TemplateContent, TemplateState};

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The table is missing, or lacks a feature.
    Table(TableStep),
    /// The table's item about itself is missing or old.
    PutSchema {
        /// As it is.
        old: Option<Schema>,
        /// As it should be.
        new: Schema,
    },
    /// The launch template is missing, or its default version has other content.
    PutTemplate {
        /// Its name.
        name: String,
        /// As it is.
        old: Option<TemplateState>,
        /// What the default version should hold.
        content: Box<TemplateContent>,
    },
    /// The launch template is right, the configuration says something else.
    RecordTemplate {
        /// As the configuration has it.
        old: Option<Box<LaunchTemplate>>,
        /// As it is.
        new: Box<LaunchTemplate>,
    },
    /// The launch template has too many versions.
    PruneTemplate {
        /// `lt-…`
        id: String,
        /// Those to delete.
        versions: Vec<i64>,
    },
    /// A class is missing, has another size, or its queue is not as it should be.
    PutClass {
        /// As the configuration has it.
        old: Option<ResourceClass>,
        /// As it should be.
        new: ClassSpec,
        /// What is wrong with the queue that it has.
        queue: QueueTrouble,
    },
    /// A class is no longer wanted.
    RetireClass(ResourceClass),
    /// Subnets or times differ.
    PutParameters {
        /// As the configuration has them.
        old: Option<Parameters>,
        /// As they should be.
        new: Parameters,
    },
    /// GitHub's tokens are missing, or half of their life is over.
    RenewTokens {
        /// When the present ones end, and whether that is over: then no provision works.
        ends_at: Option<(Time, bool)>,
    },
    /// Machines get the token of GitHub's that they need.
    HandToken {
        /// What for.
        to: TokenTo,
        /// Each with the generation that it is meant for.
        machines: Vec<(InstanceArn, u64)>,
    },
    /// A provision's controller died: what it had is ended.
    Undo {
        /// The journal.
        record: Box<ProvisionRecord>,
        /// Its machines, as far as journal, records and tags know them.
        machines: Vec<InstanceId>,
    },
    /// A machine that is no good any more: its record is locked, then it is terminated.
    Terminate {
        /// The machine.
        arn: InstanceArn,
        /// Why.
        because: Because,
    },
    /// A machine that no live record knows.
    TerminateStray {
        /// The machine.
        id: InstanceId,
        /// What of its record.
        because: Stray,
    },
    /// A live record whose machine is gone.
    Close {
        /// The machine that was.
        arn: InstanceArn,
        /// What the record says.
        state: State,
        /// The record's generation.
        generation: u64,
    },
    /// A run that GitHub says is over still has machines: they are given back.
    Release {
        /// The run.
        run: RunId,
        /// Those of its machines that are running, each with the generation that was looked at.
        machines: Vec<(InstanceId, u64)>,
    },
    /// A runner is offline and its machine is gone.
    DeleteRunner(ForgeRunner),
    /// A machine of the floor came up: it joins the idle ones.
    Pool(Box<InstanceRecord>),
    /// Idle machines of the floor may stay for longer.
    Keep {
        /// Their kind.
        kind: Kind,
        /// Those to keep.
        records: Vec<InstanceRecord>,
        /// Until when.
        until: Time,
    },
    /// There are fewer idle machines than there should be.
    Raise {
        /// Their kind.
        kind: Kind,
        /// How many to launch.
        count: u32,
        /// How many there should be.
        least: u32,
    },
    /// Idle machines that the queue seems to have lost.
    Resend {
        /// Their class.
        class: ClassName,
        /// Those to list again.
        records: Vec<InstanceRecord>,
    },
    /// A queue holds messages of machines that are not idle any more.
    Sweep {
        /// Its class.
        class: ClassName,
        /// About how many.
        surplus: u64,
    },
}

impl Step {
    /// Whether it ends a machine because of the launch template's version.
    pub(super) fn is_for_template(&self) -> bool {
        matches!(
            self,
            Self::Terminate {
                because: Because::OldTemplate { .. },
                ..
            }
        )
    }

    /// Whether it ends a machine because its class is retired, namely this one.
    pub(super) fn retires(&self, retired: &ClassName) -> bool {
        matches!(
            self,
            Self::Terminate {
                because: Because::ClassRetired { class, .. },
                ..
            } if class == retired
        )
    }

    /// The machines of the provision that this step undoes, if it undoes one.
    pub(super) fn undone(&self) -> Option<&[InstanceId]> {
        if let Self::Undo { machines, .. } = self {
            return Some(machines);
        }
        None
    }
}

/// What a machine needs a token of GitHub's for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenTo {
    /// It is running, and its runner registers anew after each job.
    Register,
    /// It is idle and was released while a job ran, which could have read the token; whoever
    /// released it died before the job ended.
    Deregister,
}

/// What is wrong with a class's queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QueueTrouble {
    /// Nothing that anybody knows of.
    None,
    /// It is gone.
    Gone,
    /// These attributes: name, value, and what it should be.
    Odd(Vec<(String, String, String)>),
}
