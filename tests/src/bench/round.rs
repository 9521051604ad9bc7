//! One repetition: each kind of work once, in a fresh yard.

use std::time::Duration;

use proto::agent_config::Times;

use super::{
    Wrong,
    pool::Pool,
    sample::{Sample, measure},
};
use crate::binaries::Binaries;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Work {
    /// In words.
    pub name: &'static str,
    /// The median that the program is to keep to, in seconds.
    pub target: f64,
    /// The predecessor's median on the same work, in seconds.
    pub predecessor: f64,
}

const fn work(name: &'static str, target: f64, predecessor: f64) -> Work {
    Work {
        name,
        target,
        predecessor,
    }
}

/// All work, in the order of the table.
pub const WORKS: [Work; 6] = [
    work("provision 1 warm", 0.6, 0.93),
    work("provision 10 warm", 0.8, 1.04),
    work("release 1", 0.6, 10.4),
    work("release 10", 0.8, 10.4),
    work("provision 1 new", 1.0, 10.4),
    work("provision 10 new", 1.3, 10.5),
];

const WARM_1: Work = WORKS[0];
const WARM_10: Work = WORKS[1];
const RELEASE_1: Work = WORKS[2];
const RELEASE_10: Work = WORKS[3];
const NEW_1: Work = WORKS[4];
const NEW_10: Work = WORKS[5];

/// Does all work once.
///
/// # Errors
///
/// When a step fails, or gets other machines than the work is about.
pub async fn play(binaries: &Binaries, latency: Duration) -> Result<Vec<(Work, Sample)>, Wrong> {
    let pool = Pool::start(binaries, latency).await?;
    // Steps that follow each other at once would meet the agents' looks always at the same moment; a
    // random part of the time between two looks makes the figures those of any moment.
    let look = Duration::try_from_secs_f64(Times::default().look)?;
    let mut samples = Vec::new();
    // Run 103 keeps its machine, so that the pool is empty for run 104.
    let steps = [
        (Some(NEW_1), 101, "provision", Some("1"), (0, 1)),
        (None, 101, "release", None, (0, 0)),
        (Some(WARM_1), 102, "provision", Some("1"), (1, 0)),
        (Some(RELEASE_1), 102, "release", None, (0, 0)),
        (None, 103, "provision", Some("1"), (1, 0)),
        (Some(NEW_10), 104, "provision", Some("10"), (0, 10)),
        (None, 104, "release", None, (0, 0)),
        (Some(WARM_10), 105, "provision", Some("10"), (10, 0)),
        (Some(RELEASE_10), 105, "release", None, (0, 0)),
    ];
    for (work, run, mode, count, (reused, created)) in steps {
        let inputs: Vec<_> = count
            .map(|count| ("instance-count", count))
            .into_iter()
            .collect();
        tokio::time::sleep(look.mul_f64(rand::random())).await;
        let sample = measure(&pool, run, mode, &inputs).await?;
        let got = sample.machines;
        if mode == "provision" && got != (Some(reused), Some(created)) {
            let words = format!("run {run} got {got:?} machines, not {reused} and {created}");
            return Err(words.into());
        }
        samples.extend(work.map(|work| (work, sample)));
    }
    pool.yard.stop().await;
    Ok(samples)
}
