//! The wall clock as AWS tells it.
//!
//! The controller judges a machine by instants that the machine writes, and the machine its
//! deadlines by instants that the controller wrote. A machine whose own clock is wrong, or jumps,
//! would be taken for dead, kill its job early, or stay for ever. So the agent's clock starts as
//! the machine's, goes on with the one that never jumps, and is moved only by what each answer of
//! AWS says of its time: never further than the answer proves.

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
use proto::time::{Clock, Time};
use tokio::time::Instant;

/// The `Date` of an answer has no fractions of a second.
const DATE_STEP: i64 = 1000;

/// Milliseconds of an instant or of a duration.
type Millis = i64;

/// Tells AWS's time.
#[derive(Clone, Debug)]
pub struct AwsClock {
    started: Instant,
    state: Arc<Mutex<State>>,
}

#[derive(Clone, Copy, Debug)]
struct State {
    /// AWS's time when the agent started, as far as it is known.
    zero: Millis,
    /// When the call under way was sent.
    asked: Millis,
}

impl AwsClock {
    /// A clock that believes `machine` until AWS says more.
    pub fn new(started: Instant, machine: &dyn Clock) -> Self {
        let clock = Self {
            started,
            state: Arc::new(Mutex::new(State { zero: 0, asked: 0 })),
        };
        let zero = machine.now().as_millis() - clock.mono();
        clock.state().zero = zero;
        clock
    }

    fn mono(&self) -> Millis {
        Millis::try_from(self.started.elapsed().as_millis()).unwrap_or(Millis::MAX)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Two numbers are never half-changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// AWS said `date` between the question and `answered`.
    fn hear(&mut self, date: Millis, answered: Millis) {
        let earliest = date - answered;
        let latest = (date + DATE_STEP - self.asked).max(earliest);
        self.zero = self.zero.clamp(earliest, latest);
    }
}

impl Clock for AwsClock {
    fn now(&self) -> Time {
        Time::from_millis(self.state().zero + self.mono())
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
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let asked = self.mono();
        self.state().asked = asked;
        Ok(())
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let date = context.response().headers().get("date");
        // An answer without a readable one says nothing of the time.
        if let Some(date) = date.and_then(|d| DateTime::from_str(d, DateTimeFormat::HttpDate).ok())
        {
            let answered = self.mono();
            self.state().hear(date.secs() * 1000, answered);
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
    fn hear(state: &mut State, mono: Millis) {
        state.asked = mono;
        state.hear((TRUTH + mono) / 1000 * 1000, mono);
    }

    fn error(state: State) -> Millis {
        (state.zero - TRUTH).abs()
    }

    #[test]
    fn a_machine_that_starts_with_a_wrong_clock_learns_the_right_one() {
        for wrong in [HOUR, -HOUR] {
            let mut state = State {
                zero: TRUTH + wrong,
                asked: 0,
            };
            hear(&mut state, 0);
            assert!(error(state) <= 2500, "{state:?}");
            // Each answer says a little more.
            for step in 1..=20 {
                hear(&mut state, step * 330);
            }
            assert!(error(state) <= 250, "{state:?}");
        }
    }

    #[test]
    fn a_right_clock_is_left_alone() {
        let mut state = State {
            zero: TRUTH,
            asked: 0,
        };
        for step in 0..20 {
            hear(&mut state, step * 330);
        }
        assert_eq!(error(state), 0);
    }

    #[test]
    fn a_slow_answer_proves_little() {
        let mut state = State {
            zero: TRUTH,
            asked: 0,
        };
        state.hear((TRUTH + 100) / 1000 * 1000, 5000);
        assert_eq!(error(state), 0);
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
