//! Driving the official runner: `configure`, `run`, `remove`, and the end of a listener.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill, killpg},
    unistd::Pid,
};
use proto::instance::Secret;
use tokio::{process::Child, sync::mpsc::UnboundedSender};

use crate::{
    account::NoAccount,
    command::{CommandError, run_to_end, tail},
    host::Machinery,
    listener::Follow,
    machine::{Event, ListenerId, Said, Tenant},
    process,
};

/// The runner removes such variables from its environment once read, so no job sees a token.
const TOKEN: &str = "ACTIONS_RUNNER_INPUT_TOKEN";
/// How long deregistering may take.
const REMOVE_WITHIN: Duration = Duration::from_mins(1);
/// How long local steps of the runner may take: a start of .NET and little else.
const LOCAL_WITHIN: Duration = Duration::from_secs(30);
/// An idle listener ends within a second of SIGINT; the runner's own service gives it this.
const STOP_WITHIN: Duration = Duration::from_secs(30);
/// How often a stopping listener is looked at.
const STOP_LOOK: Duration = Duration::from_millis(20);
/// How often the output is read until the listener listens: a run waits for it.
const EAGER: Duration = Duration::from_millis(20);
/// And from then on.
const CALM: Duration = Duration::from_millis(100);

/// What `configure` writes. `remove --local` leaves the migrated ones.
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
}

/// The version that the runner program says it has.
pub(crate) async fn version(host: &Machinery) -> Result<String, RunnerError> {
    let mut command = host.runner_command(&host.account()?);
    command.arg("--version");
    let what = "the runner program's --version";
    let output = run_to_end(what, command, &host.log("version"), LOCAL_WITHIN).await?;
    Ok(output.lines().last().unwrap_or_default().trim().to_owned())
}

pub(crate) async fn configure(
    host: &Machinery,
    url: &str,
    tenant: &Tenant,
    token: &Secret,
    within: Duration,
) -> Result<(), RunnerError> {
    forget(host).await?;
    let mut command = host.runner_command(&host.account()?);
    command
        .args(["configure", "--unattended", "--url", url])
        .args(["--name", &tenant.name])
        .args(["--labels", tenant.label.as_str(), "--no-default-labels"])
        .args(["--disableupdate", "--replace", "--work", "_work"])
        .env(TOKEN, token.expose());
    run_to_end(
        "the runner's configure",
        command,
        &host.log("configure"),
        within,
    )
    .await?;
    Ok(())
}

/// Deregisters. GitHub refuses while the runner has a job, which makes this the one sure test.
pub(crate) async fn remove(host: &Machinery, token: &Secret) -> Result<(), RunnerError> {
    let mut command = host.runner_command(&host.account()?);
    command.arg("remove").env(TOKEN, token.expose());
    run_to_end(
        "the runner's remove",
        command,
        &host.log("remove"),
        REMOVE_WITHIN,
    )
    .await?;
    Ok(())
}

/// Makes the runner forget its registration, if it has one, without telling GitHub.
pub(crate) async fn forget(host: &Machinery) -> Result<(), RunnerError> {
    if CONFIGURATION
        .iter()
        .any(|file| host.runner_dir.join(file).exists())
    {
        let mut command = host.runner_command(&host.account()?);
        command.args(["remove", "--local"]);
        let what = "the runner's remove --local";
        run_to_end(what, command, &host.log("forget"), LOCAL_WITHIN).await?;
    }
    Ok(())
}

/// Starts the listener and follows it to its end.
///
/// It has its own process group and its output in a file: the agent's end is not its end.
pub(crate) async fn listen(host: &Machinery, run: u64, events: &UnboundedSender<Event>) {
    let log = host.log("listener");
    let mut child = match start(host, &log) {
        Ok(child) => child,
        Err(cause) => {
            let text = format!("the listener cannot be started: {cause}");
            return tell(events, Event::ListenerEnded(run, Some(-1), text));
        }
    };
    let pid = child.id().and_then(|id| i32::try_from(id).ok());
    if let Some(id) = pid.and_then(process::identity) {
        tell(events, Event::ListenerStarted(run, id));
    }
    let mut follow = Following::new(&log, 0, run, events);
    let status = loop {
        tokio::select! {
            // Cancel-safe: an exit status that was not taken stays.
            status = child.wait() => break status,
            // Cancel-safe: only time passes.
            () = tokio::time::sleep(follow.pause()) => follow.news(),
        }
    };
    follow.news();
    let code = status.ok().and_then(|status| status.code());
    tell(events, Event::ListenerEnded(run, code, tail(&log)));
}

/// Follows a listener that an earlier agent started. Its exit code is not to be had.
pub(crate) async fn adopt(
    host: &Machinery,
    run: u64,
    listener: ListenerId,
    offset: u64,
    events: &UnboundedSender<Event>,
) {
    tracing::info!(pid = listener.pid, "the runner of an earlier agent goes on");
    let log = host.log("listener");
    let mut follow = Following::new(&log, offset, run, events);
    while process::is_alive(listener) {
        follow.news();
        tokio::time::sleep(follow.pause()).await;
    }
    follow.news();
    tell(events, Event::ListenerEnded(run, None, tail(&log)));
}

fn start(host: &Machinery, log: &Path) -> Result<Child, String> {
    let account = host.account().map_err(|error| error.to_string())?;
    let open = || -> io::Result<(File, File)> {
        let file = File::create(log)?;
        Ok((file.try_clone()?, file))
    };
    let (out, err) = open().map_err(|error| format!("{}: {error}", log.display()))?;
    host.runner_command(&account)
        .arg("run")
        .stdin(Stdio::null())
        .stdout(out)
        .stderr(err)
        .process_group(0)
        .spawn()
        .map_err(|error| format!("{}: {error}", host.listener_program().display()))
}

/// Tells news of the listener's output.
struct Following<'a> {
    path: PathBuf,
    offset: u64,
    file: Option<Follow>,
    run: u64,
    events: &'a UnboundedSender<Event>,
    calm: bool,
}

impl<'a> Following<'a> {
    fn new(path: &Path, offset: u64, run: u64, events: &'a UnboundedSender<Event>) -> Self {
        Self {
            path: path.to_owned(),
            offset,
            file: None,
            run,
            events,
            calm: offset > 0,
        }
    }

    fn pause(&self) -> Duration {
        if self.calm { CALM } else { EAGER }
    }

    fn news(&mut self) {
        match self.read() {
            Ok(news) => {
                for (said, offset) in news {
                    self.calm |= said == Said::Listening;
                    tell(self.events, Event::ListenerSaid(self.run, said, offset));
                }
            }
            Err(error) => {
                tracing::warn!("cannot read {}: {error}", self.path.display());
                self.file = None;
            }
        }
    }

    fn read(&mut self) -> io::Result<Vec<(Said, u64)>> {
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(Follow::open(&self.path, self.offset)?),
        };
        let news = file.news()?;
        if let Some((_, offset)) = news.last() {
            self.offset = *offset;
        }
        Ok(news)
    }
}

fn tell(events: &UnboundedSender<Event>, event: Event) {
    // The loop is over when nobody hears it.
    let _ = events.send(event);
}

/// Stops an idle listener: asks, waits, and then does not ask.
pub(crate) async fn stop(listener: ListenerId) {
    let pid = Pid::from_raw(listener.pid);
    if !process::is_alive(listener) {
        return;
    }
    // Signals fail when it just ended, which is what is wanted.
    let _ = kill(pid, Signal::SIGINT);
    let gone = async {
        while process::is_alive(listener) {
            tokio::time::sleep(STOP_LOOK).await;
        }
    };
    if tokio::time::timeout(STOP_WITHIN, gone).await.is_err() {
        tracing::warn!("the listener does not stop: killing it");
        let _ = killpg(pid, Signal::SIGKILL);
    }
}
