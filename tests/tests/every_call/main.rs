//! Every call fails once: each AWS and GitHub call of each operation goes wrong in each way, a real
//! `controller` has to bear it, refresh runs, and then the promises hold.
//!
//! An operation first runs undisturbed, so that its calls are known; then, in a world of its own
//! for each, once for each of them and each way to go wrong. A table says how each ended.
//!
//! `PADDOCK_EVERY_CALL=all` plays every case; without it each call goes wrong in one way or two, the
//! next call in other ones.

mod operation;
mod promise;

use std::{
    collections::BTreeMap,
    fmt,
    pin::pin,
    time::{Duration, Instant},
};

use futures::{StreamExt, stream};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tests::{
    pool::Pool,
    yard::{Fault, FaultKind},
};

use self::operation::{Operation, RUN};

/// So many worlds at once.
const LANES: usize = 6;
/// Of the calls of one action so many go wrong, one at a time; of looks, which are repeated until
/// something has happened, only the first.
const OF_ONE_ACTION: usize = 6;
const LOOKS: [&str; 2] = ["BatchGetItem", "ReceiveMessage"];
/// A message that a dead controller had leased is back by then, and a stale one can be deleted.
const LEASES_END: Duration = Duration::from_secs(45);
/// Of so many cases one is played. No multiple of the ways, so that each call and each way has its
/// turn.
const SHARE: usize = 5;

/// How a call goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Way {
    /// It fails, and so do the SDK's repeats of it.
    Fails,
    /// It is refused for being one too many, and so are the SDK's repeats of it.
    Throttled,
    /// It has its effect, and the connection is cut.
    AppliedAndCut,
    /// No answer comes.
    Hangs,
    /// It has its effect, no answer comes, and the controller is killed.
    Killed,
    /// The same, and GitHub cancels the step.
    Cancelled,
}

const WAYS: [Way; 6] = [
    Way::Fails,
    Way::Throttled,
    Way::AppliedAndCut,
    Way::Hangs,
    Way::Killed,
    Way::Cancelled,
];

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Fails => "500",
            Self::Throttled => "throttled",
            Self::AppliedAndCut => "applied, cut",
            Self::Hangs => "hangs",
            Self::Killed => "SIGKILL",
            Self::Cancelled => "SIGINT",
        })
    }
}

/// One call of an operation.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Target {
    service: String,
    action: String,
    /// Which of the calls of this action, from 0.
    number: usize,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!(
            "{} {} {}",
            self.service,
            self.action,
            self.number + 1
        ))
    }
}

impl Target {
    fn fault(&self, way: Way) -> Fault {
        let (times, kind) = match way {
            Way::Fails => (3, error(500, "InternalServerError")),
            Way::Throttled => (
                3,
                match &*self.service {
                    "github" => error(429, ""),
                    "ec2" => error(503, "RequestLimitExceeded"),
                    "sqs" => error(400, "RequestThrottled"),
                    _ => error(400, "ThrottlingException"),
                },
            ),
            Way::AppliedAndCut => (1, FaultKind::CutAfterApplying),
            Way::Hangs => (1, FaultKind::Hang),
            Way::Killed | Way::Cancelled => (1, FaultKind::HangAfterApplying),
        };
        let caller = if self.service == "github" {
            "*"
        } else {
            "AKIAYARD"
        };
        let spared = u32::try_from(self.number).expect("a few");
        Fault::new(&self.service, &self.action, kind)
            .times(times)
            .after(spared)
            .of_caller(caller)
    }
}

fn error(status: u16, code: &str) -> FaultKind {
    FaultKind::Error {
        status,
        code: code.to_owned(),
    }
}

/// The controller's calls so far, in order.
fn calls(pool: &Pool) -> Vec<(String, String)> {
    let aws = pool.yard.aws.calls();
    let of_controllers = aws.into_iter().filter(|call| call.caller == "AKIAYARD");
    let mut all: Vec<_> = of_controllers
        .map(|call| (call.service, call.action))
        .collect();
    let github = pool.yard.github.calls();
    all.extend(github.into_iter().map(|call| {
        let path = call.path.split('?').next().unwrap_or_default().to_owned();
        // A runner's or a run's number differs from world to world.
        let is_number = |part: &str| part.chars().all(|c| c.is_ascii_digit()) && !part.is_empty();
        let parts = path
            .split('/')
            .map(|part| if is_number(part) { "*" } else { part });
        let path = parts.collect::<Vec<_>>().join("/");
        ("github".to_owned(), format!("{} {path}*", call.method))
    }));
    all
}

/// What can go wrong in an operation: its calls, as they are when nothing does.
async fn targets(operation: Operation) -> Vec<Target> {
    let pool = operation.prepare().await;
    let before = calls(&pool);
    let step = operation.start(&pool).finish().await.expect("it ends");
    assert_eq!(step.code, 0, "{}", step.log);
    let mut counts: BTreeMap<(String, String), usize> = BTreeMap::new();
    for call in calls(&pool) {
        *counts.entry(call).or_default() += 1;
    }
    for call in before {
        *counts.entry(call).or_default() -= 1;
    }
    pool.yard.stop().await;
    let mut targets = Vec::new();
    for ((service, action), count) in counts {
        let most = if LOOKS.contains(&&*action) {
            1
        } else {
            OF_ONE_ACTION
        };
        targets.extend((0..count.min(most)).map(|number| Target {
            service: service.clone(),
            action: action.clone(),
            number,
        }));
    }
    targets
}

/// What a case came to.
struct Outcome {
    target: Target,
    way: Way,
    met: bool,
    code: i32,
    broken: Vec<String>,
    log: String,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = match (self.met, &*self.broken) {
            (false, []) => "not called this time".to_owned(),
            (true, []) => "kept".to_owned(),
            (_, broken) => format!("OPEN: {}", broken.join("; ")),
        };
        write!(
            f,
            "{:<62} {:<13} exit {:<4} {end}",
            self.target, self.way, self.code
        )
    }
}

fn met(pool: &Pool) -> bool {
    pool.yard.aws.faults_met() + pool.yard.github.faults_met() > 0
}

async fn reached(pool: &Pool) {
    while !met(pool) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn play(operation: Operation, target: Target, way: Way) -> Outcome {
    let pool = operation.prepare().await;
    let fault = target.fault(way);
    if target.service == "github" {
        pool.yard.github.inject(fault);
    } else {
        pool.yard.aws.inject(fault);
    }
    let running = operation.start(&pool);
    let pid = running.pid().and_then(|pid| i32::try_from(pid).ok());
    let pid = Pid::from_raw(pid.expect("it runs"));
    let signal = match way {
        Way::Killed => Some(Signal::SIGKILL),
        Way::Cancelled => Some(Signal::SIGINT),
        Way::Fails | Way::Throttled | Way::AppliedAndCut | Way::Hangs => None,
    };
    let mut end = pin!(running.finish());
    let step = tokio::select! {
        // The process is reaped by the other branch alone, so the id is its own.
        () = reached(&pool), if signal.is_some() => {
            kill(pid, signal).expect("sent");
            end.await
        }
        step = &mut end => step,
    };
    let step = step.expect("it ends");
    let mut broken = heal(&pool, operation).await;
    if broken.is_empty() {
        broken = promise::broken(&pool, operation, &step).await;
    }
    let outcome = Outcome {
        target,
        way,
        met: met(&pool),
        code: step.code,
        broken,
        log: step.log,
    };
    println!("{outcome}");
    pool.yard.stop().await;
    outcome
}

/// Time passes, and refresh runs until it has nothing to do; what is wrong with that, in words.
async fn heal(pool: &Pool, operation: Operation) -> Vec<String> {
    operation::age(pool).await;
    let deadline = Instant::now() + LEASES_END;
    loop {
        let step = operation.refresh(pool).finish().await.expect("it ends");
        if step.code != 0 {
            return vec![format!("refresh failed: {}", step.log)];
        }
        if step.log.contains("nothing to do") {
            return Vec::new();
        }
        if Instant::now() > deadline {
            return vec![format!("refresh finds no end: {}", step.log)];
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

async fn every_call_fails_once(operation: Operation) {
    let targets = targets(operation).await;
    let cases: Vec<_> = targets
        .iter()
        .flat_map(|target| WAYS.map(|way| (target.clone(), way)))
        .collect();
    let all = cases.len();
    let everything = std::env::var_os("PADDOCK_EVERY_CALL").is_some();
    let chosen = cases.into_iter().enumerate();
    let chosen = chosen.filter(|(at, _)| everything || at % SHARE == 0);
    let mut outcomes: Vec<Outcome> = stream::iter(chosen)
        .map(|(_, (target, way))| play(operation, target, way))
        .buffer_unordered(LANES)
        .collect()
        .await;
    outcomes.sort_by(|a, b| (&a.target, a.way).cmp(&(&b.target, b.way)));
    println!("\n{operation:?}: {} of {all}", outcomes.len());
    for outcome in &outcomes {
        println!("{outcome}");
    }
    let open = outcomes.iter().filter(|outcome| !outcome.broken.is_empty());
    let open: Vec<String> = open
        .map(|outcome| format!("{outcome}\n{}", outcome.log))
        .collect();
    let missed = outcomes.iter().filter(|outcome| !outcome.met).count();
    assert!(missed * 10 <= outcomes.len(), "{missed} calls never came");
    assert!(
        open.is_empty(),
        "{} are open:\n{}",
        open.len(),
        open.join("\n")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn provision() {
    every_call_fails_once(Operation::Provision).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn release() {
    every_call_fails_once(Operation::Release).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_refresh() {
    every_call_fails_once(Operation::FirstRefresh).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_with_much_to_do() {
    every_call_fails_once(Operation::Upkeep).await;
}
