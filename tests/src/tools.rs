//! Programs that tests need and that pip installs: once, into a virtual environment below
//! `target/`.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// A virtual environment.
#[derive(Clone, Debug)]
pub struct Tools {
    folder: PathBuf,
}

impl Tools {
    /// The programs that judge what is packaged: see `requirements-packaging.txt`.
    ///
    /// # Errors
    ///
    /// When they cannot be installed.
    pub fn packaging() -> io::Result<Self> {
        Self::install("tools", "requirements-packaging.txt")
    }

    /// An environment below `target/` that holds what a file beside this crate's manifest lists.
    ///
    /// # Errors
    ///
    /// When it cannot be installed.
    pub fn install(name: &str, requirements: &str) -> io::Result<Self> {
        let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
        let requirements = tests.join(requirements);
        let folder = tests.join("../target").join(name);
        let tools = Self { folder };
        // Tests run at the same time; the first one installs, the others wait for it.
        let lock = File::create(tools.folder.with_extension("lock"))?;
        lock.lock()?;
        let wanted = fs::read(&requirements)?;
        let done = tools.folder.join("installed");
        // Written last: a half-made environment is never taken for a whole one.
        if fs::read(&done).is_ok_and(|have| have == wanted) {
            return Ok(tools);
        }
        run(Command::new("python3")
            .args(["-m", "venv", "--clear"])
            .arg(&tools.folder))?;
        run(Command::new(tools.program("pip"))
            .args(["install", "--quiet", "--disable-pip-version-check"])
            .arg("--requirement")
            .arg(&requirements))?;
        fs::write(done, wanted)?;
        Ok(tools)
    }

    /// One of its programs.
    pub fn program(&self, name: &str) -> PathBuf {
        self.folder.join("bin").join(name)
    }

    /// `PATH` with these programs first.
    pub fn path(&self) -> String {
        let path = std::env::var("PATH").unwrap_or_default();
        format!("{}:{path}", self.folder.join("bin").display())
    }

    /// A YAML, HCL or `CloudFormation` file as JSON, read by those who wrote the readers.
    ///
    /// # Errors
    ///
    /// When it cannot be read, or is not what its name says.
    pub fn read(&self, file: &Path) -> io::Result<serde_json::Value> {
        let output = run(Command::new(self.program("python3"))
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/tools/read.py"))
            .arg(file))?;
        serde_json::from_slice(&output).map_err(io::Error::other)
    }
}

/// Runs to the end; what it printed on stdout.
///
/// # Errors
///
/// When it cannot be started, or fails: then with all that it printed.
pub fn run(command: &mut Command) -> io::Result<Vec<u8>> {
    let output = command.stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    Err(io::Error::other(format!(
        "{command:?}: {}: {}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )))
}
