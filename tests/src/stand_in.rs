//! `ministack` and `moto`: AWSes that nobody here wrote, for a second and a third opinion.
//!
//! They are installed by pip into virtual environments below `target/`, once, and started for one
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

/// Starting takes a second; a busy computer may take its time.
const READY_WITHIN: Duration = Duration::from_mins(1);

/// Another's stand-in for AWS, running; it ends when this is dropped.
#[derive(Debug)]
pub struct StandIn {
    url: String,
    _process: Child,
}

/// Which one.
#[derive(Clone, Copy, Debug)]
pub enum Maker {
    /// `ministack`.
    Ministack,
    /// `moto`, as a server.
    Moto,
}

impl Maker {
    fn name(self) -> &'static str {
        match self {
            Self::Ministack => "ministack",
            Self::Moto => "moto",
        }
    }

    fn command(self, tools: &Tools, port: u16) -> Command {
        let port = port.to_string();
        match self {
            Self::Ministack => {
                let mut command = Command::new(tools.program("ministack"));
                command
                    .env("GATEWAY_PORT", port)
                    .env("BIND_HOST", "127.0.0.1")
                    .env("MINISTACK_HOST", "127.0.0.1")
                    .env("MINISTACK_ACCOUNT_ID", "123456789012")
                    .env("LOG_LEVEL", "WARNING");
                command
            }
            Self::Moto => {
                let mut command = Command::new(tools.program("python3"));
                command
                    .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/tools/serve_moto.py"))
                    .arg(port);
                command
            }
        }
    }
}

impl StandIn {
    /// Installs it if need be, starts it, and waits until it answers.
    ///
    /// # Errors
    ///
    /// When it cannot be installed or does not start.
    pub async fn start(maker: Maker) -> io::Result<Self> {
        let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target");
        let name = maker.name();
        let requirements = format!("requirements-{name}.txt");
        let tools = spawn_blocking(move || Tools::install(name, &requirements)).await??;
        let port = free_port()?;
        let log = File::create(target.join(format!("{name}-{port}.log")))?;
        let process = maker
            .command(&tools, port)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()?;
        let url = format!("http://127.0.0.1:{port}");
        let stand_in = Self {
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
                    "{name} is not ready after {READY_WITHIN:?}"
                )));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(stand_in)
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
