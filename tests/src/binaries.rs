//! The programs under test, built from the present source.

use std::{
    env, io,
    path::{Path, PathBuf},
    process::Command,
};

/// Where the programs are.
#[derive(Clone, Debug)]
pub struct Binaries {
    /// The control plane.
    pub controller: PathBuf,
    /// The daemon on each machine.
    pub agent: PathBuf,
    /// The stand-in for GitHub's runner.
    pub runner: PathBuf,
}

impl Binaries {
    /// Builds whatever is not up to date, into the folder that this program was built into.
    ///
    /// # Errors
    ///
    /// When cargo cannot be run, or something does not build.
    pub fn build() -> io::Result<Self> {
        let this = env::current_exe()?;
        let mut folder = this.parent().unwrap_or(Path::new("/"));
        if folder.ends_with("deps") {
            folder = folder.parent().unwrap_or(folder);
        }
        let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.current_dir(env!("CARGO_MANIFEST_DIR"));
        cargo.args(["build", "--quiet", "--workspace", "--bins"]);
        if folder.ends_with("release") {
            cargo.arg("--release");
        }
        // What cargo told us of this package would make build scripts that look at it run again,
        // and with them every crate that depends on theirs.
        for (name, _) in env::vars_os() {
            let text = name.to_string_lossy();
            let about_this_package = [
                "CARGO_PKG_",
                "CARGO_MANIFEST_",
                "CARGO_BIN_",
                "CARGO_CRATE_",
            ];
            if about_this_package
                .iter()
                .any(|prefix| text.starts_with(prefix))
            {
                cargo.env_remove(&name);
            }
        }
        let status = cargo.status()?;
        if !status.success() {
            return Err(io::Error::other(format!("cargo build: {status}")));
        }
        Ok(Self {
            controller: folder.join("controller"),
            agent: folder.join("agent"),
            runner: folder.join("runner-standin"),
        })
    }
}
