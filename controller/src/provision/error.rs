//! Why a provision failed, and what to do about it.

use proto::{
    ids::{InstanceId, Label},
    provision::Phase,
    table::TableError,
};

use super::advice::{Kind, advice, causes, remedies};
use crate::{
    journal::JournalError,
    ports::{FleetError, PortError},
    release::GiveBackError,
    settings::BadInput,
};

/// Why a provision failed.
#[derive(Debug, thiserror::Error)]
pub enum ProvisionError {
    /// An input that the pool's configuration does not allow.
    #[error(transparent)]
    Input(#[from] BadInput),
    /// Refresh has not done its part.
    #[error("the pool is not ready: {0}; run `controller refresh` first")]
    NotSetUp(&'static str),
    /// The label has machines already, or another step is about to get them.
    #[error(
        "label {label} is already {phase}{why}: give this provision a `name` of its own, or \
         release it first"
    )]
    Taken {
        /// The label.
        label: Label,
        /// Where that provision stands.
        phase: Phase,
        /// Why it cannot be adopted, with a leading blank; empty if that is plain.
        why: &'static str,
    },
    /// EC2 gave fewer machines than were missing.
    #[error("EC2 launched {launched} of {wanted} machines: {}", causes(.errors))]
    Short {
        /// How many it launched; they were terminated.
        launched: usize,
        /// How many were missing.
        wanted: usize,
        /// EC2's reasons.
        errors: Vec<FleetError>,
    },
    /// EC2 refused the fleet request as a whole, or never answered it.
    #[error(transparent)]
    Refused(PortError),
    /// A machine will not serve.
    #[error("machine {id} {what}")]
    Machine {
        /// Which.
        id: InstanceId,
        /// What is wrong with it.
        what: String,
    },
    /// GitHub cancelled the step.
    #[error("cancelled")]
    Cancelled,
    /// GitHub cancelled the step while a failed provision was taken back.
    #[error("cancelled while it was taken back")]
    CancelledFailing(#[source] Box<ProvisionError>),
    /// The journal could not be written.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The table could not be asked.
    #[error(transparent)]
    Table(#[from] TableError),
    /// AWS could not be asked.
    #[error(transparent)]
    Port(#[from] PortError),
    /// A roll-back met trouble.
    #[error(transparent)]
    GiveBack(#[from] GiveBackError),
}

/// What follows an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Course {
    /// Scarcity: another usage class may have what was missing. If none is to be asked, as below.
    Elsewhere,
    /// A failure that is to be expected: claimed machines are given back, new ones terminated.
    RollBack,
    /// Anything else: every machine of the provision is terminated.
    Terminate,
}

impl ProvisionError {
    /// What has to follow.
    pub(super) fn course(&self) -> Course {
        let scarce = |code: &str| advice(code).0 == Kind::Scarce;
        match self {
            Self::Short { errors, .. }
                if errors.is_empty() || errors.iter().any(|error| scarce(&error.code)) =>
            {
                Course::Elsewhere
            }
            Self::Refused(error) => match &error.code {
                Some(code) if scarce(code) => Course::Elsewhere,
                Some(_) => Course::RollBack,
                None => Course::Terminate,
            },
            Self::Short { .. } | Self::Machine { .. } => Course::RollBack,
            Self::Input(_)
            | Self::NotSetUp(_)
            | Self::Taken { .. }
            | Self::Cancelled
            | Self::CancelledFailing(_)
            | Self::Journal(_)
            | Self::Table(_)
            | Self::Port(_)
            | Self::GiveBack(_) => Course::Terminate,
        }
    }

    /// What to change, where the error's own words do not end with it.
    pub fn remedy(&self) -> Option<String> {
        match self {
            Self::Short { errors, .. } => Some(remedies(errors)),
            Self::Refused(error) => Some(match &error.code {
                Some(code) => advice(code).1.to_owned(),
                None => "see AWS's health dashboard and try later".to_owned(),
            }),
            Self::Machine { .. } => Some(
                "see the machine's console output at EC2; if the pre-runner script or the image is \
                 at fault, correct it and run refresh"
                    .to_owned(),
            ),
            Self::Table(_)
            | Self::Port(_)
            | Self::GiveBack(_)
            | Self::Journal(JournalError::Table(_)) => Some(
                "check the credentials, their permissions, the region and the way to AWS; then run it again"
                    .to_owned(),
            ),
            Self::Journal(JournalError::TakenOver(_)) => Some("run the step again".to_owned()),
            Self::CancelledFailing(error) => error.remedy(),
            Self::Input(_) | Self::NotSetUp(_) | Self::Taken { .. } | Self::Cancelled => None,
        }
    }
}

/// A provision that failed, with what could not be taken back.
#[derive(Debug)]
pub struct Failure {
    /// The first error.
    pub error: ProvisionError,
    /// What is left for refresh, in words; empty when nothing is.
    pub left: Vec<String>,
}

impl From<ProvisionError> for Failure {
    fn from(error: ProvisionError) -> Self {
        Self {
            error,
            left: Vec::new(),
        }
    }
}
