//! The listener's exit codes, numbered as the official runner does.

use std::process::ExitCode;

/// Why the listener ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Normal stop; an ephemeral runner is done; the runner was deleted at GitHub.
    Success = 0,
    /// Not configured, registration deleted, refused.
    Terminated = 1,
    /// Trouble at the server: start again.
    Retryable = 2,
    /// Another listener holds this runner's session.
    SessionConflict = 5,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}
