//! Benchmarks of the pool: how long provision and release take, where the time goes, what they
//! cost, and whether many at once stay out of each other's way.
//!
//! ```text
//!   pool ── a yard whose pool was refreshed
//!     ├─▶ sample ── one step of a workflow, measured ─▶ round ─▶ table
//!     ├─▶ refresh ── pools of 100 to 5,000 records
//!     └─▶ race ── many provisions at once, and the verdict
//!   agent ── one agent: what it costs the machine, and how soon it notices
//! ```

pub mod agent;
pub mod pool;
pub mod race;
pub mod refresh;
pub mod round;
pub mod sample;
pub mod table;

/// Something was not as it must be; figures of such a run mean nothing.
pub type Wrong = Box<dyn std::error::Error + Send + Sync>;

/// How the programs under test were built.
pub const PROFILE: &str = if cfg!(debug_assertions) {
    "dev"
} else {
    "release"
};
