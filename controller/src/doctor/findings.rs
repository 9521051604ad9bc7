//! What doctor found out, one line each.

use std::{error::Error, fmt};

use crate::output::chain;

/// How something stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// As it must be.
    Well,
    /// The pool works, but not for long, or not for all.
    Doubtful,
    /// The pool cannot work.
    Ill,
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Well => "ok",
            Self::Doubtful => "warning",
            Self::Ill => "failed",
        })
    }
}

/// What was found out about one thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// About what.
    pub about: String,
    /// How it stands.
    pub health: Health,
    /// What there is, or what to do.
    pub words: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<8} {}: {}", self.health, self.about, self.words)
    }
}

/// Findings as they come.
#[derive(Debug, Default)]
pub struct Findings(Vec<Finding>);

impl Findings {
    /// All of them.
    pub fn all(&self) -> &[Finding] {
        &self.0
    }

    /// Adds another's.
    pub fn extend(&mut self, others: Self) {
        self.0.extend(others.0);
    }

    /// Adds one.
    pub fn add(&mut self, about: impl Into<String>, health: Health, words: impl Into<String>) {
        let (about, words) = (about.into(), words.into());
        self.0.push(Finding {
            about,
            health,
            words,
        });
    }

    /// What a look gave, if it gave something; its error otherwise becomes a finding.
    pub(super) fn look<T, E: Error>(&mut self, about: &str, looked: Result<T, E>) -> Option<T> {
        looked
            .map_err(|error| self.add(about, Health::Ill, chain(&error)))
            .ok()
    }
}
