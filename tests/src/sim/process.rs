//! A program that runs, can be killed at any await point, and whose calls meet a network.

use std::{
    fmt,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use proto::{
    aws::AwsClock,
    ids::{InstanceId, Label},
    time::{Clock, Time},
};
use rand::RngExt;
use tokio::{
    sync::oneshot,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use super::{fault::Fault, world::Sim};

/// A process's clock is ahead by so much at most, once AWS has answered: that tells whole seconds,
/// and a call is on its way for nine.
pub(super) const CLOCK_ERROR: Duration = Duration::from_secs(10);

/// What a process does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// A step of the workflow of this label.
    Step(Label),
    Refresh,
    Agent(InstanceId),
}

/// A process, as its ports know it.
#[derive(Clone)]
pub(super) struct Process {
    pub(super) sim: Sim,
    pub(super) role: Role,
    name: Arc<str>,
    /// AWS's time, as its calls tell it.
    clock: AwsClock,
    dead: Arc<AtomicBool>,
}

/// A call that came to nothing, as far as its caller can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Broken {
    #[error("throttled")]
    Throttled,
    #[error("no answer")]
    Unanswered,
}

/// What becomes of one call.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Fine,
    Throttled,
    LostCall,
    LostAnswer,
    LateCall,
    Repeated,
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl Process {
    /// One on a computer whose clock is so many milliseconds ahead.
    pub(super) fn new(sim: &Sim, name: &str, role: Role, skew: i64) -> Self {
        let number = sim.with(|state| {
            state.processes += 1;
            state.processes
        });
        let process = Self {
            sim: sim.clone(),
            role,
            name: format!("{name}#{number}").into(),
            clock: AwsClock::new(Instant::now(), &Computer(sim.clone(), skew)),
            dead: Arc::default(),
        };
        if skew != 0 {
            sim.say(&process, format!("starts, its clock off by {skew} ms"));
        }
        process
    }

    pub(super) fn kill(&self) {
        self.dead.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_dead(&self) -> bool {
        self.dead.load(Ordering::Relaxed)
    }

    /// Lets time pass inside the process; nothing follows if it is killed meanwhile.
    pub(super) async fn pause(&self, from: Duration, to: Duration) {
        self.sim.pause(from, to).await;
        self.live().await;
    }

    /// The dead do nothing more.
    pub(super) async fn live(&self) {
        if self.is_dead() {
            std::future::pending::<()>().await;
        }
    }

    /// One call to a service, which `apply` is. Whether it arrives, how often, and whether its
    /// answer comes back is chance.
    ///
    /// The call is on its way by itself: a caller that is killed or gives up cannot call it back,
    /// and nobody knows whether it had left by then.
    pub(super) async fn call<T: Send + 'static>(
        &self,
        mut apply: impl FnMut(&Process) -> T + Send + 'static,
    ) -> Result<T, Broken> {
        self.live().await;
        let of_whom = match self.role {
            Role::Step(_) | Role::Refresh => "calls of controllers",
            Role::Agent(_) => "calls of agents",
        };
        self.sim.with(|state| state.count(of_whom));
        let (fate, there, back) = self.draw();
        let asked = self.clock.asks();
        let (send, answer) = oneshot::channel();
        let process = self.clone();
        tokio::spawn(async move {
            sleep(there).await;
            let unheard = send.is_closed() || process.is_dead();
            if unheard && process.sim.coin() {
                return;
            }
            let late = unheard || fate == Fate::LateCall;
            let mut apply = |process: &Process| {
                process.sim.with(|state| state.late_call = late);
                let done = apply(process);
                process.sim.with(|state| state.late_call = false);
                (done, process.sim.time())
            };
            // Nobody may be left to hear the answer.
            let _ = match fate {
                Fate::Fine => {
                    let done = apply(&process);
                    sleep(back).await;
                    send.send(Ok(done))
                }
                Fate::Throttled => send.send(Err(Broken::Throttled)),
                Fate::LostCall => {
                    sleep(back).await;
                    send.send(Err(Broken::Unanswered))
                }
                Fate::LostAnswer => {
                    apply(&process);
                    sleep(back).await;
                    send.send(Err(Broken::Unanswered))
                }
                Fate::LateCall => {
                    let given_up = send.send(Err(Broken::Unanswered));
                    sleep(back).await;
                    apply(&process);
                    given_up
                }
                Fate::Repeated => {
                    apply(&process);
                    sleep(back).await;
                    send.send(Ok(apply(&process)))
                }
            };
        });
        let answer = answer.await;
        self.live().await;
        match answer {
            Ok(Ok((done, date))) => {
                let date = Time::from_millis(date.as_secs() * 1000);
                self.clock.hears(asked, date);
                Ok(done)
            }
            Ok(Err(broken)) => Err(broken),
            Err(_) => std::future::pending().await,
        }
    }

    fn draw(&self) -> (Fate, Duration, Duration) {
        const FATES: [(Fault, Fate); 5] = [
            (Fault::Throttled, Fate::Throttled),
            (Fault::LostCall, Fate::LostCall),
            (Fault::LostAnswer, Fate::LostAnswer),
            (Fault::LateCall, Fate::LateCall),
            (Fault::RepeatedCall, Fate::Repeated),
        ];
        self.sim.with(|state| {
            let mut way = || {
                let slow = state.strikes(Fault::SlowAnswer);
                let longest = if slow { 9_000 } else { 20 };
                Duration::from_millis(state.rng.random_range(1..longest))
            };
            let (there, mut back) = (way(), way());
            let mut fates = FATES.into_iter();
            let fate = fates.find_map(|(fault, fate)| state.strikes(fault).then_some(fate));
            match fate.unwrap_or(Fate::Fine) {
                fate @ (Fate::LostCall | Fate::LostAnswer | Fate::LateCall | Fate::Repeated) => {
                    back += Duration::from_millis(state.rng.random_range(100..5_000));
                    (fate, there, back)
                }
                fate @ (Fate::Fine | Fate::Throttled) => (fate, there, back),
            }
        })
    }
}

impl Clock for Process {
    fn now(&self) -> Time {
        Clock::now(&self.clock)
    }
}

/// A computer's own clock, so many milliseconds ahead.
pub(super) struct Computer(pub(super) Sim, pub(super) i64);

impl Clock for Computer {
    fn now(&self) -> Time {
        Time::from_millis(self.0.time().as_millis() + self.1)
    }
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End<T> {
    /// By itself.
    Done(T),
    /// It was killed.
    Killed,
}

/// Runs a process until it ends, or until it has waited for so many things.
pub(super) struct Doomed<F> {
    pub(super) process: Process,
    pub(super) program: Pin<Box<F>>,
    /// Dies when it would wait for the next thing after this many; never, if none.
    pub(super) waits_left: Option<u32>,
    /// Gets SIGINT when it would wait for the next thing after this many.
    pub(super) interrupted: Option<(u32, CancellationToken)>,
}

impl<F: Future> Future for Doomed<F> {
    type Output = End<F::Output>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<End<F::Output>> {
        if let Poll::Ready(done) = self.program.as_mut().poll(context) {
            return Poll::Ready(End::Done(done));
        }
        match &mut self.interrupted {
            Some((0, signal)) => {
                signal.cancel();
                self.interrupted = None;
                self.process.sim.say(&self.process, "gets SIGINT");
            }
            Some((left, _)) => *left -= 1,
            None => {}
        }
        match self.waits_left {
            Some(0) => {
                self.process.kill();
                self.process.sim.say(&self.process, "is killed");
                Poll::Ready(End::Killed)
            }
            Some(left) => {
                self.waits_left = Some(left - 1);
                Poll::Pending
            }
            None => Poll::Pending,
        }
    }
}
