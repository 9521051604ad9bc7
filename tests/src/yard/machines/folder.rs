//! What is on a machine's disk and in its environment.

use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use nix::unistd::Uid;
use tokio::process::Command;

use super::Settings;
use crate::yard::aws::Launch;

/// Images with this prefix carry a runner but no agent: their user data is a script that fetches it.
const BARE: &str = "ami-bare";

/// A machine's folder, which stands for its disk.
#[derive(Clone, Debug)]
pub(super) struct Folder {
    root: PathBuf,
}

impl Folder {
    /// Lays out the disk of a machine just launched.
    pub(super) fn create(settings: &Settings, launch: &Launch) -> io::Result<Self> {
        let folder = Self {
            root: settings.world.join("machines").join(&launch.id),
        };
        for part in ["bin", "home", "tmp", "state", "opt", "runner"] {
            fs::create_dir_all(folder.root.join(part))?;
        }
        if is_bare(launch) {
            fs::write(folder.root.join("user-data"), unfolded(&launch.user_data)?)?;
        }
        let bin = folder.root.join("runner/bin");
        fs::create_dir_all(&bin)?;
        place(&settings.runner_binary, &bin.join("Runner.Listener"))?;
        place(&settings.runner_binary, &bin.join("Runner.Worker"))?;
        place(
            &settings.agent_binary,
            &folder.root.join("bin/paddock-agent"),
        )?;
        let script = format!("#!/bin/sh\n: > '{}'\n", folder.powered_off().display());
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o755)
            .open(folder.root.join("poweroff"))?
            .write_all(script.as_bytes())?;
        Ok(folder)
    }

    pub(super) fn path(&self) -> &Path {
        &self.root
    }

    /// Exists once the machine switched itself off.
    pub(super) fn powered_off(&self) -> PathBuf {
        self.root.join("powered-off")
    }

    pub(super) fn console(&self) -> PathBuf {
        self.root.join("console.log")
    }

    /// The machine's first program: the agent, or the user data of a bare image.
    pub(super) fn first_program(
        &self,
        settings: &Settings,
        launch: &Launch,
        imds: &str,
    ) -> io::Result<Command> {
        let console = OpenOptions::new()
            .append(true)
            .create(true)
            .open(self.console())?;
        let bare = is_bare(launch);
        let mut command = Command::new(if bare {
            Path::new("bash")
        } else {
            &settings.agent_binary
        });
        self.at_home(&mut command, settings, launch, imds);
        if bare {
            command
                .arg(self.root.join("user-data"))
                .env("PADDOCK_HOME", self.root.join("opt"));
        } else {
            command.arg("run");
        }
        command
            .stdin(Stdio::null())
            .stdout(console.try_clone()?)
            .stderr(console)
            .process_group(0);
        Ok(command)
    }

    /// A shell script, as Systems Manager has it run on the machine.
    pub(super) fn script(
        &self,
        settings: &Settings,
        launch: &Launch,
        imds: &str,
        script: &str,
    ) -> Command {
        let mut command = Command::new("sh");
        self.at_home(&mut command, settings, launch, imds);
        let path = std::env::var("PATH").unwrap_or_default();
        let own = self.root.join("bin");
        command
            .env("PATH", format!("{}:{path}", own.display()))
            .args(["-c", script])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    /// The environment of whatever runs on the machine.
    fn at_home(&self, command: &mut Command, settings: &Settings, launch: &Launch, imds: &str) {
        let inherited = ["PATH", "RUST_LOG", "RUST_BACKTRACE"]
            .into_iter()
            .filter_map(|name| Some((name, std::env::var_os(name)?)));
        let milliseconds = |time: Duration| time.as_millis().to_string();
        command
            .env_clear()
            .envs(inherited)
            .env("HOME", self.root.join("home"))
            .env("TMPDIR", self.root.join("tmp"))
            .env("AWS_EC2_METADATA_SERVICE_ENDPOINT", imds)
            .env("AWS_ENDPOINT_URL", &settings.aws_url)
            .env("PADDOCK_STATE_DIR", self.root.join("state"))
            .env("PADDOCK_RUN_DIR", self.root.join("run"))
            .env("PADDOCK_RUNNER_DIR", self.root.join("runner"))
            .env("PADDOCK_RUNNER_USER", "")
            .env("PADDOCK_POWEROFF", self.root.join("poweroff"))
            .env("PADDOCK_DOCKER_SOCKET", self.root.join("docker.sock"))
            .env("PADDOCK_YARD_WORLD", &settings.world_id)
            .env("PADDOCK_YARD_MACHINE", &launch.id)
            .env(
                "PADDOCK_YARD_CONFIGURE_MS",
                milliseconds(settings.configure),
            )
            .env("PADDOCK_YARD_REMOVE_MS", milliseconds(settings.deregister));
        if Uid::effective().is_root() {
            command.env("RUNNER_ALLOW_RUNASROOT", "1");
        }
        command.current_dir(&self.root);
    }
}

/// User data as cloud-init runs it: it unfolds what is gzip-compressed.
fn unfolded(user_data: &[u8]) -> io::Result<Vec<u8>> {
    if !user_data.starts_with(&[0x1f, 0x8b]) {
        return Ok(user_data.to_owned());
    }
    let mut text = Vec::new();
    flate2::read::GzDecoder::new(user_data).read_to_end(&mut text)?;
    Ok(text)
}

fn is_bare(launch: &Launch) -> bool {
    launch.image_id.starts_with(BARE)
}

/// A hard link costs nothing; across file systems only a copy is possible.
fn place(program: &Path, at: &Path) -> io::Result<()> {
    fs::hard_link(program, at).or_else(|_| fs::copy(program, at).map(drop))
}
