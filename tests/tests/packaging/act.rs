//! The quick start's workflows, run by a real reader of workflows: `act`, offline, with the action of
//! this repository and the controller as a release of it.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Output, Stdio},
    time::{Duration, Instant},
};

use sha2::{Digest, Sha256};
use tests::{
    binaries::Binaries,
    tools::{Tools, run},
    workflow::REPOSITORY,
    yard::{
        Settings, Yard,
        github::{Conclusion, Job},
    },
};
use tokio::process::Command;

const PATIENCE: Duration = Duration::from_secs(90);

/// The workflow run that act plays.
const RUN: u64 = 4711;

/// The workflow of this name in the quick start, as whoever copies it adapts it.
fn workflow(name: &str, releases: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let page = fs::read_to_string(root.join("docs/quick-start.md")).expect("the page");
    let found = page
        .split("```")
        .filter_map(|block| block.strip_prefix("yaml\n"))
        .find(|block| block.starts_with(&format!("name: {name}\n")));
    let mut text = found.expect("the workflow is there").to_owned();
    for (theirs, ours) in [
        ("eu-central-1", "us-east-1"),
        (
            "subnet-0aaaaaaaaaaaaaaaa subnet-0bbbbbbbbbbbbbbbb",
            "subnet-0a subnet-0b",
        ),
        ("sg-0123456789abcdef0", "sg-1"),
        // Its machines are processes of this computer.
        ("apt-get ", "echo apt-get "),
        (
            "actions-runner-version: latest",
            &format!("actions-runner-version: latest\n          runner-releases-url: {releases}"),
        ),
    ] {
        text = text.replace(theirs, ours);
    }
    text
}

/// What plays `aws-actions/configure-aws-credentials`: it leaves credentials to later steps.
const CREDENTIALS: &str = "
name: credentials
description: as the real one leaves them
inputs:
  role-to-assume: { description: whom to be, required: true }
  aws-region: { description: where, required: true }
runs:
  using: composite
  steps:
    - shell: bash
      env: { ROLE: \"${{ inputs.role-to-assume }}\", REGION: \"${{ inputs.aws-region }}\" }
      run: |
        [[ $ROLE == arn:aws:iam::* ]]
        { echo \"AWS_REGION=$REGION\"; echo AWS_ACCESS_KEY_ID=AKIAYARD
          echo AWS_SECRET_ACCESS_KEY=unchecked; } >> \"$GITHUB_ENV\"
";

/// The user's `./test`: act plays the job here, so it asks for the same job in the yard's queue
/// and ends as that one ends.
const USERS_TEST: &str = r#"#!/bin/sh
set -eu
: > "$COUNTER/$1.asked"
for _ in $(seq 900); do
    [ ! -e "$COUNTER/$1.done" ] || exec grep success "$COUNTER/$1.done"
    sleep 0.1
done
exit 1
"#;

/// A user's repository and act's surroundings, in the yard's folder.
struct User {
    yard: Yard,
    tools: Tools,
    folder: PathBuf,
}

impl User {
    async fn new() -> Self {
        let tools = tokio::task::spawn_blocking(Tools::packaging)
            .await
            .expect("not cancelled")
            .expect("act");
        let binaries = Binaries::build().expect("the programs build");
        let yard = Yard::start(Settings::new(&binaries.agent, &binaries.runner))
            .await
            .expect("the yard starts");
        let folder = yard.folder().join("user");
        let user = Self {
            yard,
            tools,
            folder,
        };
        user.release(&binaries.controller);
        user.write("credentials/action.yml", CREDENTIALS);
        user.write("counter/.keep", "");
        user.write("repository/test", USERS_TEST);
        let test = user.folder.join("repository/test");
        fs::set_permissions(test, fs::Permissions::from_mode(0o755)).expect("set");
        let releases = user.yard.github.url();
        let build = workflow("build", &releases);
        user.write("repository/.github/workflows/build.yml", &build);
        let refresh = workflow("paddock refresh", &releases);
        user.write("repository/.github/workflows/refresh.yml", &refresh);
        let git = |args: &[&str]| {
            let mut git = std::process::Command::new("git");
            git.current_dir(user.folder.join("repository"));
            git.args(["-c", "user.name=user", "-c", "user.email=user@example.org"]);
            run(git.args(args)).expect("git");
        };
        git(&["init", "--quiet", "--initial-branch=main"]);
        git(&["add", "--all"]);
        git(&["commit", "--quiet", "--message=all"]);
        user
    }

    fn write(&self, file: &str, text: &str) {
        let file = self.folder.join(file);
        fs::create_dir_all(file.parent().expect("a folder")).expect("made");
        fs::write(file, text).expect("written");
    }

    /// The action as a tag of this repository has it, and its controller as GitHub serves it.
    fn release(&self, controller: &Path) {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let action = self.folder.join("paddock");
        fs::create_dir_all(action.join("packaging/action")).expect("made");
        for file in ["action.yml", "packaging/action/run.sh"] {
            fs::copy(root.join(file), action.join(file)).expect("copied");
        }
        let bytes = fs::read(controller).expect("the controller");
        let sha256: Vec<String> = Sha256::digest(bytes)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let arch = std::env::consts::ARCH;
        self.write(
            "paddock/packaging/action/release.env",
            &format!(
                "repository=paddock-runners/paddock\nversion=0.1.0\n\
                 sha256_x86_64=\nsha256_aarch64=\nsha256_{arch}={}\n",
                sha256.concat()
            ),
        );
        self.yard.github.publish(
            "paddock-runners/paddock",
            "v0.1.0",
            &format!("controller-{arch}-unknown-linux-musl"),
            controller,
        );
    }

    /// Plays an event on a workflow.
    async fn act(&self, event: &str, workflow: &str) -> Output {
        let mut act = Command::new(self.tools.program("act"));
        act.current_dir(self.folder.join("repository"))
            .env_clear()
            .env("PATH", std::env::var("PATH").unwrap_or_default())
            .env("HOME", &self.folder)
            .env("XDG_CACHE_HOME", self.folder.join("cache"))
            .arg(event)
            .arg("--workflows")
            .arg(format!(".github/workflows/{workflow}.yml"))
            .arg("--no-cache-server")
            .args([
                "--var",
                "PADDOCK_ROLE=arn:aws:iam::123456789012:role/paddock-workflow",
                "--var",
                "PADDOCK_OPERATOR_ROLE=arn:aws:iam::123456789012:role/paddock-operator",
            ])
            .args([
                "--secret",
                &format!("PADDOCK_PAT={}", self.yard.github.token()),
            ])
            .args([
                "--env",
                &format!("COUNTER={}", self.folder.join("counter").display()),
            ]);
        for label in ["ubuntu-latest", &RUN.to_string()] {
            act.args(["--platform", &format!("{label}=-self-hosted")]);
        }
        for (action, folder) in [
            ("paddock-runners/paddock@v0", "paddock"),
            ("aws-actions/configure-aws-credentials@v6", "credentials"),
        ] {
            let folder = self.folder.join(folder);
            act.args([
                "--local-repository",
                &format!("{action}={}", folder.display()),
            ]);
        }
        for (name, value) in self.yard.controller_env(RUN, REPOSITORY) {
            // Credentials and region come from the step that is there to bring them.
            if name == "AWS_ENDPOINT_URL" || !name.starts_with("AWS_") {
                act.args(["--env", &format!("{name}={value}")]);
            }
        }
        let output = act.stdin(Stdio::null()).kill_on_drop(true).output();
        tokio::time::timeout(PATIENCE, output)
            .await
            .expect("act ends in time")
            .expect("act runs")
    }

    /// Puts a job into the yard's queue for each that act plays, and tells how it ended.
    async fn serve(&self, parts: &[&str]) -> Vec<String> {
        let counter = self.folder.join("counter");
        let mut runners = Vec::new();
        let deadline = Instant::now() + PATIENCE;
        for part in parts {
            while !counter.join(format!("{part}.asked")).exists() {
                assert!(Instant::now() < deadline, "act never got to {part}");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            let job = self.yard.github.enqueue(Job {
                run_id: RUN,
                name: (*part).to_owned(),
                labels: vec![RUN.to_string()],
                steps: vec![format!("echo {part}")],
                env: std::collections::BTreeMap::new(),
            });
            let job = self
                .yard
                .github
                .wait_job(job, PATIENCE)
                .await
                .expect("ends");
            let conclusion = job.conclusion.map_or("none", Conclusion::as_str);
            fs::write(counter.join(format!("{part}.done")), conclusion).expect("written");
            runners.extend(job.runner);
        }
        runners
    }
}

fn log(output: &Output) -> String {
    [&output.stdout, &output.stderr]
        .map(|bytes| String::from_utf8_lossy(bytes).into_owned())
        .concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_quick_starts_workflows_run() {
    let user = User::new().await;
    let refresh = user.act("workflow_dispatch", "refresh").await;
    assert!(refresh.status.success(), "{}", log(&refresh));

    user.yard.github.add_run(RUN, REPOSITORY);
    let parts = ["unit", "integration", "e2e"];
    let (build, runners) = tokio::join!(user.act("push", "build"), user.serve(&parts));
    let log = log(&build);
    assert!(build.status.success(), "{log}");
    assert_eq!(runners.len(), parts.len(), "{log}");
    let alive: Vec<String> = user
        .yard
        .aws
        .instances()
        .iter()
        .filter(|instance| instance.alive())
        .map(|instance| instance.id.clone())
        .collect();
    assert_eq!(alive.len(), 2, "{log}");
    for runner in runners {
        assert!(alive.iter().any(|id| runner.starts_with(id)), "{runner}");
    }
    // The last job has given both back.
    assert!(log.contains("2 back in the pool"), "{log}");
    assert_eq!(user.yard.github.runners().len(), 0, "{log}");
    user.yard.stop().await;
}
