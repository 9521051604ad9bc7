//! The machine's switch: a program.

use std::{path::PathBuf, process::Stdio, time::Duration};

use async_trait::async_trait;
use tokio::process::Command;

use crate::ports::{Cause, Power};

/// How long the program may take to say that it will.
const PATIENCE: Duration = Duration::from_secs(30);

/// Switches off by running a program.
#[derive(Clone, Debug)]
pub struct PowerProgram(
    /// Such as `/usr/sbin/poweroff`.
    pub PathBuf,
);

#[async_trait]
impl Power for PowerProgram {
    async fn off(&self) -> Result<(), Cause> {
        let program = self.0.display();
        let status = Command::new(&self.0)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .status();
        match tokio::time::timeout(PATIENCE, status).await {
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(Ok(status)) => Err(format!("{program} ended with {status}")),
            Ok(Err(error)) => Err(format!("{program} cannot be started: {error}")),
            Err(_) => Err(format!("{program} hangs")),
        }
    }
}
