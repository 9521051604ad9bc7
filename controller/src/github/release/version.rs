//! Versions of the runner program.

use std::{fmt, str::FromStr};

/// A version of the runner program: `2.336.0`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RunnerVersion([u32; 3]);

impl RunnerVersion {
    /// Of three numbers.
    pub const fn new(major: u32, minor: u32, patch: u32) -> Self {
        Self([major, minor, patch])
    }
}

/// The text is no version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a version is three numbers such as 2.336.0")]
pub struct InvalidVersion;

impl FromStr for RunnerVersion {
    type Err = InvalidVersion;

    /// Reads `2.336.0`, and `v2.336.0` as tags have it.
    fn from_str(text: &str) -> Result<Self, InvalidVersion> {
        let numbers = text.strip_prefix('v').unwrap_or(text).split('.');
        let numbers: Vec<u32> = numbers
            .map(str::parse)
            .collect::<Result<_, _>>()
            .map_err(|_| InvalidVersion)?;
        numbers.try_into().map(Self).map_err(|_| InvalidVersion)
    }
}

impl fmt::Display for RunnerVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self([major, minor, patch]) = self;
        write!(f, "{major}.{minor}.{patch}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_as_numbers() {
        let version = |text: &str| text.parse::<RunnerVersion>();
        assert!(version("2.99.0").unwrap() < version("v2.336.0").unwrap());
        assert_eq!(version("2.336.0").unwrap().to_string(), "2.336.0");
        for odd in ["", "2", "2.1", "2.1.0.0", "2.x.0", "newest"] {
            assert_eq!(version(odd), Err(InvalidVersion), "{odd}");
        }
    }
}
