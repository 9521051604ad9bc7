//! Since when nobody speaks to this machine: what two of its deadlines count from, and what a
//! restart of the agent must not make it forget.

use std::time::Duration;

use super::Now;

/// What hardly changed is not worth a write to the disk.
const STEP: Duration = Duration::from_secs(10);

/// How long ago things were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ages {
    /// Since the table last answered.
    pub contact: Duration,
    /// Since when there is no record; none when there was one.
    pub recordless: Option<Duration>,
}

/// The same as instants of the clock that does not jump.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Silences {
    /// When the table last answered.
    pub contact: Duration,
    /// Since when there is no record; none when there is one.
    pub recordless: Option<Duration>,
}

impl Silences {
    pub(super) fn of(ages: Ages, now: Now) -> Self {
        let before = |age| now.mono.saturating_sub(age);
        Self {
            contact: before(ages.contact),
            recordless: ages.recordless.map(before),
        }
    }

    /// How long ago they began.
    pub fn ages(self, now: Now) -> Ages {
        let age = |at| now.mono.saturating_sub(at);
        Ages {
            contact: age(self.contact),
            recordless: self.recordless.map(age),
        }
    }

    /// Whether these should be kept in place of `earlier` ones.
    pub fn differ(self, earlier: Self) -> bool {
        self.recordless.is_some() != earlier.recordless.is_some()
            || self.contact >= earlier.contact + STEP
    }
}
