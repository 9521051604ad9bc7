//! The registry of self-hosted runners and their sessions.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::random_token;
use super::wire::{JobId, Register, Registered};

/// A runner as a test sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunnerView {
    /// Its number.
    pub id: u64,
    /// `owner/repo` or `owner`.
    pub scope: String,
    /// Its name.
    pub name: String,
    /// All its labels.
    pub labels: Vec<String>,
    /// A listener is there.
    pub online: bool,
    /// It has a job.
    pub busy: bool,
    /// It will be forgotten after one job.
    pub ephemeral: bool,
}

#[derive(Debug)]
pub(super) struct Runner {
    pub(super) id: u64,
    pub(super) scope: String,
    pub(super) name: String,
    pub(super) labels: Vec<String>,
    pub(super) ephemeral: bool,
    pub(super) job: Option<JobId>,
    credential: String,
    session: Option<Session>,
}

#[derive(Debug)]
struct Session {
    id: String,
    open_polls: u32,
    seen: Instant,
}

/// Why a request about a runner was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// No such runner, or no longer.
    Unknown,
    /// It has a job; carries its name.
    Busy(String),
    /// The name or the session is taken.
    Taken,
}

#[derive(Debug, Default)]
pub(super) struct Runners {
    last_id: u64,
    records: BTreeMap<u64, Runner>,
}

impl Runner {
    /// Whether jobs of `repository` that want `labels` may run here.
    pub(super) fn suits(scope: &str, own: &[String], repository: &str, labels: &[String]) -> bool {
        let in_scope = scope.eq_ignore_ascii_case(repository)
            || repository
                .split_once('/')
                .is_some_and(|(owner, _)| owner.eq_ignore_ascii_case(scope));
        in_scope
            && labels
                .iter()
                .all(|wanted| own.iter().any(|label| label.eq_ignore_ascii_case(wanted)))
    }

    fn online(&self, now: Instant, offline_after: Duration) -> bool {
        self.session
            .as_ref()
            .is_some_and(|s| s.open_polls > 0 || now.duration_since(s.seen) <= offline_after)
    }

    pub(super) fn view(&self, now: Instant, offline_after: Duration) -> RunnerView {
        RunnerView {
            id: self.id,
            scope: self.scope.clone(),
            name: self.name.clone(),
            labels: self.labels.clone(),
            online: self.online(now, offline_after),
            busy: self.job.is_some(),
            ephemeral: self.ephemeral,
        }
    }
}

impl Runners {
    pub(super) fn register(&mut self, request: Register) -> Result<Registered, Refused> {
        let namesake = self
            .records
            .values()
            .find(|r| r.scope == request.scope && r.name == request.name);
        if let Some(other) = namesake {
            if !request.replace {
                return Err(Refused::Taken);
            }
            let id = other.id;
            self.delete(id)?;
        }
        self.last_id += 1;
        let id = self.last_id;
        let credential = random_token();
        self.records.insert(
            id,
            Runner {
                id,
                scope: request.scope,
                name: request.name,
                labels: request.labels,
                ephemeral: request.ephemeral,
                job: None,
                credential: credential.clone(),
                session: None,
            },
        );
        Ok(Registered {
            runner_id: id,
            credential,
        })
    }

    pub(super) fn get_mut(&mut self, id: u64) -> Option<&mut Runner> {
        self.records.get_mut(&id)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Runner> {
        self.records.values()
    }

    /// The one atomic test of idleness: a runner with a job stays.
    pub(super) fn delete(&mut self, id: u64) -> Result<(), Refused> {
        let runner = self.records.get(&id).ok_or(Refused::Unknown)?;
        if runner.job.is_some() {
            return Err(Refused::Busy(runner.name.clone()));
        }
        self.records.remove(&id);
        Ok(())
    }

    pub(super) fn open_session(
        &mut self,
        id: u64,
        credential: &str,
        now: Instant,
        offline_after: Duration,
    ) -> Result<String, Refused> {
        let runner = self
            .records
            .get_mut(&id)
            .filter(|r| r.credential == credential)
            .ok_or(Refused::Unknown)?;
        if runner.online(now, offline_after) {
            return Err(Refused::Taken);
        }
        let session = Session {
            id: random_token(),
            open_polls: 0,
            seen: now,
        };
        let session_id = session.id.clone();
        runner.session = Some(session);
        Ok(session_id)
    }

    pub(super) fn close_session(&mut self, session: &str) {
        if let Some(runner) = self.with_session(session) {
            runner.session = None;
        }
    }

    /// The runner behind a session, which thereby was seen alive.
    pub(super) fn seen(&mut self, session: &str, now: Instant) -> Option<&mut Runner> {
        let runner = self.with_session(session)?;
        runner.session.as_mut()?.seen = now;
        Some(runner)
    }

    /// A long poll began (`+1`) or ended (`-1`).
    pub(super) fn polling(&mut self, session: &str, begins: bool, now: Instant) -> bool {
        let Some(session) = self
            .with_session(session)
            .and_then(|runner| runner.session.as_mut())
        else {
            return false;
        };
        session.seen = now;
        session.open_polls = if begins {
            session.open_polls + 1
        } else {
            session.open_polls.saturating_sub(1)
        };
        true
    }

    fn with_session(&mut self, session: &str) -> Option<&mut Runner> {
        self.records
            .values_mut()
            .find(|r| r.session.as_ref().is_some_and(|s| s.id == session))
    }
}
