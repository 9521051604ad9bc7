//! The machine that the runner lives on: where things are, and the order of the larger steps.

use std::{
    fs,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use async_trait::async_trait;
use proto::{
    agent_config::{AgentConfig, JobRules},
    ids::InstanceId,
    instance::Secret,
};
use tokio::{process::Command, sync::mpsc::UnboundedSender};

use crate::{
    account::{Account, NoAccount},
    boot,
    cage::Cage,
    clean, contact, examine, fence,
    files::FileError,
    hooks, listen,
    machine::{Ages, Event, ListenerId, Saved, Tenant, Vitals},
    ports::{Cause, Host, chain},
    process::{self, Belongings},
    runner, saved,
};

/// A variable that everything the runner starts carries: what a job leaves behind is found by it.
const MARK: &str = "PADDOCK_MACHINE";

/// This machine.
#[derive(Clone, Debug)]
pub struct Machinery {
    /// Where the agent keeps what it must remember.
    pub state_dir: PathBuf,
    /// Where the runner program is.
    pub runner_dir: PathBuf,
    /// As whom jobs run; empty: as the agent itself.
    pub runner_user: String,
    /// Where other programs of this machine keep theirs.
    pub system: System,
    /// The rules for jobs.
    pub jobs: JobRules,
    /// How long the post-release script may take.
    pub post_release_within: Duration,
    /// Which machine this is.
    pub instance: InstanceId,
    /// Where Docker listens, if jobs need it.
    pub docker: Option<PathBuf>,
    /// Whether jobs may reach the metadata service, and with it the machine's role.
    pub jobs_may_use_role: bool,
}

/// Where other programs of this machine keep theirs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct System {
    /// What a new home holds.
    pub skeleton: PathBuf,
    /// Who may become root.
    pub sudoers: PathBuf,
    /// Docker's client.
    pub docker: PathBuf,
    /// There while Docker runs.
    pub docker_socket: PathBuf,
}

impl Default for System {
    fn default() -> Self {
        Self {
            skeleton: "/etc/skel".into(),
            sudoers: "/etc/sudoers.d".into(),
            docker: "/usr/bin/docker".into(),
            docker_socket: "/var/run/docker.sock".into(),
        }
    }
}

/// Makes a folder that is the agent's alone.
///
/// # Errors
///
/// When it cannot be made, with the folder's name.
pub fn make_private(folder: &Path) -> Result<(), Cause> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        // An earlier one, or systemd's, may be open to all.
        .and_then(|()| fs::set_permissions(folder, fs::Permissions::from_mode(0o700)))
        .map_err(|error| chain(&FileError::of("make the folder", folder)(error)))
}

impl Machinery {
    pub(crate) fn account(&self) -> Result<Account, NoAccount> {
        Account::find(&self.runner_user)
    }

    pub(crate) fn cage(&self) -> Cage {
        Cage::of(&self.instance)
    }

    /// The runner program, ready to be given its arguments.
    pub(crate) fn runner_command(&self, account: &Account) -> Command {
        self.prepared(account.command(&self.listener_program()))
    }

    /// The same, to live in its cage.
    pub(crate) fn caged_runner_command(&self, account: &Account) -> Command {
        self.prepared(account.command_behind(self.cage().enter(), &self.listener_program()))
    }

    fn prepared(&self, mut command: Command) -> Command {
        command.current_dir(&self.runner_dir);
        self.marked(command)
    }

    /// A command that is found again by its mark.
    pub(crate) fn marked(&self, mut command: Command) -> Command {
        command.env(MARK, self.instance.as_str());
        command
    }

    pub(crate) fn listener_program(&self) -> PathBuf {
        self.runner_dir.join(runner::PROGRAM)
    }

    pub(crate) fn log(&self, name: &str) -> PathBuf {
        self.state_dir.join(format!("{name}.log"))
    }

    pub(crate) fn belongings(&self, account: &Account) -> Belongings {
        Belongings {
            mark: format!("{MARK}={}", self.instance),
            person: account.person().cloned(),
            group: self.cage().group().map(Path::to_owned),
            agent: Some(process::this()),
        }
    }
}

#[async_trait]
impl Host for Machinery {
    async fn boot(&self, config: &AgentConfig) -> Result<String, Cause> {
        // Without it the agent could neither run a tenant nor find it again.
        make_private(&self.state_dir)?;
        fence::close(self).await.map_err(|error| chain(&error))?;
        boot::boot(self, config)
            .await
            .map_err(|error| chain(&error))
    }

    async fn configure(
        &self,
        url: &str,
        tenant: &Tenant,
        token: &Secret,
        within: Duration,
    ) -> Result<(), Cause> {
        // A job with `sudo` may have opened it.
        fence::close(self).await.map_err(|error| chain(&error))?;
        runner::configure(self, url, tenant, token, within)
            .await
            .map_err(|error| chain(&error))
    }

    async fn listen(&self, run: u64, events: UnboundedSender<Event>) {
        listen::listen(self, run, &events).await;
    }

    async fn adopt(
        &self,
        run: u64,
        listener: ListenerId,
        offset: u64,
        events: UnboundedSender<Event>,
    ) {
        listen::adopt(self, run, listener, offset, &events).await;
    }

    async fn remove(&self, token: &Secret, listener: Option<ListenerId>) -> Result<(), Cause> {
        runner::remove(self, token, listener)
            .await
            .map_err(|error| chain(&error))
    }

    async fn dismiss(&self, listener: ListenerId) {
        if let Err(error) = listen::dismiss(self, listener).await {
            tracing::warn!("the listener is not stopped: {}", chain(&error));
        }
    }

    async fn retire(&self, listener: Option<ListenerId>) -> Result<(), Cause> {
        if let Some(listener) = listener {
            listen::stop(listener).await;
        }
        clean::clean(self).await.map_err(|error| chain(&error))?;
        // After the cleaning: nothing of a job's is left that could mislead it.
        let done = hooks::post_release(self).await;
        done.map_err(|error| chain(&error))
    }

    fn save(&self, saved: Option<&Saved>) -> Result<(), Cause> {
        saved::keep(self, saved).map_err(|error| chain(&error))
    }

    fn earlier(&self) -> Option<Saved> {
        saved::earlier(self)
    }

    async fn examine(&self, listener: Option<ListenerId>) -> Result<Vitals, Cause> {
        examine::examine(self, listener).await
    }

    fn keep(&self, ages: Ages) {
        if let Err(error) = contact::keep(&self.state_dir, ages) {
            // Each examination says it.
            tracing::debug!(
                "a restart of the agent would begin to wait anew: {}",
                chain(&error)
            );
        }
    }

    fn ages(&self) -> Option<Ages> {
        contact::earlier(&self.state_dir).unwrap_or_else(|error| {
            tracing::warn!("since when nobody speaks is lost: {}", chain(&error));
            None
        })
    }

    fn reap(&self) {
        process::reap();
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A machine that lives in this folder, without anything on it.
    pub(crate) fn machine_in(folder: &Path) -> Machinery {
        Machinery {
            state_dir: folder.join("state"),
            runner_dir: folder.join("runner"),
            runner_user: String::new(),
            system: System::default(),
            jobs: JobRules::default(),
            post_release_within: Duration::from_secs(10),
            instance: "i-0123456789abcdef0".parse().unwrap(),
            docker: None,
            jobs_may_use_role: false,
        }
    }

    #[test]
    fn the_state_folder_is_the_agents_alone_whatever_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let new = folder.path().join("deep/state");
        make_private(&new).unwrap();
        assert_eq!(mode(&new), 0o700);
        let open = folder.path().join("open");
        fs::create_dir(&open).unwrap();
        fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
        make_private(&open).unwrap();
        assert_eq!(mode(&open), 0o700);
        fs::write(folder.path().join("file"), "").unwrap();
        let error = make_private(&folder.path().join("file")).unwrap_err();
        assert!(error.contains("file"), "{error}");
    }
}
