//! The controller's exit codes.

use std::process::ExitCode;

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Everything was done.
    Done = 0,
    /// It failed, and nothing of it is left.
    Failed = 1,
    /// An input cannot be used, or does not fit the pool; nothing was touched.
    BadInput = 2,
    /// It failed, and something is left for refresh.
    Unfinished = 3,
    /// It was cancelled (128 + SIGINT), and nothing of it is left.
    Cancelled = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}
