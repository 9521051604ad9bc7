//! One agent: what it costs its machine, how soon it notices what the record says, and what its
//! calls cost.

use std::{
    fmt::Write as _,
    fs,
    path::Path,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use nix::{time::clock_getcpuclockid, unistd::Pid};
use proto::{
    agent_config::Times,
    instance::Secret,
    signal::Signal,
    state::{State, Transition},
    table::{Outcome, Table},
    time::{Clock, SystemClock},
};

use super::Wrong;
use crate::{
    lone::Lone,
    pool::{PATIENCE, Pool},
    yard::{aws::Call, clock, imds::access_key_of},
};

/// Its first act in each mode is to leave a file, whose time is that of its start.
const RUNNER: &str = r#"#!/bin/sh
: > "$(dirname "$0")/../$1-started"
home=$(dirname "$(dirname "$0")")
say() { echo "2026-11-21 04:05:06Z: $*"; }
case "$1" in
--version) echo 2.336.0 ;;
configure) : > "$home/.runner" ;;
remove) rm -f "$home/.runner" ;;
run)
  trap 'exit 0' INT
  say Listening for Jobs
  while [ ! -f "$home/job" ]; do sleep 0.1; done
  say Running job: build
  sleep 3600 & wait ;;
esac
"#;

const STARTS: usize = 20;
const TURNS: usize = 40;
/// How long calls are counted and processor time is taken.
const WINDOW: Duration = Duration::from_mins(1);
/// An hour of the default beats, and more than one of the default looks.
const BEATS: usize = 720;
const LOOKS: usize = 14_400;
/// USD for a write, and for a strongly consistent read, of up to 1 and 4 KiB (us-east-1).
const WRITE: f64 = 0.625e-6;
const READ: f64 = 0.125e-6;

/// The pool, and the machine of the moment in it.
struct World(Pool);

/// Measures, and renders a Markdown table.
///
/// # Errors
///
/// When something is not as it must be; figures of such a run would mean nothing.
pub async fn play(agent: &Path) -> Result<String, Wrong> {
    let mut pool = Pool::new(Duration::ZERO).await;
    // It is started in folders of its own.
    pool.binaries.agent = fs::canonicalize(agent)?;
    let world = World(pool);
    let mut rows = Rows::default();
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52 bytes")]
    let size = fs::metadata(agent)?.len() as f64 / 1e6;
    rows.add("program, MB", size, 6.0);
    rows.add(
        "memory after an hour's beats and looks, MB",
        world.memory().await?,
        12.0,
    );
    rows.add(
        "start to first beat, ms, p95",
        world.first_beat().await?,
        150.0,
    );
    let machine = world.machine(Times::default()).await;
    machine_idle(&world, &machine, &mut rows).await?;
    let (claims, releases) = world.turns(&machine).await?;
    rows.add("label written to configure, s, p95", claims, 0.4);
    rows.add("label cleared to deregistration, s, p95", releases, 0.4);
    fs::write(machine.path("runner/job"), "")?;
    world.step(&machine, &claim()).await?;
    machine
        .until_record(&world.0, "a job", |record| record.job.is_some())
        .await;
    let (reads, writes) = world.count(&machine).await;
    rows.calls("a running", reads, writes);
    world.0.yard.stop().await;
    Ok(rows.0)
}

async fn machine_idle(world: &World, machine: &Lone, rows: &mut Rows) -> Result<(), Wrong> {
    world.until_says(machine, Signal::RemoveRegOk).await;
    let pid = machine.pid().ok_or("the agent ended")?;
    let before = processor_time(pid)?;
    let (reads, writes) = world.count(machine).await;
    let spent = processor_time(pid)?.saturating_sub(before);
    rows.add(
        "processor while idle, %",
        100.0 * spent.as_secs_f64() / WINDOW.as_secs_f64(),
        0.3,
    );
    rows.calls("an idle", reads, writes);
    Ok(())
}

fn claim() -> Transition {
    Transition::Claim {
        label: "77".parse().expect("a label"),
        token: Secret::new("register"),
        timeout: Duration::from_mins(30),
    }
}

fn release() -> Transition {
    Transition::Release {
        label: "77".parse().expect("a label"),
        generation: None,
        token: Some(Secret::new("remove")),
        idle_time: Duration::from_hours(1),
    }
}

impl World {
    async fn machine(&self, times: Times) -> Lone {
        let mut machine = Lone::of(&self.0, |config, record| {
            config.times = times;
            record.state = State::Idle;
        })
        .await;
        machine.replace_runner(RUNNER);
        machine.start(&[]);
        machine
    }

    fn calls(&self, machine: &Lone, since: Timestamp) -> Vec<Call> {
        let own = access_key_of(machine.arn().id().as_str());
        let mut calls = self.0.yard.aws.calls();
        calls.retain(|call| call.caller == own && call.at >= since);
        calls
    }

    /// Reads and writes within the window.
    async fn count(&self, machine: &Lone) -> (usize, usize) {
        let since = clock::now();
        tokio::time::sleep(WINDOW).await;
        let calls = self.calls(machine, since);
        let of = |action| calls.iter().filter(|call| call.action == action).count();
        (of("GetItem"), of("UpdateItem"))
    }

    /// Megabytes resident after an hour's worth of calls, in quick time.
    async fn memory(&self) -> Result<f64, Wrong> {
        let since = clock::now();
        let machine = self
            .machine(Times {
                heartbeat: 0.05,
                look: 0.0025,
                ..Times::default()
            })
            .await;
        let deadline = Instant::now() + 10 * PATIENCE;
        loop {
            let calls = self.calls(&machine, since);
            let beats = calls
                .iter()
                .filter(|call| call.action == "UpdateItem")
                .count();
            if beats >= BEATS && calls.len() >= BEATS + LOOKS {
                break;
            }
            if Instant::now() > deadline {
                return Err(format!("{} calls are all: {}", calls.len(), machine.console()).into());
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        let pid = machine.pid().ok_or("the agent ended")?;
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let kilobytes = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next())
            .ok_or("no VmRSS")?;
        Ok(kilobytes.parse::<f64>()? * 1024.0 / 1e6)
    }

    /// Milliseconds from the start of the process until its first beat arrives.
    async fn first_beat(&self) -> Result<f64, Wrong> {
        let mut took = Vec::new();
        for _ in 0..STARTS {
            let started = clock::now();
            let machine = self.machine(Times::default()).await;
            let deadline = Instant::now() + PATIENCE;
            let beat = loop {
                let calls = self.calls(&machine, started);
                if let Some(beat) = calls.iter().find(|call| call.action == "UpdateItem") {
                    break beat.at;
                }
                if Instant::now() > deadline {
                    return Err(format!("no beat: {}", machine.console()).into());
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            };
            let began = machine.started().ok_or("it never started")?;
            took.push(beat.duration_since(began).as_secs_f64() * 1000.0);
        }
        Ok(p95(took))
    }

    /// Seconds from a written label to `configure`, and from a cleared one to `remove`.
    async fn turns(&self, machine: &Lone) -> Result<(f64, f64), Wrong> {
        let (mut claims, mut releases) = (Vec::new(), Vec::new());
        for _ in 0..TURNS {
            claims.push(self.until_started(machine, &claim(), "configure").await?);
            self.until_says(machine, Signal::RegOk).await;
            releases.push(self.until_started(machine, &release(), "remove").await?);
            self.until_says(machine, Signal::RemoveRegOk).await;
        }
        Ok((p95(claims), p95(releases)))
    }

    async fn until_started(
        &self,
        machine: &Lone,
        step: &Transition,
        mode: &str,
    ) -> Result<f64, Wrong> {
        let file = machine.path(&format!("runner/{mode}-started"));
        let _ = fs::remove_file(&file);
        self.step(machine, step).await?;
        let written = clock::now();
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Ok(found) = fs::metadata(&file) {
                let at = Timestamp::try_from(found.modified()?)?;
                return Ok(at.duration_since(written).as_secs_f64().max(0.0));
            }
            if Instant::now() > deadline {
                return Err(format!("no {mode}: {}", machine.console()).into());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn step(&self, machine: &Lone, step: &Transition) -> Result<(), Wrong> {
        let change = step.change(SystemClock.now());
        match self.0.table.change_instance(machine.arn(), &change).await? {
            Outcome::Applied(_) => Ok(()),
            Outcome::Conflict(record) => Err(format!("{step:?} of {record:?}").into()),
        }
    }

    async fn until_says(&self, machine: &Lone, signal: Signal) {
        let what = format!("{signal:?}");
        machine
            .until_record(&self.0, &what, |record| record.says(signal))
            .await;
    }
}

/// Processor time that a process has spent, with its threads that have ended. `/proc/<pid>/stat` has
/// it in hundredths of a second, of which an idle minute takes sixteen.
fn processor_time(pid: u32) -> Result<Duration, Wrong> {
    let clock = clock_getcpuclockid(Pid::from_raw(pid.try_into()?))?;
    Ok(clock.now()?.into())
}

fn p95(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let at = (values.len() * 95).div_ceil(100).saturating_sub(1);
    values.get(at).copied().unwrap_or(f64::NAN)
}

struct Rows(String);

impl Default for Rows {
    fn default() -> Self {
        Self("| the agent's | measured | target | |\n|---|---|---|---|\n".to_owned())
    }
}

impl Rows {
    fn add(&mut self, what: &str, value: f64, most: f64) {
        let verdict = if value <= most { "met" } else { "**missed**" };
        let _ = writeln!(self.0, "| {what} | {value:.2} | ≤ {most} | {verdict} |");
    }

    #[expect(clippy::cast_precision_loss, reason = "a few hundred")]
    fn calls(&mut self, state: &str, reads: usize, writes: usize) {
        let hours = WINDOW.as_secs_f64() / 3600.0;
        let (reads, writes) = (reads as f64 / hours, writes as f64 / hours);
        let price = reads * READ + writes * WRITE;
        let _ = writeln!(
            self.0,
            "| AWS calls in {state} hour | {reads:.0} reads, {writes:.0} writes, {price:.5} USD | | |"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::float_cmp, reason = "nothing is computed")]
    fn nineteen_of_twenty_are_not_above_p95() {
        assert_eq!(p95((1..=20).rev().map(f64::from).collect()), 19.0);
        assert_eq!(p95(vec![3.0]), 3.0);
    }
}
