//! `ministack`: an AWS that nobody here wrote, for a second opinion.
//!
//! It is installed by pip into a virtual environment below `target/`, once, and started for one
//! test on a free port of the loopback interface.

use std::{
    fs::File,
    io,
    net::TcpListener,
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use tokio::{
    process::{Child, Command},
    task::spawn_blocking,
};

use crate::tools::Tools;

/// Starting takes half a second; a busy computer may take its time.
const READY_WITHIN: Duration = Duration::from_mins(1);

/// A running ministack; it ends when this is dropped.
#[derive(Debug)]
pub struct Ministack {
    url: String,
    _process: Child,
}

impl Ministack {
    /// Installs it if need be, starts it, and waits until it answers.
    ///
    /// # Errors
    ///
    /// When it cannot be installed or does not start.
    pub async fn start() -> io::Result<Self> {
        let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target");
        let tools = spawn_blocking(|| Tools::install("ministack", "requirements.txt")).await??;
        let port = free_port()?;
        let log = File::create(target.join(format!("ministack-{port}.log")))?;
        let process = Command::new(tools.program("ministack"))
            .env("GATEWAY_PORT", port.to_string())
            .env("BIND_HOST", "127.0.0.1")
            .env("MINISTACK_HOST", "127.0.0.1")
            .env("MINISTACK_ACCOUNT_ID", "123456789012")
            .env("LOG_LEVEL", "WARNING")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()?;
        let url = format!("http://127.0.0.1:{port}");
        let ministack = Self {
            url,
            _process: process,
        };
        let deadline = Instant::now() + READY_WITHIN;
        while tokio::net::TcpStream::connect(("127.0.0.1", port))
            .await
            .is_err()
        {
            if Instant::now() > deadline {
                return Err(io::Error::other(format!(
                    "ministack is not ready after {READY_WITHIN:?}"
                )));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(ministack)
    }

    /// Its endpoint, for every service.
    pub fn url(&self) -> &str {
        &self.url
    }
}

/// A port that was free a moment ago.
fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}
