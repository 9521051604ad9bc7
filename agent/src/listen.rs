//! The listener: its start, its words, its end.

use std::{
    io,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use nix::{
    fcntl::{FallocateFlags, fallocate},
    sys::{
        prctl,
        signal::{Signal, kill, killpg},
    },
    unistd::Pid,
};
use tokio::{process::Child, sync::mpsc::UnboundedSender};

use crate::{
    command::tail,
    fence,
    files::{aside, private},
    hooks,
    host::Machinery,
    keyring,
    listener::Follow,
    machine::{Ending, Event, ListenerId, Said},
    ports::chain,
    process::{self, Own},
    runner::{self, RunnerError},
};

/// An idle listener ends within a second of SIGINT; the runner's own service gives it this.
const STOP_WITHIN: Duration = Duration::from_secs(30);
/// How often a stopping listener is looked at.
const STOP_LOOK: Duration = Duration::from_millis(20);
/// The listener ends with one of these to be replaced; the other after one job.
const UPDATING: [i32; 2] = [3, 4];
/// The runner's own scripts wait as long for it.
const UPDATE_WITHIN: Duration = Duration::from_secs(31);
/// How often the output is read until the listener listens: a run waits for it.
const EAGER: Duration = Duration::from_millis(20);
/// And from then on: what it says then nobody waits for.
const CALM: Duration = Duration::from_millis(250);
/// Bytes that a listener's words have room for, whatever jobs do to the disk: a hundred jobs'.
const WORDS: i64 = 16 * 1024;
/// Where the runner is told of a script that it runs before each job.
const BEFORE_JOB: &str = "ACTIONS_RUNNER_HOOK_JOB_STARTED";
/// Else the listener of a version that GitHub no longer takes ends as any other does.
const DEPRECATED: &str = "ACTIONS_RUNNER_RETURN_VERSION_DEPRECATED_EXIT_CODE";

/// Starts the listener and follows it to its end.
///
/// It has its own process group and its output in a file: the agent's end is not its end.
pub(crate) async fn listen(host: &Machinery, run: u64, events: &UnboundedSender<Event>) {
    let log = host.log("listener");
    let ready = async {
        // The machine may have booted anew since the runner was registered.
        fence::close(host).await.map_err(|error| chain(&error))?;
        runner::purge(host, None)
            .await
            .map_err(|error| chain(&error))
    };
    let started = ready.await.and_then(|()| start(host, &log));
    let mut child = match started {
        Ok(child) => child,
        Err(cause) => {
            return tell(events, Event::ListenerEnded(run, Ending::NotStarted, cause));
        }
    };
    let own = Own::child(child.id());
    if let Some(pid) = own.pid() {
        process::mortal(pid);
    }
    if let Some(id) = own.pid().and_then(process::identity) {
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
    if code.is_some_and(|code| UPDATING.contains(&code)) {
        await_update(host).await;
    }
    let how = code.map_or(Ending::Unknown, Ending::Code);
    tell(events, Event::ListenerEnded(run, how, tail(&log)));
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
    if let Err(error) = prctl::set_child_subreaper(true) {
        tracing::warn!("what this runner's job leaves behind is harder to find: {error}");
    }
    let log = host.log("listener");
    let mut follow = Following::new(&log, offset, run, events);
    while process::is_alive(listener) {
        follow.news();
        tokio::time::sleep(follow.pause()).await;
    }
    follow.news();
    tell(
        events,
        Event::ListenerEnded(run, Ending::Unknown, tail(&log)),
    );
}

/// An update, which is switched off but may be forced, goes on without the listener.
async fn await_update(host: &Machinery) {
    tracing::info!("the runner updates itself");
    let finished = host.runner_dir.join("update.finished");
    let look = async {
        while !finished.exists() {
            tokio::time::sleep(STOP_LOOK).await;
        }
        crate::files::remove(&finished)
    };
    match tokio::time::timeout(UPDATE_WITHIN, look).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!("{}", chain(&error)),
        Err(_) => tracing::warn!("the runner's update does not come to an end"),
    }
}

fn start(host: &Machinery, log: &Path) -> Result<Child, String> {
    let account = host.account().map_err(|error| error.to_string())?;
    let before = hooks::place_pre_job(host).map_err(|error| chain(&error))?;
    let open = || -> io::Result<_> {
        // From here on daemons of jobs come back to this process. Not earlier: what the
        // operator's script starts for good belongs to the machine.
        prctl::set_child_subreaper(true)?;
        let file = private(log)?;
        // A runner that cannot say what it does on a full disk might end, and its job with it.
        // Where the file system cannot promise room, it goes without.
        let _ = fallocate(&file, FallocateFlags::FALLOC_FL_KEEP_SIZE, 0, WORDS);
        Ok((file.try_clone()?, file))
    };
    let (out, err) = open().map_err(|error| format!("{}: {error}", log.display()))?;
    let mut command = host.caged_runner_command(&account);
    command
        .arg("run")
        .env(DEPRECATED, "1")
        .envs(before.map(|script| (BEFORE_JOB, script)))
        .stdin(Stdio::null())
        .stdout(out)
        .stderr(err)
        .process_group(0);
    keyring::spawn(&mut command)
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

/// One at a time: a second one would take a listener that the first has just stopped for one whose job
/// is over.
static DISMISSING: Mutex<()> = Mutex::new(());

/// Keeps a listener from its next job, and ends it once it has none.
///
/// SIGINT would cancel its job, and between two jobs may meet one that only the listener knows of. So
/// one that has a worker is stopped, as SIGSTOP stops it: the worker runs on, and tells GitHub the
/// result itself. In Runner.Listener's `JobDispatcher.cs` a listener that has given its worker the job
/// only renews GitHub's lock on it, which holds for ten minutes.
pub(crate) async fn dismiss(host: &Machinery, listener: ListenerId) -> Result<(), RunnerError> {
    let host = host.clone();
    aside(move || {
        let _turn = DISMISSING.lock().unwrap_or_else(PoisonError::into_inner);
        let account = host.account()?;
        let works = || host.belongings(&account).works(listener);
        if process::is_stopped(listener) {
            if !works() {
                tracing::info!("the last job is over: ending the listener");
                signal(listener, Signal::SIGKILL);
            }
            return Ok(());
        }
        signal(listener, Signal::SIGSTOP);
        if works() {
            tracing::info!("the listener takes no job any more; the one that runs goes on");
            return Ok(());
        }
        // It says so before it starts the worker.
        if !said_to_work(&host) {
            tracing::info!("stopping the idle listener");
            signal(listener, Signal::SIGINT);
        }
        signal(listener, Signal::SIGCONT);
        Ok(())
    })
    .await
}

fn said_to_work(host: &Machinery) -> bool {
    let said = Follow::open(&host.log("listener"), 0).and_then(|mut said| said.news());
    // Unreadable: the worker's process was looked for.
    said.is_ok_and(|said| matches!(said.last(), Some((Said::JobStarted(_), _))))
}

/// Fails when it just ended, which is what is wanted.
fn signal(listener: ListenerId, signal: Signal) {
    if process::is_alive(listener) {
        let _ = kill(Pid::from_raw(listener.pid), signal);
    }
}

/// Stops an idle listener: asks, waits, and then does not ask.
pub(crate) async fn stop(listener: ListenerId) {
    signal(listener, Signal::SIGINT);
    let gone = async {
        while process::is_alive(listener) {
            tokio::time::sleep(STOP_LOOK).await;
        }
    };
    if tokio::time::timeout(STOP_WITHIN, gone).await.is_err() {
        tracing::warn!("the listener does not stop: killing it");
        let _ = killpg(Pid::from_raw(listener.pid), Signal::SIGKILL);
    }
}
