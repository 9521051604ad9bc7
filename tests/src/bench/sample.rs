//! One step, measured from outside: by the clock, by the log of AWS and by the kernel.

use std::{collections::BTreeMap, fs, time::Duration};

use jiff::Timestamp;

use super::{
    Wrong,
    pool::{Pool, succeed},
};
use crate::{
    workflow::{Running, Step},
    yard::{aws::Call, clock},
};

/// The call with which the controller looks at the machines that it waits for.
const LOOK: &str = "BatchGetItem";

/// The call with which an agent beats and reports.
const REPORT: &str = "UpdateItem";

/// How often the memory of a step is read. The kernel keeps the maximum; only what is touched in
/// the last moments before the end can be missed.
const SAMPLING: Duration = Duration::from_millis(5);

/// Where a step's time went; the parts add up to the whole.
#[derive(Clone, Copy, Debug, Default)]
pub struct Parts {
    /// From the start of the process until its first call reached AWS.
    pub start: Duration,
    /// Some call was under way, other than looks at machines.
    pub aws: Duration,
    /// No other call was under way, and some agent had not reported yet.
    pub agents: Duration,
    /// All had reported, and the controller had not seen it yet.
    pub seeing: Duration,
    /// The controller's own work between its calls, and its end.
    pub own: Duration,
}

/// What a step took.
#[derive(Clone, Debug)]
pub struct Sample {
    /// From the start of the process to its end.
    pub took: Duration,
    /// Where that went.
    pub parts: Parts,
    /// Its calls of AWS: how many of each action.
    pub calls: BTreeMap<String, usize>,
    /// The most memory that it had resident, in bytes.
    pub memory: u64,
    /// Machines that came from the pool, and new ones, where the step says so.
    pub machines: (Option<u32>, Option<u32>),
}

/// Runs a step alone in the pool, and measures it.
///
/// # Errors
///
/// When the step fails.
pub async fn measure(
    pool: &Pool<'_>,
    run: u64,
    mode: &str,
    inputs: &[(&str, &str)],
) -> Result<Sample, Wrong> {
    let before = pool.controller_calls().len();
    let began = clock::now();
    let running = pool.run(run).start(mode, inputs)?;
    let (step, memory) = watched(running).await?;
    let step = succeed(step)?;
    let calls = pool.controller_calls().split_off(before);
    let mut counts = BTreeMap::new();
    for call in &calls {
        *counts.entry(call.action.clone()).or_default() += 1;
    }
    let whole = Span {
        from: began,
        to: began + step.took,
    };
    Ok(Sample {
        took: step.took,
        parts: parts(whole, &calls, &pool.agent_calls()),
        calls: counts,
        memory,
        machines: (step.number("reused"), step.number("created")),
    })
}

/// Waits for the end of a step, with an eye on its memory.
async fn watched(running: Running) -> Result<(Step, u64), Wrong> {
    let pid = running.pid().ok_or("the step has ended already")?;
    let finish = running.finish();
    tokio::pin!(finish);
    let mut most = 0;
    let mut ticks = tokio::time::interval(SAMPLING);
    loop {
        tokio::select! {
            // Cancel-safe: the same future is asked again.
            step = &mut finish => return Ok((step?, most)),
            // Cancel-safe: at worst a tick is missed.
            _ = ticks.tick() => most = most.max(high_water(pid).unwrap_or_default()),
        }
    }
}

/// The most memory that a process has had resident, in bytes; `None` once it has ended.
fn high_water(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kibibytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kibibytes * 1024)
}

#[derive(Clone, Copy, Debug)]
struct Span {
    from: Timestamp,
    to: Timestamp,
}

impl Span {
    fn of(call: &Call) -> Self {
        Self {
            from: call.at,
            to: call.at + Duration::from_millis(call.millis),
        }
    }

    fn holds(&self, from: Timestamp, to: Timestamp) -> bool {
        self.from <= from && to <= self.to
    }
}

/// Cuts the time of a step at every border of its calls, and says of each piece whose it was.
fn parts(whole: Span, calls: &[Call], agents: &[Call]) -> Parts {
    let Some(first) = calls.iter().map(|call| call.at).min() else {
        return Parts {
            own: between(whole.from, whole.to),
            ..Parts::default()
        };
    };
    let (looks, others): (Vec<&Call>, Vec<&Call>) =
        calls.iter().partition(|call| call.action == LOOK);
    let others: Vec<Span> = others.into_iter().map(Span::of).collect();
    let looks: Vec<Span> = looks.into_iter().map(Span::of).collect();
    let waiting = looks
        .iter()
        .map(|look| look.from)
        .min()
        .zip(looks.iter().map(|look| look.to).max())
        .map(|(from, to)| Span { from, to });
    // The last look saw all reports: the last one of these ended before it began.
    let reported = looks.iter().map(|look| look.from).max().and_then(|last| {
        let reports = agents.iter().filter(|call| call.action == REPORT);
        reports
            .map(|call| Span::of(call).to)
            .filter(|to| *to <= last)
            .max()
    });
    let mut borders: Vec<Timestamp> = [whole.from, whole.to, first].into();
    for span in others.iter().chain(&waiting) {
        borders.extend([span.from, span.to]);
    }
    borders.extend(reported);
    borders.retain(|border| whole.from <= *border && *border <= whole.to);
    borders.sort();
    let mut parts = Parts::default();
    for piece in borders.windows(2) {
        let (from, to) = (piece[0], piece[1]);
        let part = if to <= first {
            &mut parts.start
        } else if others.iter().any(|span| span.holds(from, to)) {
            &mut parts.aws
        } else if waiting.is_some_and(|span| span.holds(from, to)) {
            if reported.is_some_and(|reported| reported <= from) {
                &mut parts.seeing
            } else {
                &mut parts.agents
            }
        } else {
            &mut parts.own
        };
        *part += between(from, to);
    }
    parts
}

fn between(from: Timestamp, to: Timestamp) -> Duration {
    to.duration_since(from).unsigned_abs()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millisecond(millis).unwrap()
    }

    fn call(action: &str, from: i64, millis: u64) -> Call {
        Call {
            role: None,
            permissions: std::collections::BTreeSet::new(),
            at: at(from),
            service: "dynamodb".into(),
            action: action.into(),
            caller: String::new(),
            status: 200,
            millis,
        }
    }

    #[test]
    fn the_parts_add_up() {
        let calls = [
            call("Query", 50, 20),
            call("UpdateItem", 80, 20),
            call("UpdateItem", 85, 25),
            call(LOOK, 115, 20),
            call(LOOK, 235, 20),
            call("PutItem", 260, 20),
        ];
        let agents = [
            call(REPORT, 10, 5),
            call(REPORT, 180, 20),
            call(REPORT, 270, 5),
        ];
        let whole = Span {
            from: at(0),
            to: at(300),
        };
        let parts = parts(whole, &calls, &agents);
        let millis = [
            parts.start,
            parts.aws,
            parts.agents,
            parts.seeing,
            parts.own,
        ]
        .map(|part| part.as_millis());
        assert_eq!(millis, [50, 70, 85, 55, 40]);
    }
}
