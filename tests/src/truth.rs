//! What AWS and GitHub publish of their interfaces, as the judge of what the yard recorded.
//!
//! ```text
//! yard ── recorder ── exchanges.jsonl ── judge.py ── verdict
//!                                          │
//!        botocore's service models ────────┤  right operation; no unknown parameters, required
//!        GitHub's OpenAPI description ─────┘  ones there; types, enums, lengths, patterns
//! ```
//!
//! Requests are Paddock's; answers are the yard's, so that nobody here reads what AWS and GitHub
//! do not answer.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde::Deserialize;

use crate::tools::{Tools, run};

/// The npm package that holds GitHub's description (MIT).
const DESCRIPTION: &str = "@octokit/openapi@23.0.2";
/// The one of several descriptions in it that is github.com's.
const MEMBER: &str = "package/generated/api.github.com.json";

/// The judge, with what it judges by.
#[derive(Clone, Debug)]
pub struct Judge {
    tools: Tools,
    description: PathBuf,
}

/// What it found.
#[derive(Clone, Debug, Deserialize)]
pub struct Verdict {
    /// How often each operation was called: `ec2 CreateFleet`, `GET /repos/{owner}/{repo}/…`.
    pub operations: BTreeMap<String, u64>,
    /// What does not fit, each kind once.
    pub wrong: Vec<Wrong>,
}

/// Something that does not fit.
#[derive(Clone, Debug, Deserialize)]
pub struct Wrong {
    /// Of which operation.
    pub operation: String,
    /// Where and what.
    pub what: String,
    /// The exchange, as it was recorded.
    pub exchange: String,
}

impl Judge {
    /// Installs what is needed below `target/`, once.
    ///
    /// # Errors
    ///
    /// When it cannot be installed.
    pub fn install() -> io::Result<Self> {
        let tools = Tools::install("truth", "requirements-truth.txt")?;
        let npm = tools.program("npm");
        let folder = npm.ancestors().nth(2).unwrap_or(Path::new("."));
        let lock = File::create(folder.join("description.lock"))?;
        lock.lock()?;
        let version = DESCRIPTION.rsplit('@').next().unwrap_or_default();
        let description = folder.join(format!("github-{version}.json"));
        if !description.exists() {
            let unpacked = tempfile::tempdir_in(folder)?;
            let mut pack = Command::new(npm);
            pack.args(["pack", "--silent", "--pack-destination"])
                .arg(unpacked.path())
                .arg(DESCRIPTION)
                .env("PATH", tools.path());
            let packed = run(&mut pack)?;
            let packed = String::from_utf8_lossy(&packed).trim().to_owned();
            run(Command::new("tar")
                .arg("-xzf")
                .arg(unpacked.path().join(packed))
                .arg("-C")
                .arg(unpacked.path())
                .arg(MEMBER))?;
            fs::rename(unpacked.path().join(MEMBER), &description)?;
        }
        Ok(Self { tools, description })
    }

    /// Judges what a recorder wrote into these files.
    ///
    /// # Errors
    ///
    /// When a file cannot be read, or holds no exchanges.
    pub fn judge(&self, recorded: &[PathBuf]) -> io::Result<Verdict> {
        let mut all = tempfile::tempfile()?;
        for file in recorded {
            io::copy(&mut File::open(file)?, &mut all)?;
        }
        io::Seek::rewind(&mut all)?;
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/truth/judge.py");
        let output = Command::new(self.tools.program("python3"))
            .arg("-B")
            .arg(script)
            .arg(&self.description)
            .stdin(all)
            .stderr(Stdio::inherit())
            .output()?;
        if !output.status.success() {
            return Err(io::Error::other("the judge itself failed; see above"));
        }
        serde_json::from_slice(&output.stdout).map_err(io::Error::other)
    }
}

impl Verdict {
    /// All that is wrong, in words.
    pub fn complaints(&self) -> String {
        let wrong = self.wrong.iter();
        let lines: Vec<String> = wrong
            .map(|it| format!("{}: {}\n    {}", it.operation, it.what, it.exchange))
            .collect();
        lines.join("\n")
    }
}
