//! How often to look at machines that are being waited for, and how long to wait before a call is
//! repeated.

use std::time::Duration;

use proto::time::Time;

/// The first look comes soon, since a warm machine answers within a second.
const FIRST: Duration = Duration::from_millis(100);
/// One `BatchGetItem` a second costs nothing against a machine's boot.
const LONGEST: Duration = Duration::from_secs(1);
/// A step's log shows at least so often that it is alive.
pub const PROGRESS: Duration = Duration::from_secs(10);

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

/// The first pause before a repeat: EC2 gives back a few `CreateFleet` calls each second.
const FIRST_REPEAT: Duration = Duration::from_millis(500);
/// Pauses do not grow beyond this.
const LONGEST_REPEAT: Duration = Duration::from_secs(8);
/// All pauses together: a throttled account is served again within this, or the step says why not.
const PATIENCE: Duration = Duration::from_secs(30);

/// Pauses between repeats of a call, doubled each time and shortened by chance, so that callers
/// who were refused together do not come back together; bounded in sum.
#[derive(Debug)]
pub struct Backoff {
    next: Duration,
    left: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            next: FIRST_REPEAT,
            left: PATIENCE,
        }
    }
}

impl Backoff {
    /// How long to wait before the next repeat; none when patience is at its end. `chance` lies in
    /// 0..1.
    pub fn pause(&mut self, chance: f64) -> Option<Duration> {
        let pause = self.next.mul_f64(0.5 + chance.clamp(0.0, 1.0) / 2.0);
        self.left = self.left.checked_sub(pause)?;
        self.next = (self.next * 2).min(LONGEST_REPEAT);
        Some(pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_end() {
        let mut backoff = Backoff::default();
        let pauses: Vec<Duration> = std::iter::from_fn(|| backoff.pause(1.0)).collect();
        assert_eq!(pauses[..2], [FIRST_REPEAT, FIRST_REPEAT * 2]);
        assert!(pauses.iter().all(|pause| *pause <= LONGEST_REPEAT));
        assert!(pauses.iter().sum::<Duration>() <= PATIENCE);
    }

    #[test]
    fn chance_shortens_a_pause_by_half_at_most() {
        assert_eq!(Backoff::default().pause(0.0), Some(FIRST_REPEAT / 2));
        assert_eq!(Backoff::default().pause(1.0), Some(FIRST_REPEAT));
    }
}
