//! Everything that GitHub remembers, and the rules that tie it together.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::time::Instant;

use jiff::Timestamp;

use super::calls::{Call, Faults};
use super::jobs::{Job, Jobs, Status};
use super::runners::{Runner, RunnerView, Runners};
use super::wire::{Conclusion, JobId, JobMessage};
use super::{Settings, random_token};
use crate::yard::clock;

/// What a short-lived token is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TokenUse {
    Registration,
    Remove,
}

#[derive(Debug)]
struct Token {
    scope: String,
    expires: Instant,
    usage: TokenUse,
}

/// A workflow run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunView {
    /// Its number.
    pub id: u64,
    /// `owner/repo`.
    pub repository: String,
    /// Where it stands.
    pub status: Status,
    /// How it ended, once completed.
    pub conclusion: Option<Conclusion>,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) settings: Settings,
    pub(super) runners: Runners,
    pub(super) jobs: Jobs,
    pub(super) runs: BTreeMap<u64, RunView>,
    pub(super) calls: Vec<Call>,
    pub(super) faults: Faults,
    /// Files of releases, by the path of their address.
    pub(super) assets: BTreeMap<String, PathBuf>,
    tokens: HashMap<String, Token>,
    /// Tokens of the app's installation, and when they end.
    installation_tokens: HashMap<String, Instant>,
    /// Number of online runners at the last sweep.
    online: usize,
}

/// What a long poll finds.
#[derive(Debug)]
pub(super) enum Polled {
    Job(JobMessage),
    Nothing,
    /// The runner or its session is gone.
    Gone,
}

impl State {
    pub(super) fn new(settings: Settings) -> Self {
        Self {
            settings,
            runners: Runners::default(),
            jobs: Jobs::default(),
            runs: BTreeMap::new(),
            calls: Vec::new(),
            faults: Faults::default(),
            assets: BTreeMap::new(),
            tokens: HashMap::new(),
            installation_tokens: HashMap::new(),
            online: 0,
        }
    }

    /// Whether the accepted token reaches `owner/repo` or the organisation `owner`.
    pub(super) fn knows(&self, scope: &str) -> bool {
        self.settings.repositories.iter().any(|repository| {
            repository.eq_ignore_ascii_case(scope)
                || repository
                    .split_once('/')
                    .is_some_and(|(owner, _)| owner.eq_ignore_ascii_case(scope))
        })
    }

    /// Whether the REST API answers whoever has this token.
    pub(super) fn admits(&self, token: &str, now: Instant) -> bool {
        let installed = self.installation_tokens.get(token);
        token == self.settings.token || installed.is_some_and(|ends| *ends > now)
    }

    pub(super) fn issue_installation_token(&mut self, now: Instant) -> (String, Timestamp) {
        let life = self.settings.token_life;
        let token = format!("ghs_{}", random_token());
        self.installation_tokens.insert(token.clone(), now + life);
        (token, clock::now() + life)
    }

    pub(super) fn issue_token(&mut self, scope: &str, usage: TokenUse) -> (String, Timestamp) {
        let life = self.settings.token_life;
        let token = random_token();
        self.tokens.insert(
            token.clone(),
            Token {
                scope: scope.to_owned(),
                expires: Instant::now() + life,
                usage,
            },
        );
        (token, clock::now() + life)
    }

    /// A registration token also removes, as at the real GitHub.
    fn accepts(&self, token: &str, scope: &str, usage: TokenUse) -> bool {
        self.tokens.get(token).is_some_and(|known| {
            known.scope.eq_ignore_ascii_case(scope)
                && known.expires > Instant::now()
                && (known.usage == usage || known.usage == TokenUse::Registration)
        })
    }

    pub(super) fn may_register(&self, token: &str, scope: &str) -> bool {
        self.accepts(token, scope, TokenUse::Registration)
    }

    pub(super) fn may_remove(&self, token: &str, scope: &str) -> bool {
        self.accepts(token, scope, TokenUse::Remove)
    }

    pub(super) fn expire_tokens(&mut self) {
        self.tokens.clear();
    }

    pub(super) fn enqueue(&mut self, job: Job) -> JobId {
        let repository = match self.runs.get(&job.run_id) {
            Some(run) => run.repository.clone(),
            None => self.default_repository(),
        };
        self.jobs.enqueue(job, repository)
    }

    pub(super) fn default_repository(&self) -> String {
        self.settings
            .repositories
            .first()
            .cloned()
            .unwrap_or_default()
    }

    /// The job for the runner of this session, if one waits and the runner is idle.
    pub(super) fn poll(&mut self, session: &str, now: Instant) -> Polled {
        let Some(runner) = self.runners.seen(session, now) else {
            return Polled::Gone;
        };
        if runner.job.is_some() {
            return Polled::Nothing;
        }
        let job = self
            .jobs
            .assign(runner.id, &runner.name, now, |repository, labels| {
                Runner::suits(&runner.scope, &runner.labels, repository, labels)
            });
        match job {
            Some(message) => {
                runner.job = Some(message.job_id);
                Polled::Job(message)
            }
            None => Polled::Nothing,
        }
    }

    pub(super) fn acquire(&mut self, session: &str, job: JobId, now: Instant) -> bool {
        match self.runners.seen(session, now) {
            Some(runner) => self.jobs.acquire(job, runner.id, now),
            None => false,
        }
    }

    pub(super) fn progress(
        &mut self,
        session: &str,
        job: JobId,
        log: &str,
        now: Instant,
    ) -> Option<bool> {
        let runner = self.runners.seen(session, now)?;
        self.jobs.progress(job, runner.id, log, now)
    }

    pub(super) fn finish(
        &mut self,
        session: &str,
        job: JobId,
        conclusion: Conclusion,
        log: &str,
        now: Instant,
    ) -> bool {
        let Some(runner) = self.runners.seen(session, now) else {
            return false;
        };
        if !self.jobs.finish(job, runner.id, conclusion, log) {
            return false;
        }
        let (id, ephemeral) = (runner.id, runner.ephemeral);
        self.part((id, job));
        if ephemeral {
            // Just freed, so it can only be gone already.
            let _ = self.runners.delete(id);
        }
        true
    }

    /// What time alone brings about. Answers whether anything changed.
    pub(super) fn sweep(&mut self, now: Instant) -> bool {
        let parted = self
            .jobs
            .sweep(now, self.settings.pickup, self.settings.silence);
        for pair in &parted {
            self.part(*pair);
        }
        let online = self.runner_views(now).iter().filter(|r| r.online).count();
        let before = std::mem::replace(&mut self.online, online);
        !parted.is_empty() || online != before
    }

    fn part(&mut self, (runner, job): (u64, JobId)) {
        if let Some(runner) = self.runners.get_mut(runner)
            && runner.job == Some(job)
        {
            runner.job = None;
        }
    }

    pub(super) fn runner_views(&self, now: Instant) -> Vec<RunnerView> {
        let offline_after = self.settings.offline_after;
        self.runners
            .iter()
            .map(|runner| runner.view(now, offline_after))
            .collect()
    }
}
