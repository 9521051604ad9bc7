//! Instants as the table holds them: RFC 3339, UTC, milliseconds, fixed width.

use std::{fmt, str::FromStr, time::Duration};

use jiff::{SignedDuration, Timestamp, Unit};
use serde::{Deserialize, Serialize};

/// An instant with millisecond precision.
///
/// Its text (`2026-11-21T04:05:06.789Z`) has a fixed width, so that it sorts as text: the table's
/// index and its conditions compare times as strings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Time(Timestamp);

impl Time {
    /// 1970-01-01T00:00:00Z.
    pub const EPOCH: Self = Self(Timestamp::UNIX_EPOCH);

    /// The instant that many milliseconds after 1970-01-01T00:00:00Z.
    ///
    /// Instants outside the years −9999 to 9999 are cut to the nearest one inside.
    pub fn from_millis(millis: i64) -> Self {
        let nearest = if millis < 0 {
            Timestamp::MIN
        } else {
            Timestamp::MAX
        };
        Self(Timestamp::from_millisecond(millis).unwrap_or(nearest))
    }

    /// Milliseconds since 1970-01-01T00:00:00Z.
    pub fn as_millis(self) -> i64 {
        self.0.as_millisecond()
    }

    /// Whole seconds since 1970-01-01T00:00:00Z: the form that DynamoDB's TTL wants.
    pub fn as_secs(self) -> i64 {
        self.0.as_second()
    }

    /// How long ago `earlier` was; zero when it lies in the future.
    pub fn since(self, earlier: Self) -> Duration {
        self.0
            .duration_since(earlier.0)
            .try_into()
            .unwrap_or(Duration::ZERO)
    }
}

impl std::ops::Add<Duration> for Time {
    type Output = Self;

    fn add(self, rhs: Duration) -> Self {
        let millis = i64::try_from(rhs.as_millis()).unwrap_or(i64::MAX);
        Self::from_millis(self.as_millis().saturating_add(millis))
    }
}

impl std::ops::Sub<Duration> for Time {
    type Output = Self;

    fn sub(self, rhs: Duration) -> Self {
        let millis = i64::try_from(rhs.as_millis()).unwrap_or(i64::MAX);
        Self::from_millis(self.as_millis().saturating_sub(millis))
    }
}

impl From<Timestamp> for Time {
    /// Cuts what is finer than a millisecond.
    fn from(timestamp: Timestamp) -> Self {
        Self::from_millis(timestamp.as_millisecond())
    }
}

impl From<Time> for Timestamp {
    fn from(time: Time) -> Self {
        time.0
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3}", self.0)
    }
}

impl From<Time> for String {
    fn from(time: Time) -> Self {
        time.to_string()
    }
}

/// The text is no RFC 3339 instant.
#[derive(Debug, thiserror::Error)]
#[error("`{text}` is no RFC 3339 instant such as 2026-11-21T04:05:06.789Z")]
pub struct InvalidTime {
    text: String,
    source: jiff::Error,
}

impl FromStr for Time {
    type Err = InvalidTime;

    fn from_str(text: &str) -> Result<Self, InvalidTime> {
        text.parse::<Timestamp>()
            .map(Self::from)
            .map_err(|source| InvalidTime {
                text: text.to_owned(),
                source,
            })
    }
}

impl TryFrom<String> for Time {
    type Error = InvalidTime;

    fn try_from(text: String) -> Result<Self, InvalidTime> {
        text.parse()
    }
}

/// Where the present comes from. Handed in, so that tests and simulations bring their own.
pub trait Clock: Send + Sync {
    /// The present instant.
    fn now(&self) -> Time;
}

/// The machine's own clock; for `main` and its wiring alone.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that reads the clock"
    )]
    fn now(&self) -> Time {
        Timestamp::now().into()
    }
}

/// A duration as people read it: `0.25s`, `41s`, `7m 0s`, `2h 5m`.
pub fn human(duration: Duration) -> String {
    let signed = SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX);
    if signed < SignedDuration::from_secs(10) {
        return format!("{:.2}s", duration.as_secs_f64());
    }
    let seconds = signed.round(Unit::Second).unwrap_or(signed).as_secs();
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, s) => format!("{s}s"),
        (0, m, s) => format!("{m}m {s}s"),
        (h, m, _) => format!("{h}h {m}m"),
    }
}

/// How far one clock is from another's, which is named: `1h 1m behind AWS`.
pub fn apart(here: Time, there: Time, whose: &str) -> String {
    if here < there {
        format!("{} behind {whose}", human(there.since(here)))
    } else {
        format!("{} ahead of {whose}", human(here.since(there)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn text_has_a_fixed_width() {
        assert_eq!(Time::from_millis(0).to_string(), "1970-01-01T00:00:00.000Z");
        assert_eq!(
            Time::from_millis(1_500).to_string(),
            "1970-01-01T00:00:01.500Z"
        );
    }

    #[test]
    fn what_is_no_instant_is_named() {
        let error = "yesterday".parse::<Time>().unwrap_err();
        assert!(error.to_string().contains("`yesterday`"), "{error}");
    }

    #[test]
    fn since_a_later_instant_is_zero() {
        assert_eq!(
            Time::from_millis(5).since(Time::from_millis(9)),
            Duration::ZERO
        );
        assert_eq!(
            Time::from_millis(9).since(Time::from_millis(5)),
            Duration::from_millis(4)
        );
    }

    #[test]
    fn people_read_durations() {
        assert_eq!(human(Duration::from_millis(250)), "0.25s");
        assert_eq!(human(Duration::from_secs(41)), "41s");
        assert_eq!(human(Duration::from_mins(7)), "7m 0s");
        assert_eq!(human(Duration::from_mins(125)), "2h 5m");
    }

    proptest! {
        #[test]
        fn sorts_as_text_as_it_sorts_in_time(a in 0i64..253_000_000_000_000, b in 0i64..253_000_000_000_000) {
            let (a, b) = (Time::from_millis(a), Time::from_millis(b));
            prop_assert_eq!(a.cmp(&b), a.to_string().cmp(&b.to_string()));
            prop_assert_eq!(a.to_string().parse::<Time>().unwrap(), a);
        }
    }
}
