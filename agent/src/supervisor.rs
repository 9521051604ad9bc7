//! What systemd hears of the agent: that it is ready, and that it gets on.
//!
//! That the process exists says nothing. systemd's watchdog is fed only while the loop turns and the
//! table answers, or while the machine is on its way out; an agent that hangs, or whose connections
//! do, is started anew, which harms no job.

use std::time::Duration;

use sd_notify::{NotifyState, notify, watchdog_enabled};

/// systemd, if it started this process.
#[derive(Debug)]
pub(crate) struct Supervisor {
    /// How long systemd waits for a sign, if it does.
    patience: Option<Duration>,
    fed: Option<Duration>,
    said: String,
}

impl Supervisor {
    pub(crate) fn new() -> Self {
        Self {
            patience: watchdog_enabled(),
            fed: None,
            said: String::new(),
        }
    }

    /// What `systemctl status` shows.
    pub(crate) fn say(&mut self, text: &str) {
        if self.said != text {
            text.clone_into(&mut self.said);
            tell(&[NotifyState::Status(text)]);
        }
    }

    /// How long the loop may sleep without seeming to hang.
    pub(crate) fn longest_sleep(&self) -> Duration {
        self.patience.map_or(Duration::MAX, |patience| patience / 4)
    }

    /// The loop turned at `now`, `silent` after the last sign of progress.
    pub(crate) fn turned(&mut self, now: Duration, silent: Duration) {
        let Some(patience) = self.patience else {
            return;
        };
        if is_due(patience, self.fed, now, silent) {
            self.fed = Some(now);
            tell(&[NotifyState::Watchdog]);
        }
    }
}

/// The agent has begun: from now on its unit counts as started.
pub(crate) fn ready() {
    tell(&[NotifyState::Ready]);
}

/// Whether the watchdog is to be fed: not more often than it needs.
fn is_due(patience: Duration, fed: Option<Duration>, now: Duration, silent: Duration) -> bool {
    silent <= patience / 2 && fed.is_none_or(|fed| now.saturating_sub(fed) >= patience / 4)
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = notify(state) {
        tracing::debug!("systemd does not hear: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_watchdog_is_fed_by_progress_alone_and_in_time() {
        let seconds = Duration::from_secs;
        let due = |fed: Option<u64>, now, silent| {
            is_due(
                seconds(120),
                fed.map(seconds),
                seconds(now),
                seconds(silent),
            )
        };
        assert!(due(None, 0, 0));
        assert!(!due(Some(0), 29, 0));
        assert!(due(Some(0), 30, 60));
        assert!(!due(Some(0), 300, 61));
    }
}
