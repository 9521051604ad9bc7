//! What a refresh came to.

use std::{error::Error, fmt};

use proto::{
    config::SCHEMA_VERSION,
    ids::{InstanceId, PoolName},
    time::Time,
};

use super::{image::UnfitImage, step::Step, table::TableTrouble};
use crate::metrics::Measure;

/// Any error of a step.
pub type StepError = Box<dyn Error + Send + Sync>;

/// What was planned, and what of it failed.
#[derive(Debug, Default)]
pub struct Report {
    /// The whole plan, in the order of its execution.
    pub planned: Vec<Step>,
    /// What failed, with its cause.
    pub failed: Vec<(Failed, StepError)>,
    /// The machines that were launched for the floor and are idle now.
    pub raised: Vec<InstanceId>,
    /// The pool as it was found, if that is to be published.
    pub measures: Vec<Measure>,
    /// Why nothing was looked at or touched.
    pub refused: Option<Refused>,
    /// Since when another refresh is at work, to which this one left everything.
    pub left_to: Option<Time>,
}

/// What there is does not fit what refresh was given.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// The table was written by a later version, which this one would spoil.
    #[error(
        "the table was written by a newer Paddock (schema {0}, this one writes {SCHEMA_VERSION}): \
         use that version"
    )]
    Newer(u32),
    /// The pool's name is taken: with the other one's table its machines would be shared.
    #[error("pool {pool} serves {owner}: give this one another `pool-name`")]
    Others {
        /// The pool.
        pool: PoolName,
        /// Where its runners register.
        owner: String,
    },
    /// The table is none of Paddock's.
    #[error(transparent)]
    Table(TableTrouble),
    /// The image that was asked for will not do.
    #[error(transparent)]
    Image(UnfitImage),
}

/// What failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failed {
    /// A source could not be looked at.
    Look(&'static str),
    /// A step could not be done.
    Step(Box<Step>),
    /// The right to act could not be had, or was lost.
    Lease,
    /// Metrics could not be published.
    Metrics,
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Look(source) => write!(f, "look at {source}"),
            Self::Step(step) => step.fmt(f),
            Self::Metrics => f.write_str("publish metrics"),
            Self::Lease => f.write_str("keep other refreshes away"),
        }
    }
}
