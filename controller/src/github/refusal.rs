//! Why GitHub did not do what it was asked.

use std::time::Duration;

use proto::time::human;

use crate::ports::PortError;

/// Why GitHub did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    /// 401.
    #[error("GitHub refused the token: {0}; give one that is valid and has not expired")]
    Token(String),
    /// 401, for an app.
    #[error(
        "GitHub refused the app's signature: {0}; check `github-app-id` and \
         `github-app-private-key`"
    )]
    Key(String),
    /// 401, for an app's claims that seem to be of another time; how far.
    #[error("GitHub refused the app's signature, for this machine's clock is {0}: set it")]
    Clock(String),
    #[error("app {app} is not installed on {scope}: install it there, with {needs}")]
    NotInstalled {
        app: String,
        scope: String,
        needs: &'static str,
    },
    /// 403 and 404: what a token may not see does not exist.
    #[error("GitHub says {status} ({message}); the token needs {needs}")]
    Permission {
        status: u16,
        message: String,
        needs: &'static str,
    },
    /// A limit whose end lies beyond the patience of this command.
    #[error(
        "GitHub's rate limit is used up ({message}): it may be asked again in {}",
        human(*pause)
    )]
    Limited {
        status: u16,
        message: String,
        pause: Duration,
    },
    #[error("GitHub says {status}: {message}")]
    Other { status: u16, message: String },
    #[error("GitHub did not answer")]
    Transport(#[source] reqwest::Error),
    #[error("GitHub's answer is not what its documentation says")]
    Answer(#[source] reqwest::Error),
}

impl Refusal {
    /// Whether a second try may help at once.
    pub(super) fn may_pass(&self) -> bool {
        match self {
            Self::Transport(_) => true,
            Self::Other { status, .. } => *status >= 500,
            Self::Token(_)
            | Self::Permission { .. }
            | Self::Limited { .. }
            | Self::Key(_)
            | Self::Clock(_)
            | Self::NotInstalled { .. }
            | Self::Answer(_) => false,
        }
    }

    /// The status, if GitHub answered with one.
    pub(super) fn status(&self) -> Option<u16> {
        match self {
            Self::Token(_) | Self::Key(_) | Self::Clock(_) => Some(401),
            Self::NotInstalled { .. } => Some(404),
            Self::Permission { status, .. }
            | Self::Limited { status, .. }
            | Self::Other { status, .. } => Some(*status),
            Self::Transport(_) | Self::Answer(_) => None,
        }
    }

    /// With the operation that it ended.
    pub(super) fn of(self, operation: impl Into<String>) -> PortError {
        PortError {
            operation: operation.into(),
            code: self.status().map(|status| status.to_string()),
            source: self.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_may_pass_is_tried_again() {
        let other = |status| Refusal::Other {
            status,
            message: "no".into(),
        };
        assert!(other(502).may_pass() && !other(422).may_pass());
        assert!(!Refusal::Token("Bad credentials".into()).may_pass());
    }
}
