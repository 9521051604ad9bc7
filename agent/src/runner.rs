//! Driving the official runner's short commands: `--version`, `configure`, `remove`.

use std::{process::Stdio, time::Duration};

use proto::{instance::Secret, time::human};

use crate::{
    account::{Account, NoAccount},
    apart::Apart,
    command::{CommandError, run_to_end},
    files::{self, FileError, aside},
    host::Machinery,
    keyring, later,
    machine::{ListenerId, Tenant},
    manifest,
    process::{Belongings, Own},
    registration,
};

/// What does everything, in the runner's folder.
pub(crate) const PROGRAM: &str = "bin/Runner.Listener";
/// The runner removes such variables from its environment once read, so no job sees a token.
const TOKEN: &str = "ACTIONS_RUNNER_INPUT_TOKEN";
/// How long deregistering may take.
const REMOVE_WITHIN: Duration = Duration::from_mins(1);
/// How long local steps of the runner may take: a start of .NET and little else.
const LOCAL_WITHIN: Duration = Duration::from_secs(30);

/// What `configure` writes, and what the runner makes of it later.
pub(crate) const CONFIGURATION: [&str; 5] = [
    ".runner",
    ".credentials",
    ".credentials_rsaparams",
    ".runner_migrated",
    ".credentials_migrated",
];

/// The runner did not do what was asked of it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunnerError {
    #[error(transparent)]
    Account(#[from] NoAccount),
    #[error(transparent)]
    Command(#[from] CommandError),
    #[error(transparent)]
    File(#[from] FileError),
    #[error("{what} cannot be run")]
    Version {
        what: &'static str,
        #[source]
        source: std::io::Error,
    },
    #[error(
        "the runner program's --version took longer than {}",
        human(LOCAL_WITHIN)
    )]
    VersionOverdue,
    #[error("the runner program's --version printed no version but `{out}`; its errors: {err}")]
    NoVersion { out: String, err: String },
    #[error("processes of the last job do not die: {0:?}")]
    Processes(Vec<i32>),
    #[error("the runner has a job")]
    Works,
    #[error("cleaning was broken off")]
    Broken(#[from] tokio::task::JoinError),
}

/// The version that the runner program says it has. Only its standard output counts: what it warns
/// of is no version.
pub(crate) async fn version(host: &Machinery) -> Result<String, RunnerError> {
    let mut command = host.runner_command(&host.account()?);
    command
        .arg("--version")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let what = "the runner program's --version";
    let failed = |source| RunnerError::Version { what, source };
    let child = keyring::spawn(&mut command).map_err(failed)?;
    let _own = Own::child(child.id());
    let output = tokio::time::timeout(LOCAL_WITHIN, child.wait_with_output())
        .await
        .map_err(|_| RunnerError::VersionOverdue)?
        .map_err(failed)?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    match out.lines().map(str::trim).find(|line| is_version(line)) {
        Some(version) if output.status.success() => Ok(version.to_owned()),
        Some(_) | None => Err(RunnerError::NoVersion { out, err }),
    }
}

/// The name that the runner is configured with, if it can be read.
pub(crate) fn configured_name(host: &Machinery) -> Option<String> {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Settings {
        agent_name: String,
    }
    let bytes = files::read_own(&host.runner_dir.join(".runner")).ok()??;
    // .NET begins its files with a byte order mark.
    let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
    Some(serde_json::from_slice::<Settings>(text).ok()?.agent_name)
}

fn is_version(text: &str) -> bool {
    let number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    text.split('.').count() == 3 && text.split('.').all(number)
}

/// Kills whatever jobs left behind: it runs under the runner's user and could read the
/// environment, and the token in it, of what is started next. What it wanted done later goes first,
/// for that would bring it back. An idle listener is spared.
pub(crate) async fn purge(
    host: &Machinery,
    listener: Option<ListenerId>,
) -> Result<(), RunnerError> {
    let host = host.clone();
    aside(move || {
        let account = host.account()?;
        let belongings = host.belongings(&account);
        if listener.is_some_and(|listener| belongings.works(listener)) {
            return Err(RunnerError::Works);
        }
        end(&account, &belongings, listener)?;
        if account.person().is_some() {
            manifest::disarm(&host)?;
        }
        Ok(())
    })
    .await
}

/// Ends what jobs do now and wanted done later; answers whether there was anything. Blocks.
pub(crate) fn end(
    account: &Account,
    belongings: &Belongings,
    spared: Option<ListenerId>,
) -> Result<bool, RunnerError> {
    let later = match account.person() {
        Some(person) => later::forget(person)?,
        None => false,
    };
    let now = belongings.kill_all(spared);
    Ok(now.map_err(RunnerError::Processes)? || later)
}

pub(crate) async fn configure(
    host: &Machinery,
    url: &str,
    tenant: &Tenant,
    token: &Secret,
    within: Duration,
) -> Result<(), RunnerError> {
    purge(host, None).await?;
    let place = host.clone();
    aside(move || forget(&place).map_err(RunnerError::File)).await?;
    let mut command = host.runner_command(&host.account()?);
    command
        .args(["configure", "--unattended", "--url", url])
        .args(["--name", &tenant.name])
        .args(["--labels", tenant.label.as_str(), "--no-default-labels"])
        .args(["--disableupdate", "--replace", "--work", "_work"])
        .args(host.jobs.ephemeral.then_some("--ephemeral"))
        .env(TOKEN, token.expose());
    run_to_end(
        "the runner's configure",
        command,
        &host.log("configure"),
        within,
    )
    .await?;
    registration::keep(host)?;
    Ok(())
}

/// Deregisters. GitHub refuses while the runner has a job, which makes this the one sure test.
pub(crate) async fn remove(
    host: &Machinery,
    token: &Secret,
    listener: Option<ListenerId>,
) -> Result<(), RunnerError> {
    purge(host, listener).await?;
    let account = host.account()?;
    let place = host.clone();
    let (mut command, _apart) = if account.person().is_some() {
        let apart = aside(move || Apart::make(&place).map_err(RunnerError::File)).await?;
        (host.marked(apart.command()), Some(apart))
    } else {
        registration::put_back(host, &host.runner_dir)?;
        (host.runner_command(&account), None)
    };
    command.arg("remove").env(TOKEN, token.expose());
    run_to_end(
        "the runner's remove",
        command,
        &host.log("remove"),
        REMOVE_WITHIN,
    )
    .await?;
    registration::drop(host)?;
    Ok(())
}

/// Makes the runner forget its registration, if it has one, without telling GitHub: these files are
/// all that `remove --local` deletes.
pub(crate) fn forget(host: &Machinery) -> Result<(), FileError> {
    CONFIGURATION
        .iter()
        .try_for_each(|file| files::remove(&host.runner_dir.join(file)))
}
