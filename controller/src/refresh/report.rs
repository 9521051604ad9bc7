//! What a refresh came to.

use std::{error::Error, fmt};

use proto::time::Time;

use super::step::Step;
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
    /// The pool as it was found, if that is to be published.
    pub measures: Vec<Measure>,
    /// Since when another refresh is at work, to which this one left everything.
    pub left_to: Option<Time>,
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
