//! The machine's switch: a program, and what insists when that does not help.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use nix::sys::reboot::{RebootMode, reboot};
use tokio::process::Command;

use crate::{
    ports::{Cause, Power},
    process::Own,
};

/// The program that every machine has. Only of this one it is known how to insist.
pub const USUAL: &str = "/usr/sbin/poweroff";
/// How often a way is tried that is taken and leads nowhere: shutting services down takes time,
/// systemd gives each a minute and a half.
const PATIENCE: u32 = 10;
/// How long a program may take to say that it will.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// A way to switch off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// Asks the init system to stop everything in order.
    Ask,
    /// Has it kill what runs and unmount.
    Force,
    /// Does not ask it at all.
    Insist,
    /// Does not even need a program.
    Kernel,
}

impl Way {
    const ALL: [Self; 4] = [Self::Ask, Self::Force, Self::Insist, Self::Kernel];

    /// The program and its arguments, if there is one.
    fn command(self, program: &Path) -> Option<(&Path, &'static [&'static str])> {
        match self {
            Self::Ask => Some((program, &[])),
            Self::Force => Some((Path::new("systemctl"), &["poweroff", "--force"])),
            Self::Insist => Some((program, &["-ff"])),
            Self::Kernel => None,
        }
    }
}

/// Switches off by running a program.
#[derive(Debug)]
pub struct PowerProgram {
    program: PathBuf,
    /// The way that is tried, as a number in the order of insistence, and how often it was taken.
    tried: Mutex<(usize, u32)>,
}

impl PowerProgram {
    /// Switches off by this program, such as [`USUAL`].
    pub fn new(program: PathBuf) -> Self {
        Self {
            program,
            tried: Mutex::default(),
        }
    }

    /// The ways that are known, the politest first. They begin anew after the last one.
    fn ways(&self) -> &'static [Way] {
        if self.program == Path::new(USUAL) {
            &Way::ALL
        } else {
            &[Way::Ask]
        }
    }

    fn next(&self) -> Way {
        let ways = self.ways();
        ways[self.tried().0 % ways.len()]
    }

    /// A way that fails is left for the next one at once, one that is taken after a while.
    fn went(&self, well: bool) {
        let mut tried = self.tried();
        tried.1 += 1;
        if !well || tried.1 >= PATIENCE {
            *tried = (tried.0 + 1, 0);
        }
    }

    fn tried(&self) -> MutexGuard<'_, (usize, u32)> {
        // Two numbers are never half-changed.
        self.tried.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn take(&self, way: Way) -> Result<(), Cause> {
        match way.command(&self.program) {
            Some((program, arguments)) => run(program, arguments).await,
            None => match reboot(RebootMode::RB_POWER_OFF) {
                Ok(never) => match never {},
                Err(error) => Err(format!("the kernel does not switch off: {error}")),
            },
        }
    }
}

async fn run(program: &Path, arguments: &[&str]) -> Result<(), Cause> {
    let name = program.display();
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| format!("{name} cannot be started: {error}"))?;
    let _own = Own::child(child.id());
    match tokio::time::timeout(ANSWER_WITHIN, child.wait()).await {
        Ok(Ok(status)) if status.success() => Ok(()),
        Ok(Ok(status)) => Err(format!("{name} ended with {status}")),
        Ok(Err(error)) => Err(format!("{name} is lost: {error}")),
        Err(_) => Err(format!("{name} hangs")),
    }
}

#[async_trait]
impl Power for PowerProgram {
    async fn off(&self) -> Result<(), Cause> {
        let result = self.take(self.next()).await;
        self.went(result.is_ok());
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_program_is_followed_by_what_insists() {
        let usual = PowerProgram::new(USUAL.into());
        let shown = |way: Way| way.command(Path::new(USUAL));
        for (way, arguments) in [
            (Way::Ask, Some((Path::new(USUAL), &[][..]))),
            (
                Way::Force,
                Some((Path::new("systemctl"), &["poweroff", "--force"][..])),
            ),
            (Way::Insist, Some((Path::new(USUAL), &["-ff"][..]))),
            (Way::Kernel, None),
            (Way::Ask, Some((Path::new(USUAL), &[][..]))),
        ] {
            assert_eq!((usual.next(), shown(usual.next())), (way, arguments));
            usual.went(false);
        }
    }

    #[test]
    fn a_way_that_is_taken_and_leads_nowhere_is_left_in_the_end() {
        let usual = PowerProgram::new(USUAL.into());
        for _ in 0..PATIENCE {
            assert_eq!(usual.next(), Way::Ask);
            usual.went(true);
        }
        assert_eq!(usual.next(), Way::Force);
    }

    #[tokio::test]
    async fn another_program_is_never_replaced() {
        let other = PowerProgram::new("/bin/false".into());
        for _ in 0..5 {
            let error = other.off().await.unwrap_err();
            assert!(error.contains("/bin/false ended with"), "{error}");
        }
    }
}
