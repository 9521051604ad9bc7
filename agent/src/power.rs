//! The machine's switch: a program.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    process::Stdio,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use async_trait::async_trait;
use tokio::process::Command;

use crate::{
    ports::{Cause, Power},
    process::Own,
};

/// The program that every machine has. Of this one it is known how to insist.
pub const USUAL: &str = "/usr/sbin/poweroff";
/// Failures after which it is told not to ask anybody.
const POLITE_TRIES: u32 = 3;

/// How long the program may take to say that it will.
const PATIENCE: Duration = Duration::from_secs(30);

/// Switches off by running a program.
#[derive(Debug)]
pub struct PowerProgram {
    program: PathBuf,
    failures: AtomicU32,
}

impl PowerProgram {
    /// Switches off by this program, such as [`USUAL`].
    pub fn new(program: PathBuf) -> Self {
        Self {
            program,
            failures: AtomicU32::new(0),
        }
    }

    /// How the program is told.
    fn arguments(&self) -> &'static [&'static str] {
        let insist = self.failures.load(Ordering::Relaxed) >= POLITE_TRIES;
        if insist && self.program == Path::new(USUAL) {
            &["-ff"]
        } else {
            &[]
        }
    }

    async fn run(&self) -> Result<(), Cause> {
        let program = self.program.display();
        let mut child = Command::new(&self.program)
            .args(self.arguments().iter().map(OsStr::new))
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| format!("{program} cannot be started: {error}"))?;
        let _own = Own::child(child.id());
        match tokio::time::timeout(PATIENCE, child.wait()).await {
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(Ok(status)) => Err(format!("{program} ended with {status}")),
            Ok(Err(error)) => Err(format!("{program} is lost: {error}")),
            Err(_) => Err(format!("{program} hangs")),
        }
    }
}

#[async_trait]
impl Power for PowerProgram {
    async fn off(&self) -> Result<(), Cause> {
        let result = self.run().await;
        if result.is_err() {
            self.failures.fetch_add(1, Ordering::Relaxed);
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_usual_program_is_told_to_insist() {
        let usual = PowerProgram {
            program: USUAL.into(),
            failures: AtomicU32::new(POLITE_TRIES),
        };
        assert_eq!(usual.arguments(), ["-ff"]);
        let other = PowerProgram::new("/bin/false".into());
        for _ in 0..4 {
            other.off().await.unwrap_err();
            assert!(other.arguments().is_empty());
        }
        assert!(PowerProgram::new(USUAL.into()).arguments().is_empty());
    }
}
