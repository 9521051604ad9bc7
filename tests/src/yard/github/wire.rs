//! What the stand-in runner and the yard's GitHub say to each other.
//!
//! The real conversation is GitHub's own business; this one only keeps its
//! steps apart in the same places: register, open a session, poll, acquire,
//! report, finish, remove. All paths start with `/_runner`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The version that the stand-in runner claims to have.
pub const RUNNER_VERSION: &str = "2.336.0";

/// Number of a job at the yard's GitHub.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct JobId(pub u64);

impl std::fmt::Display for JobId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// How a job ended, in GitHub's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Conclusion {
    /// Every step exited with 0.
    Success,
    /// A step failed, or the runner was lost.
    Failure,
    /// Somebody cancelled it, at GitHub or by a signal to the runner.
    Cancelled,
}

/// `POST /_runner/register`: 201 [`Registered`]; 401 token, 404 scope, 409 name taken, 422 name busy.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Register {
    /// `owner/repo`, or `owner` for an organisation.
    pub scope: String,
    /// A registration token.
    pub token: String,
    /// The runner's name, unique within the scope.
    pub name: String,
    /// All labels, default ones included.
    pub labels: Vec<String>,
    /// Take the name over from a runner that has it.
    pub replace: bool,
    /// Forget the runner after one job.
    pub ephemeral: bool,
    /// The runner's version.
    pub version: String,
}

/// The answer to [`Register`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Registered {
    /// The runner's number.
    pub runner_id: u64,
    /// What opens sessions.
    pub credential: String,
}

/// `POST /_runner/remove`: 204; 401 token, 404 runner unknown, 422 it has a job.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Remove {
    /// As at the registration.
    pub scope: String,
    /// A remove token or a registration token.
    pub token: String,
    /// Who shall go.
    pub runner_id: u64,
}

/// `POST /_runner/sessions`: 201 [`SessionOpened`]; 404 registration deleted, 409 another session lives.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct OpenSession {
    /// Who asks.
    pub runner_id: u64,
    /// From [`Registered`].
    pub credential: String,
}

/// The answer to [`OpenSession`].
///
/// `GET /_runner/sessions/{id}/message` then answers 200 [`JobMessage`], 204
/// when the long poll ran out, or 404 when the runner was deleted;
/// `DELETE /_runner/sessions/{id}` ends the session.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SessionOpened {
    /// Goes into the paths and messages that follow.
    pub session_id: String,
}

/// A job on its way to the runner, and from the listener to its worker.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct JobMessage {
    /// Which job.
    pub job_id: JobId,
    /// The workflow run that it belongs to.
    pub run_id: u64,
    /// `owner/repo` of the workflow.
    pub repository: String,
    /// The job's name, as the listener prints it.
    pub name: String,
    /// Shell commands, run one after the other.
    pub steps: Vec<String>,
    /// Additional environment of every step.
    pub env: BTreeMap<String, String>,
}

/// `POST /_runner/jobs/{id}/acquire`: 204; 409 when the job was given back to the queue meanwhile.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Acquire {
    /// The session that received the job.
    pub session_id: String,
}

/// `POST /_runner/jobs/{id}/progress`: 200 [`ProgressAnswer`]; 409 when the job is no longer this runner's.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Progress {
    /// The session that runs the job.
    pub session_id: String,
    /// What was printed since the last report.
    pub log: String,
}

/// The answer to [`Progress`].
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct ProgressAnswer {
    /// Somebody wants the job cancelled.
    pub cancel: bool,
}

/// `POST /_runner/jobs/{id}/finish`: 204; 409 when the job is no longer this runner's.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Finish {
    /// The session that ran the job.
    pub session_id: String,
    /// How it ended.
    pub conclusion: Conclusion,
    /// What was printed since the last report.
    pub log: String,
}

/// The body of every refusal.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Refusal {
    /// For people.
    pub message: String,
}
