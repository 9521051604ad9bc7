//! A stand-in runner in a folder of its own, and a REST client.

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;
use tests::yard::github::{GitHub, Job, Settings};
use tests::yard::machines::processes::Mark;
use tokio::process::{Child, Command};

/// Long enough for a machine under load; nothing waits that long otherwise.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) const REPOSITORY: &str = "acme/widgets";

pub(crate) async fn github() -> GitHub {
    GitHub::start(Settings::default()).await.unwrap()
}

/// Polls for something that no channel announces.
pub(crate) async fn eventually(what: &str, mut reached: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !reached() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A call of the REST API with the right token: status and body.
pub(crate) async fn rest(github: &GitHub, method: &str, path: &str) -> (u16, Value) {
    rest_with(github, method, path, Some(&github.token())).await
}

pub(crate) async fn rest_with(
    github: &GitHub,
    method: &str,
    path: &str,
    token: Option<&str>,
) -> (u16, Value) {
    let mut request = http().request(method.parse().unwrap(), format!("{}{path}", github.url()));
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    let body = response.bytes().await.unwrap();
    (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
}

pub(crate) fn http() -> reqwest::Client {
    // Needed to build a client at all; the second test finds it installed.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().no_proxy().build().unwrap()
}

pub(crate) async fn registration_token(github: &GitHub) -> String {
    let path = format!("/repos/{REPOSITORY}/actions/runners/registration-token");
    let (status, body) = rest(github, "POST", &path).await;
    assert_eq!(status, 201);
    body["token"].as_str().unwrap().to_owned()
}

pub(crate) fn job(label: &str, steps: &[&str]) -> Job {
    Job {
        run_id: 7,
        name: "build".to_owned(),
        labels: vec![label.to_owned()],
        steps: steps.iter().map(ToString::to_string).collect(),
        ..Job::default()
    }
}

/// A folder with the stand-in in `bin`. Dropped, it takes its processes with it.
pub(crate) struct Runner {
    folder: TempDir,
    url: String,
    mark: String,
}

impl Runner {
    pub(crate) fn install(github: &GitHub) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let bin = folder.path().join("bin");
        std::fs::create_dir(&bin).unwrap();
        for name in ["Runner.Listener", "Runner.Worker"] {
            std::fs::copy(env!("CARGO_BIN_EXE_runner-standin"), bin.join(name)).unwrap();
        }
        Self {
            mark: folder.path().display().to_string(),
            folder,
            url: format!("{}/{REPOSITORY}", github.url()),
        }
    }

    /// Installed and configured with one label besides its name.
    pub(crate) async fn configured(github: &GitHub, name: &str, label: &str) -> Self {
        let runner = Self::install(github);
        let token = registration_token(github).await;
        let output = runner.configure(name, label, &token, &[]).await;
        assert!(output.status.success(), "{output:?}");
        runner
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn mark(&self) -> Mark {
        Mark::variable("YARD_TEST_RUNNER", &self.mark)
    }

    pub(crate) fn listener(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.path("bin/Runner.Listener"));
        command
            .args(arguments)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("RUNNER_ALLOW_RUNASROOT", "1")
            .env("YARD_TEST_RUNNER", &self.mark)
            .current_dir(self.folder.path())
            .stdin(Stdio::null());
        command
    }

    /// The token goes through the environment.
    pub(crate) async fn configure(
        &self,
        name: &str,
        label: &str,
        token: &str,
        more: &[&str],
    ) -> Output {
        let mut arguments = vec!["configure", "--unattended", "--no-default-labels"];
        arguments.extend(["--url", &self.url, "--name", name, "--labels", label]);
        arguments.extend(more);
        self.listener(&arguments)
            .env("ACTIONS_RUNNER_INPUT_TOKEN", token)
            .output()
            .await
            .unwrap()
    }

    /// Starts the listener; what it prints goes to a file.
    pub(crate) fn run(&self) -> Listener {
        self.run_with(&[])
    }

    pub(crate) fn run_with(&self, environment: &[(&str, &str)]) -> Listener {
        let printed = self.path("printed");
        let file = std::fs::File::create(&printed).unwrap();
        let child = self
            .listener(&["run"])
            .envs(environment.iter().copied())
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .unwrap();
        Listener { child, printed }
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        self.mark().kill_all();
    }
}

/// A running listener.
pub(crate) struct Listener {
    child: Child,
    printed: PathBuf,
}

impl Listener {
    pub(crate) fn printed(&self) -> String {
        read(&self.printed)
    }

    pub(crate) async fn prints(&self, text: &str) {
        eventually(text, || self.printed().contains(text)).await;
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id().expect("it runs")).unwrap();
        kill(Pid::from_raw(pid), signal).unwrap();
    }

    pub(crate) async fn ended(&mut self) -> ExitStatus {
        tokio::time::timeout(PATIENCE, self.child.wait())
            .await
            .expect("the listener ends in time")
            .unwrap()
    }
}

pub(crate) fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}
