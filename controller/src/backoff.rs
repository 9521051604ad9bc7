//! How often to look at machines that are being waited for.

use std::time::Duration;

use proto::time::Time;

/// The first look comes soon, since a warm machine answers within a second.
const FIRST: Duration = Duration::from_millis(100);
/// One `BatchGetItem` a second costs nothing against a machine's boot.
const LONGEST: Duration = Duration::from_secs(1);
/// A step's log shows at least so often that it is alive.
const PROGRESS: Duration = Duration::from_secs(10);

/// Pauses between looks that grow from 0.1 s to 1 s, and what is said meanwhile.
#[derive(Debug)]
pub struct Looks {
    pause: Duration,
    said: Option<Time>,
}

impl Default for Looks {
    fn default() -> Self {
        Self {
            pause: FIRST,
            said: None,
        }
    }
}

impl Looks {
    /// Waits for the next look.
    pub async fn pause(&mut self) {
        tokio::time::sleep(self.pause).await;
        self.pause = (self.pause * 5 / 4).min(LONGEST);
    }

    /// Says something every ten seconds, the first time after ten.
    pub fn progress(&mut self, now: Time, say: impl FnOnce()) {
        let since = *self.said.get_or_insert(now);
        if now.since(since) >= PROGRESS {
            say();
            self.said = Some(now);
        }
    }
}
