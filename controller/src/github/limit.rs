//! GitHub's rate limits: how long it wants to be left alone, and how much of that is granted.
//!
//! Source: <https://docs.github.com/rest/using-the-rest-api/rate-limits-for-the-rest-api>.

use std::{sync::Mutex, sync::PoisonError, time::Duration};

use jiff::fmt::rfc2822;
use proto::time::Time;
use reqwest::{StatusCode, header::HeaderMap};

/// What GitHub asks for when a secondary limit names no time.
const UNTOLD: Duration = Duration::from_mins(1);
/// All waiting of one command together: refresh runs every ten minutes and has more to do.
const BUDGET: Duration = Duration::from_mins(2);

/// The first pause is no shorter, and each further one no shorter than twice that: GitHub wants
/// those to grow who are limited again.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// For how long GitHub wants no more calls, if that is what this answer says. What time it is at
/// GitHub the answer says, too: `now` counts where it does not.
pub(super) fn wanted_pause(
    status: StatusCode,
    headers: &HeaderMap,
    message: &str,
    now: Time,
) -> Option<Duration> {
    if !matches!(
        status,
        StatusCode::FORBIDDEN | StatusCode::TOO_MANY_REQUESTS
    ) {
        return None;
    }
    let number = |name| -> Option<i64> { headers.get(name)?.to_str().ok()?.trim().parse().ok() };
    if let Some(seconds) = number("retry-after") {
        return Some(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)));
    }
    if let (Some(0), Some(reset)) = (number("x-ratelimit-remaining"), number("x-ratelimit-reset")) {
        let now = sent_at(headers).unwrap_or(now);
        // A second more: both are cut to whole seconds.
        let reset = Time::from_millis(reset.saturating_add(1).saturating_mul(1000));
        return Some(reset.since(now));
    }
    let limited =
        status == StatusCode::TOO_MANY_REQUESTS || message.to_lowercase().contains("rate limit");
    limited.then_some(UNTOLD)
}

/// When GitHub sent this answer, by its own clock.
pub(super) fn sent_at(headers: &HeaderMap) -> Option<Time> {
    let date = headers.get("date")?.to_str().ok()?;
    Some(Time::from(rfc2822::parse(date).ok()?.timestamp()))
}

/// How long a command will wait for GitHub's limits, all in all.
#[derive(Debug)]
pub(super) struct Patience(Mutex<Left>);

#[derive(Debug)]
struct Left {
    budget: Duration,
    /// The next pause is at least so long.
    least: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self(Mutex::new(Left {
            budget: BUDGET,
            least: FIRST_PAUSE,
        }))
    }
}

impl Patience {
    /// How long to wait where GitHub wants this pause, if that can be granted; then it is spent.
    pub(super) fn grant(&self, wanted: Duration) -> Option<Duration> {
        let mut left = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let pause = wanted.max(left.least);
        left.budget = left.budget.checked_sub(pause)?;
        left.least *= 2;
        Some(pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
            .collect()
    }

    #[test]
    fn each_kind_of_limit_is_understood() {
        let now = Time::from_millis(1_000_000);
        let pause = |status, pairs: &[_], message| {
            wanted_pause(status, &headers(pairs), message, now).map(|pause| pause.as_secs())
        };
        let (forbidden, too_many) = (StatusCode::FORBIDDEN, StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(pause(forbidden, &[("retry-after", "7")], ""), Some(7));
        let used_up = [
            ("x-ratelimit-remaining", "0"),
            ("x-ratelimit-reset", "1030"),
        ];
        assert_eq!(pause(forbidden, &used_up, ""), Some(31));
        let reset_is_over = [("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "3")];
        assert_eq!(pause(too_many, &reset_is_over, ""), Some(0));
        // This machine's clock is an hour off; GitHub's counts.
        let told = [
            used_up[0],
            ("x-ratelimit-reset", "4630"),
            ("date", "Thu, 01 Jan 1970 01:16:40 GMT"),
        ];
        assert_eq!(pause(forbidden, &told, ""), Some(31));
        let secondary = "You have exceeded a secondary rate limit.";
        assert_eq!(pause(forbidden, &[], secondary), Some(60));
        assert_eq!(pause(too_many, &[], ""), Some(60));
    }

    #[test]
    fn a_missing_permission_is_no_limit() {
        let left = headers(&[
            ("x-ratelimit-remaining", "4999"),
            ("x-ratelimit-reset", "2000"),
        ]);
        let message = "Resource not accessible by personal access token";
        let now = Time::from_millis(0);
        assert_eq!(
            wanted_pause(StatusCode::FORBIDDEN, &left, message, now),
            None
        );
        assert_eq!(
            wanted_pause(StatusCode::BAD_GATEWAY, &left, message, now),
            None
        );
    }

    #[test]
    fn patience_ends() {
        let patience = Patience::default();
        assert_eq!(patience.grant(BUDGET / 2), Some(BUDGET / 2));
        assert_eq!(patience.grant(BUDGET), None);
        assert_eq!(patience.grant(BUDGET / 2), Some(BUDGET / 2));
        assert_eq!(patience.grant(FIRST_PAUSE), None);
    }

    #[test]
    fn whoever_is_limited_without_end_does_not_ask_without_end() {
        let patience = Patience::default();
        let pauses = std::iter::from_fn(|| patience.grant(Duration::ZERO));
        let seconds: Vec<u64> = pauses.map(|pause| pause.as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32]);
    }
}
