//! `ministack`: an AWS that nobody here wrote, for a second opinion.
//!
//! It is installed by pip into a virtual environment below `target/`, once, and started for one
//! test on a free port of the loopback interface.

use std::{
    fs::File,
    io,
    net::TcpListener,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use tokio::process::{Child, Command};

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
        let program = install(&target.join("ministack")).await?;
        let port = free_port()?;
        let log = File::create(target.join(format!("ministack-{port}.log")))?;
        let process = Command::new(program)
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

/// The program in its virtual environment, made if it is not there whole.
async fn install(folder: &Path) -> io::Result<PathBuf> {
    let requirements = Path::new(env!("CARGO_MANIFEST_DIR")).join("requirements.txt");
    let wanted = std::fs::read(&requirements)?;
    let done = folder.join("installed");
    let program = folder.join("bin/ministack");
    // Written last: a half-made environment is never taken for a whole one.
    if std::fs::read(&done).is_ok_and(|have| have == wanted) {
        return Ok(program);
    }
    run(Command::new("python3")
        .args(["-m", "venv", "--clear"])
        .arg(folder))
    .await?;
    run(Command::new(folder.join("bin/pip"))
        .args([
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--requirement",
        ])
        .arg(&requirements))
    .await?;
    std::fs::write(done, wanted)?;
    Ok(program)
}

async fn run(command: &mut Command) -> io::Result<()> {
    let output = command.stdin(Stdio::null()).output().await?;
    if output.status.success() {
        return Ok(());
    }
    let error = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(format!(
        "{:?}: {}: {error}",
        command.as_std(),
        output.status
    )))
}
