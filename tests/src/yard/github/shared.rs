//! One state for all servers, and a bell that rings when it changes.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::{OnceCell, watch};

use super::super::clock;
use super::Settings;
use super::download::Archive;
use super::state::State;

pub(super) struct Shared {
    state: Mutex<State>,
    changed: watch::Sender<()>,
    /// Packed at the first download.
    pub(super) archive: OnceCell<Archive>,
}

/// A wait that outlasted its deadline, with what was seen last.
#[derive(Clone, Debug)]
pub struct Overdue<T>(pub T);

impl<T: std::fmt::Debug> std::fmt::Display for Overdue<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "not reached in time; last seen: {:?}", self.0)
    }
}

impl<T: std::fmt::Debug> std::error::Error for Overdue<T> {}

impl Shared {
    pub(super) fn new(settings: Settings) -> Self {
        Self {
            state: Mutex::new(State::new(settings)),
            changed: watch::Sender::new(()),
            archive: OnceCell::new(),
        }
    }

    /// The present, by GitHub's clock.
    pub(super) fn now(&self) -> Timestamp {
        let ahead = self.quietly(|state| state.faults.ahead);
        clock::now() + SignedDuration::from_secs(ahead)
    }

    /// A look, or a change that nobody waits for.
    pub(super) fn quietly<R>(&self, visit: impl FnOnce(&mut State) -> R) -> R {
        visit(&mut self.lock())
    }

    /// A change, and the bell.
    pub(super) fn update<R>(&self, change: impl FnOnce(&mut State) -> R) -> R {
        let result = change(&mut self.lock());
        self.ring();
        result
    }

    pub(super) fn ring(&self) {
        self.changed.send_replace(());
    }

    /// Waits until `look` finds something; the last look is at the deadline.
    pub(super) async fn wait<R>(
        &self,
        deadline: Instant,
        mut look: impl FnMut(&mut State) -> Option<R>,
    ) -> Option<R> {
        let mut changes = self.changed.subscribe();
        loop {
            changes.mark_unchanged();
            if let Some(found) = self.quietly(&mut look) {
                return Some(found);
            }
            let rung = tokio::time::timeout_at(deadline.into(), changes.changed()).await;
            if rung.is_err() {
                return self.quietly(&mut look);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
