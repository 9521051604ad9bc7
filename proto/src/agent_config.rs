//! What the launch template's user data tells the agent.

use serde::{Deserialize, Serialize};

use crate::ids::PoolName;

/// The agent's configuration: JSON inside the user data. All times are in seconds.
///
/// An unknown field is refused: a setting that nobody reads would be a silent surprise.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AgentConfig {
    /// The version of this form: 1.
    pub v: u8,
    /// The pool.
    pub pool: PoolName,
    /// The pool's table.
    pub table: String,
    /// The table's region.
    pub region: String,
    /// Where runners register: `https://github.com/owner/repo` or `https://github.com/owner`.
    pub github_url: String,
    /// The operator's script, run once as root before the machine is ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pre_runner_script: Option<String>,
    /// The runner program that must be there; none: whatever the image carries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runner: Option<RunnerRelease>,
    /// Whether jobs need Docker: a machine on which it does not answer is not handed out.
    #[serde(default, skip_serializing_if = "is_false")]
    pub docker: bool,
    /// Whether jobs may use the role of the machine's instance profile.
    #[serde(default, skip_serializing_if = "is_false")]
    pub jobs_may_use_instance_role: bool,
    /// The rules for jobs.
    #[serde(default, skip_serializing_if = "JobRules::are_usual")]
    pub jobs: JobRules,
    /// Times.
    #[serde(default, skip_serializing_if = "Times::are_usual")]
    pub times: Times,
}

/// The rules for jobs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct JobRules {
    /// Whether jobs may become root by `sudo`, as on GitHub's own machines.
    pub runner_sudo: bool,
    /// Whether a registration is good for one job; the runner is registered again after it.
    pub ephemeral: bool,
    /// The operator's script that the runner runs before each job, as the job's user; if it fails,
    /// so does the job.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pre_job_script: Option<String>,
    /// The operator's script that is run as root after each cleaning; if it fails, the machine is
    /// not handed out again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub post_release_script: Option<String>,
}

impl Default for JobRules {
    fn default() -> Self {
        Self {
            runner_sudo: true,
            ephemeral: false,
            pre_job_script: None,
            post_release_script: None,
        }
    }
}

impl JobRules {
    fn are_usual(&self) -> bool {
        *self == Self::default()
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_false(flag: &bool) -> bool {
    !flag
}

/// A release of the official runner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RunnerRelease {
    /// Such as `2.336.0`.
    pub version: String,
    /// Its archives, for an image that does not carry it.
    pub downloads: Downloads,
}

/// One program for each architecture that machines have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Downloads {
    /// For 64-bit x86.
    pub x86_64: Download,
    /// For 64-bit ARM.
    pub aarch64: Download,
}

impl Downloads {
    /// The download for an architecture, by its name in `uname -m` and in
    /// [`std::env::consts::ARCH`].
    pub fn of(&self, arch: &str) -> Option<&Download> {
        match arch {
            "x86_64" => Some(&self.x86_64),
            "aarch64" => Some(&self.aarch64),
            _ => None,
        }
    }
}

/// A file to fetch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Download {
    /// Where it is.
    pub url: String,
    /// Its SHA-256, hexadecimal.
    pub sha256: String,
}

/// The agent's times, in seconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Times {
    /// Between two beats.
    pub heartbeat: f64,
    /// Between two looks at the own record while no job runs: a claim is noticed after half of
    /// it on average, and a look costs a read unit.
    pub look: f64,
    /// How long the pre-runner script may take.
    pub script: f64,
    /// How long after its threshold a machine ends itself; refresh goes first.
    pub grace: f64,
    /// How long to wait for a record: nobody wants this machine.
    pub unclaimed: f64,
    /// How long the table may be out of reach.
    pub contact: f64,
    /// How long one try to register may take.
    pub registration: f64,
    /// How long the post-release script may take: a release waits for it.
    pub post_release: f64,
    /// How long a job may be without a worker, or a worker without a job, before it is reported.
    pub worker: f64,
}

impl Times {
    fn are_usual(&self) -> bool {
        *self == Self::default()
    }
}

impl Default for Times {
    fn default() -> Self {
        Self {
            heartbeat: 5.0,
            look: 0.3,
            script: 120.0,
            grace: 60.0,
            unclaimed: 600.0,
            contact: 900.0,
            registration: 60.0,
            post_release: 60.0,
            worker: 120.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_defaults_and_unknown_fields_are_refused() {
        let text = r#"{"v":1,"pool":"p","table":"t","region":"r","githubUrl":"u"}"#;
        let config: AgentConfig = serde_json::from_str(text).unwrap();
        assert_eq!(config.times, Times::default());
        let odd = text.replace("\"v\":1", "\"v\":1,\"hartbeat\":3");
        let error = serde_json::from_str::<AgentConfig>(&odd).unwrap_err();
        assert!(error.to_string().contains("hartbeat"), "{error}");
    }
}
