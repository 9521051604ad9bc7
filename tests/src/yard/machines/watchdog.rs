//! Nothing outlives the yard, not even when the yard is killed with SIGKILL.
//!
//! A small shell, outside of the world and in its own process group, waits for
//! the end of a pipe whose other end only the yard holds, then kills everything
//! that carries the world's mark.

use std::io;
use std::process::Stdio;

use tokio::process::{Child, ChildStdin, Command};

const SCRIPT: &str = r#"
trap '' INT TERM HUP
read -r _
while pids=$(grep -lzsx "PADDOCK_YARD_WORLD=$1" /proc/[0-9]*/environ | cut -d/ -f3); [ -n "$pids" ]; do
  kill -KILL $pids 2>/dev/null
  sleep 0.02
done
"#;

/// Holds the pipe; dropping it lets the watchdog bite.
#[derive(Debug)]
pub(crate) struct Watchdog {
    _pipe: Option<ChildStdin>,
    _shell: Child,
}

impl Watchdog {
    pub(crate) fn start(world: &str) -> io::Result<Self> {
        let mut shell = Command::new("bash")
            .args(["-c", SCRIPT, "yard-watchdog", world])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()?;
        Ok(Self {
            _pipe: shell.stdin.take(),
            _shell: shell,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn it_bites_when_the_yard_is_gone() {
        let world = format!("watchdog-test-{:x}", rand::random::<u64>());
        let watchdog = Watchdog::start(&world).unwrap();
        let mut sleeper = Command::new("sleep")
            .arg("1000")
            .env("PADDOCK_YARD_WORLD", &world)
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        drop(watchdog);
        let status = tokio::time::timeout(Duration::from_secs(20), sleeper.wait()).await;
        assert!(!status.expect("killed in time").unwrap().success());
    }
}
