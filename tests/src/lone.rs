//! One agent on a machine of its own, with user data and a table of the test's choice: for what no
//! pool that works would ever show it.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Output, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use axum::{
    Router,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use jiff::Timestamp;
use proto::{
    agent_config::{AgentConfig, JobRules, Times},
    ids::InstanceArn,
    instance::InstanceRecord,
    state::State,
    table::Table,
    time::{Clock, SystemClock},
};
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::{
    binaries::Binaries,
    pool::{PATIENCE, Pool},
    yard::{
        aws::Launch,
        clock,
        imds::Imds,
        machines::{forget_control_group, processes::Mark},
    },
};

/// Ids of this process's machines: an agent takes what bears its machine's id for its own.
static MACHINES: AtomicU32 = AtomicU32::new(0);

/// How a table behaves that is none.
#[derive(Clone, Copy, Debug)]
pub enum Answer {
    /// DynamoDB's error: status and code.
    Error(u16, &'static str),
    /// None at all.
    Silence,
    /// A page of a proxy, with status 200.
    Nonsense,
}

impl Answer {
    async fn give(self, headers: HeaderMap) -> Response {
        match self {
            Self::Error(status, code) => {
                let text = format!(
                    r#"{{"__type":"com.amazonaws.dynamodb.v20120810#{code}","message":"{code} of the test"}}"#
                );
                let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST);
                let head = [("content-type", "application/x-amz-json-1.0")];
                (status, head, text).into_response()
            }
            Self::Silence => {
                // Whoever asks gives up long before.
                tokio::time::sleep(Duration::from_hours(1)).await;
                drop(headers);
                StatusCode::OK.into_response()
            }
            Self::Nonsense => "<html>please log in</html>".into_response(),
        }
    }
}

/// Serves DynamoDB's API in that way on a free port; its address.
///
/// # Errors
///
/// When there is no free port.
pub async fn serve(answer: Answer) -> io::Result<String> {
    let routes = Router::new().fallback(move |headers| answer.give(headers));
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await?;
    let url = format!("http://{}", listener.local_addr()?);
    tokio::spawn(async move { axum::serve(listener, routes).await });
    Ok(url)
}

/// The machine. Dropped, it takes its agent with it.
pub struct Lone {
    arn: InstanceArn,
    folder: TempDir,
    imds: Imds,
    aws: String,
    program: PathBuf,
    agent: Option<Child>,
    started: Option<Timestamp>,
}

impl Drop for Lone {
    /// A runner outlives its agent, and a machine takes all of it along.
    fn drop(&mut self) {
        let id = self.arn.id().as_str();
        Mark::machine(id).kill_all();
        forget_control_group(id);
    }
}

#[expect(clippy::missing_panics_doc, reason = "a test's kit: its type says so")]
impl Lone {
    /// A configuration with these times.
    pub fn config(times: Times) -> AgentConfig {
        AgentConfig {
            v: 1,
            pool: "lone".parse().expect("a name"),
            table: "paddock-lone".to_owned(),
            region: "us-east-1".to_owned(),
            github_url: "http://127.0.0.1:9/acme/widgets".to_owned(),
            pre_runner_script: None,
            runner: None,
            docker: false,
            jobs_may_use_instance_role: false,
            jobs: JobRules::default(),
            times,
        }
    }

    /// A machine with this user data whose table is at `aws`. Its agent does not run yet.
    pub async fn new(agent: &Path, runner: &Path, user_data: Vec<u8>, aws: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let number = MACHINES.fetch_add(1, Ordering::Relaxed);
        let id = format!("i-{:09x}{number:08x}", std::process::id());
        let arn = format!("arn:aws:ec2:us-east-1:123456789012:instance/{id}");
        let launch = Launch {
            id,
            arn: arn.clone(),
            region: "us-east-1".to_owned(),
            account: "123456789012".to_owned(),
            zone: "us-east-1a".to_owned(),
            instance_type: "m6i.large".to_owned(),
            image_id: "ami-0".to_owned(),
            spot: false,
            user_data,
            tags: std::collections::BTreeMap::new(),
            instance_profile: None,
        };
        let lone = Self {
            arn: arn.try_into().expect("an ARN"),
            imds: Imds::start(launch).await.expect("a metadata service"),
            aws: aws.to_owned(),
            program: agent.to_owned(),
            agent: None,
            started: None,
            folder,
        };
        for part in ["home", "tmp", "runner/bin"] {
            fs::create_dir_all(lone.path(part)).expect("a folder");
        }
        for name in ["Runner.Listener", "Runner.Worker"] {
            fs::copy(runner, lone.path("runner/bin").join(name)).expect("a runner");
        }
        let off = format!("#!/bin/sh\n: > '{}'\n", lone.path("off").display());
        fs::write(lone.path("poweroff"), off).expect("a switch");
        let mode = fs::Permissions::from_mode(0o755);
        fs::set_permissions(lone.path("poweroff"), mode).expect("a mode");
        lone
    }

    /// A machine of a pool with its record, both as `change` makes them. Its agent does not run yet.
    pub async fn of(
        pool: &Pool,
        change: impl FnOnce(&mut AgentConfig, &mut InstanceRecord),
    ) -> Self {
        let mut config = Self::config(Times::default());
        "paddock-acme-widgets".clone_into(&mut config.table);
        let mut record = InstanceRecord::example(State::Created);
        record.threshold = Some(SystemClock.now() + Duration::from_hours(2));
        change(&mut config, &mut record);
        let user_data = userdata::render(&config, None).expect("it fits");
        let Binaries { agent, runner, .. } = &pool.binaries;
        let lone = Self::new(agent, runner, user_data, &pool.yard.aws.url()).await;
        record.arn = lone.arn.clone();
        pool.table.insert_instance(&record).await.expect("written");
        lone
    }

    /// The machine's name at AWS.
    pub fn arn(&self) -> &InstanceArn {
        &self.arn
    }

    /// Something on the machine's disk.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Puts a program of the test's own in the runner's place.
    pub fn replace_runner(&self, text: &str) {
        let program = self.path("runner/bin/Runner.Listener");
        fs::remove_file(&program).expect("removed");
        fs::write(&program, text).expect("written");
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("a mode");
    }

    /// Its metadata service.
    pub fn imds(&self) -> &Imds {
        &self.imds
    }

    /// The agent's program with what it needs to know.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(arguments)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.path("home"))
            .env("TMPDIR", self.path("tmp"))
            // The runner and its jobs inherit it.
            .env("PADDOCK_YARD_MACHINE", self.arn.id().as_str())
            .env("AWS_EC2_METADATA_SERVICE_ENDPOINT", self.imds.url())
            .env("AWS_ENDPOINT_URL", &self.aws)
            .env("PADDOCK_STATE_DIR", self.path("state"))
            .env("PADDOCK_RUN_DIR", self.path("run"))
            .env("PADDOCK_RUNNER_DIR", self.path("runner"))
            .env("PADDOCK_RUNNER_USER", "")
            .env("PADDOCK_POWEROFF", self.path("poweroff"))
            .env("PADDOCK_DOCKER_SOCKET", self.path("docker.sock"))
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }

    /// Starts the agent, with more in its environment.
    pub fn start(&mut self, environment: &[(&str, &str)]) {
        let console = File::options()
            .append(true)
            .create(true)
            .open(self.path("console"))
            .expect("a console");
        let mut command = self.command(&["run"]);
        command
            .envs(environment.iter().copied())
            .stdout(console.try_clone().expect("a console"))
            .stderr(console);
        self.started = Some(clock::now());
        self.agent = Some(command.spawn().expect("the agent starts"));
    }

    /// When its agent was started last.
    pub fn started(&self) -> Option<Timestamp> {
        self.started
    }

    /// The agent's process id.
    pub fn pid(&self) -> Option<u32> {
        self.agent.as_ref()?.id()
    }

    /// Kills the agent.
    pub async fn kill(&mut self) {
        if let Some(mut agent) = self.agent.take() {
            agent.kill().await.expect("it ends");
        }
    }

    /// Runs one of the agent's other commands.
    pub async fn run(&self, arguments: &[&str]) -> Output {
        let mut command = self.command(arguments);
        command.output().await.expect("the agent starts")
    }

    /// What the agent printed so far.
    pub fn console(&self) -> String {
        fs::read(self.path("console"))
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    /// Whether the machine was switched off.
    pub fn is_off(&self) -> bool {
        self.path("off").exists()
    }

    /// Waits until its record in the pool's table is as it should be.
    pub async fn until_record(
        &self,
        pool: &Pool,
        what: &str,
        holds: impl Fn(&InstanceRecord) -> bool,
    ) -> InstanceRecord {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let record = pool.table.instance(&self.arn).await.expect("read");
            let record = record.expect("a record");
            if holds(&record) {
                return record;
            }
            assert!(
                Instant::now() < deadline,
                "not in time: {what}; {record:?}; the agent says:\n{}",
                self.console()
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits until something holds.
    pub async fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !holds(self) {
            assert!(
                Instant::now() < deadline,
                "not in time: {what}; the agent says:\n{}",
                self.console()
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}
