//! `run`: holds a session at GitHub and takes one job after the other.

use std::io;
use std::time::{Duration, Instant};

use reqwest::StatusCode;
use tests::yard::github::wire::{JobMessage, OpenSession, RUNNER_VERSION};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::configure::milliseconds;
use crate::exit::Exit;
use crate::home::{Home, Registration};
use crate::job;
use crate::server::{Failure, Server};
use crate::terminal::Terminal;

/// How long a session held by another listener is waited for. The official
/// runner waits four minutes; this only has to exceed the time after which the
/// yard takes a killed listener for gone.
const CONFLICT_PATIENCE: Duration = Duration::from_secs(20);

/// Pause between attempts to open a session or to poll.
const RETRY: Duration = Duration::from_millis(500);

/// Attempts to open a session against a server in trouble.
const ATTEMPTS: u32 = 4;

/// SIGINT and SIGTERM mean the same to the listener.
pub(crate) struct Stop {
    interrupt: Signal,
    terminate: Signal,
}

impl Stop {
    fn listen() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// Cancel-safe: a signal that was not delivered stays.
    pub(crate) async fn requested(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// What all jobs of a listener share.
pub(crate) struct Listener<'a> {
    pub(crate) home: &'a Home,
    pub(crate) terminal: &'a Terminal,
    pub(crate) registration: Registration,
    pub(crate) server: Server,
    pub(crate) session: String,
}

pub(crate) async fn run(home: &Home, terminal: &Terminal) -> io::Result<Exit> {
    let mut stop = Stop::listen()?;
    let Some(registration) = home.registration()? else {
        terminal.error("Not configured. Run config.(sh/cmd) to configure the runner.");
        return Ok(Exit::Terminated);
    };
    let server =
        Server::new(&registration.server_url).map_err(|f| io::Error::other(f.to_string()))?;
    let request = OpenSession {
        runner_id: registration.agent_id,
        credential: home.credential()?,
    };
    let opened = tokio::select! {
        opened = open_session(&server, terminal, &request) => opened,
        () = stop.requested() => Err(Exit::Success),
    };
    let session = match opened {
        Ok(session) => session,
        Err(exit) => return Ok(exit),
    };
    terminal.line("\n√ Connected to GitHub\n");
    terminal.line(&format!("Current runner version: '{RUNNER_VERSION}'"));
    let listener = Listener {
        home,
        terminal,
        registration,
        server,
        session,
    };
    terminal.event("Listening for Jobs");
    let exit = listener.serve(&mut stop).await?;
    // The server drops the session by itself when it cannot be told.
    let _ = listener.server.close_session(&listener.session).await;
    Ok(exit)
}

async fn open_session(
    server: &Server,
    terminal: &Terminal,
    request: &OpenSession,
) -> Result<String, Exit> {
    let patience = milliseconds("PADDOCK_YARD_CONFLICT_MS").unwrap_or(CONFLICT_PATIENCE);
    let give_up = Instant::now() + patience;
    let mut troubles = 0;
    loop {
        match server.open_session(request).await {
            Ok(opened) => return Ok(opened.session_id),
            Err(failure) if failure.is(StatusCode::CONFLICT) => {
                terminal.error("A session for this runner already exists.");
                if Instant::now() >= give_up {
                    terminal.error(
                        "Stop retry on SessionConflictException after retried for 240 seconds.",
                    );
                    return Err(Exit::SessionConflict);
                }
            }
            Err(Failure::Refused(..)) => {
                terminal.error(
                    "Failed to create a session. The runner registration has been deleted from \
                     the server, please re-configure. Runner registrations are automatically \
                     deleted for runners that have not connected to the service recently.",
                );
                return Err(Exit::Terminated);
            }
            Err(Failure::Trouble(message)) => {
                terminal.error(&format!(
                    "Runner connect error: {message}. Retrying until reconnected."
                ));
                troubles += 1;
                if troubles >= ATTEMPTS {
                    return Err(Exit::Retryable);
                }
            }
        }
        tokio::time::sleep(RETRY).await;
    }
}

impl Listener<'_> {
    async fn serve(&self, stop: &mut Stop) -> io::Result<Exit> {
        let mut connected = true;
        loop {
            let polled = tokio::select! {
                // Dropping a poll that carries a job loses nothing: an
                // unconfirmed job goes back to the queue.
                polled = self.server.poll(&self.session) => polled,
                () = stop.requested() => {
                    self.terminal.line("Exiting...");
                    return Ok(Exit::Success);
                }
            };
            match polled {
                Ok(message) => {
                    if !connected {
                        self.terminal.event("Runner reconnected.");
                        connected = true;
                    }
                    if let Some(exit) = self.take(message, stop).await? {
                        return Ok(exit);
                    }
                }
                Err(Failure::Refused(..)) => {
                    self.terminal.error(
                        "The runner registration has been deleted from the server. Shutting down.",
                    );
                    return Ok(Exit::Success);
                }
                Err(Failure::Trouble(message)) => {
                    if connected {
                        self.terminal.event(&format!(
                            "Runner connect error: {message}. Retrying until reconnected."
                        ));
                        connected = false;
                    }
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    /// Runs a job, if there is one; the listener ends with the answer, if there is one.
    async fn take(&self, message: Option<JobMessage>, stop: &mut Stop) -> io::Result<Option<Exit>> {
        let Some(message) = message else {
            return Ok(None);
        };
        if self
            .server
            .acquire(message.job_id, &self.session)
            .await
            .is_err()
        {
            // Too late: it is in the queue again.
            return Ok(None);
        }
        let stopped = job::run(self, &message, stop).await?;
        if self.registration.ephemeral {
            self.home.forget()?;
            return Ok(Some(Exit::Success));
        }
        if stopped {
            self.terminal.line("Exiting...");
            return Ok(Some(Exit::Success));
        }
        Ok(None)
    }
}
