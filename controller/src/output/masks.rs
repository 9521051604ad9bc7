//! Secrets that GitHub is to hide in the log.

use std::io::{self, Write};

use proto::{config::Config, instance::Secret};

/// Tells GitHub of each secret before anything could print it. Outside of a workflow nobody would
/// hide it: there nothing is told.
#[derive(Clone, Copy, Debug, Default)]
pub enum Masks {
    /// This is no workflow's log.
    #[default]
    Off,
    /// The log is on stdout.
    Stdout,
    /// The log is on stderr.
    Stderr,
}

impl Masks {
    /// Has GitHub hide each line of it in all later lines: it knows no other masks.
    pub fn hide(self, secret: &Secret) {
        let lines = secret.expose().lines().map(str::trim);
        for line in lines.filter(|line| !line.is_empty()) {
            let mask = format!("::add-mask::{}", super::one_line(line));
            let _ = match self {
                Self::Off => Ok(()),
                Self::Stdout => writeln!(io::stdout().lock(), "{mask}"),
                Self::Stderr => writeln!(io::stderr().lock(), "{mask}"),
            };
        }
    }

    /// The same for GitHub's tokens in the table: an error of AWS's might repeat a request, and
    /// with it a token.
    pub fn hide_tokens_of(self, config: &Config) {
        if let Some(tokens) = &config.github_tokens {
            self.hide(&tokens.registration);
            self.hide(&tokens.removal);
        }
    }
}
