//! The wall clock as AWS tells it.
//!
//! The controller judges a machine by instants that the machine writes, and the machine its
//! deadlines by instants that the controller wrote. A machine whose own clock is wrong, or jumps,
//! would be taken for dead, kill its job early, or stay for ever; a refresh whose clock is wrong
//! would take provisions at work for dead ones. So both programs' clock starts as their computer's,
//! goes on with the one that never jumps, and is moved only by what each answer of AWS says of its
//! time: never further than the answer proves.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use aws_sdk_dynamodb::{
    config::{
        ConfigBag, Intercept, RuntimeComponents,
        interceptors::{
            BeforeDeserializationInterceptorContextRef, BeforeTransmitInterceptorContextRef,
        },
    },
    error::BoxError,
    primitives::{DateTime, DateTimeFormat},
};
use aws_smithy_async::time::TimeSource;
use aws_smithy_types::config_bag::{Storable, StoreReplace};
use tokio::time::Instant;

use crate::time::{Clock, Time};

/// The `Date` of an answer has no fractions of a second.
const DATE_STEP: i64 = 1000;

/// Milliseconds of an instant or of a duration.
type Millis = i64;

/// Tells AWS's time. Copies share what they hear.
#[derive(Clone, Debug)]
pub struct AwsClock {
    started: Instant,
    /// AWS's time at `started`, as far as it is known.
    zero: Arc<Mutex<Millis>>,
}

/// When a call was sent, since the clock started.
#[derive(Clone, Copy, Debug)]
pub struct Asked(Millis);

impl Storable for Asked {
    type Storer = StoreReplace<Self>;
}

impl AwsClock {
    /// A clock that believes `machine` until AWS says more; `started` is not in the future.
    pub fn new(started: Instant, machine: &dyn Clock) -> Self {
        let mono = Self::millis(started);
        let zero = machine.now().as_millis() - mono;
        Self {
            started,
            zero: Arc::new(Mutex::new(zero)),
        }
    }

    /// A call is sent.
    pub fn asks(&self) -> Asked {
        Asked(self.mono())
    }

    /// It is answered, and says that it is `date`, in whole seconds.
    pub fn hears(&self, asked: Asked, date: Time) {
        let answered = self.mono();
        let mut zero = self.zero();
        *zero = heard(*zero, asked.0, date.as_millis(), answered);
    }

    fn mono(&self) -> Millis {
        Self::millis(self.started)
    }

    fn millis(started: Instant) -> Millis {
        Millis::try_from(started.elapsed().as_millis()).unwrap_or(Millis::MAX)
    }

    fn zero(&self) -> MutexGuard<'_, Millis> {
        // A number is never half-changed.
        self.zero.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The time at the start, after AWS said `date` at some instant between question and answer.
fn heard(zero: Millis, asked: Millis, date: Millis, answered: Millis) -> Millis {
    let earliest = date - answered;
    let latest = (date + DATE_STEP - asked).max(earliest);
    zero.clamp(earliest, latest)
}

impl Clock for AwsClock {
    fn now(&self) -> Time {
        Time::from_millis(*self.zero() + self.mono())
    }
}

/// So that calls are signed with a time that AWS accepts.
impl TimeSource for AwsClock {
    fn now(&self) -> SystemTime {
        let millis = Clock::now(self).as_millis();
        SystemTime::UNIX_EPOCH + Duration::from_millis(u64::try_from(millis).unwrap_or_default())
    }
}

/// Listens to the answers of AWS, refusals among them.
impl Intercept for AwsClock {
    fn name(&self) -> &'static str {
        "AwsClock"
    }

    fn read_before_transmit(
        &self,
        _: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        bag: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        bag.interceptor_state().store_put(self.asks());
        Ok(())
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        bag: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let date = context.response().headers().get("date");
        // An answer without a readable one says nothing of the time.
        let date = date.and_then(|date| DateTime::from_str(date, DateTimeFormat::HttpDate).ok());
        if let (Some(date), Some(asked)) = (date, bag.load::<Asked>()) {
            self.hears(*asked, Time::from_millis(date.secs() * 1000));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRUTH: Millis = 1_800_000_000_250;
    const HOUR: Millis = 3_600_000;

    struct Fixed(Millis);

    impl Clock for Fixed {
        fn now(&self) -> Time {
            Time::from_millis(self.0)
        }
    }

    /// AWS answers at once, `mono` after the start, when it really is `TRUTH + mono`.
    fn hear(zero: Millis, mono: Millis) -> Millis {
        heard(zero, mono, (TRUTH + mono) / 1000 * 1000, mono)
    }

    #[test]
    fn a_machine_that_starts_with_a_wrong_clock_learns_the_right_one() {
        for wrong in [HOUR, -HOUR] {
            let mut zero = hear(TRUTH + wrong, 0);
            assert!((zero - TRUTH).abs() <= 2500, "{zero}");
            // Each answer says a little more.
            for step in 1..=20 {
                zero = hear(zero, step * 330);
            }
            assert!((zero - TRUTH).abs() <= 250, "{zero}");
        }
    }

    #[test]
    fn a_right_clock_is_left_alone() {
        let zero = (0..20).fold(TRUTH, |zero, step| hear(zero, step * 330));
        assert_eq!(zero, TRUTH);
    }

    #[test]
    fn a_slow_answer_proves_little() {
        assert_eq!(heard(TRUTH, 0, (TRUTH + 100) / 1000 * 1000, 5000), TRUTH);
    }

    #[tokio::test(start_paused = true)]
    async fn calls_that_overlap_are_not_taken_for_one_another() {
        let clock = AwsClock::new(Instant::now(), &Fixed(TRUTH));
        let slow = clock.asks();
        let date = Clock::now(&clock);
        tokio::time::advance(Duration::from_secs(5)).await;
        let quick = clock.asks();
        clock.hears(slow, date);
        clock.hears(quick, Clock::now(&clock));
        let now = Clock::now(&clock).as_millis();
        assert_eq!(now, TRUTH + 5000);
    }

    #[test]
    fn the_machines_clock_is_read_once_so_that_its_jumps_move_nothing() {
        let clock = AwsClock::new(Instant::now(), &Fixed(TRUTH));
        let now = Clock::now(&clock).as_millis();
        assert!((TRUTH..TRUTH + 10_000).contains(&now), "{now}");
        let signed = TimeSource::now(&clock);
        assert!(signed >= SystemTime::UNIX_EPOCH + Duration::from_millis(1_800_000_000_250));
    }
}
