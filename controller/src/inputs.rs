//! The inputs as they come: flags, or `INPUT_<NAME>` as GitHub passes an action's inputs.
//!
//! Everything is text here; [`crate::settings`] says what is allowed.

mod github;
mod help;
mod operate;

use std::ffi::OsString;

use clap::{Args, Command, CommandFactory, FromArgMatches, Parser, Subcommand};

pub use self::{
    github::GithubInputs,
    operate::{AgentStatusInputs, DestroyInputs, DoctorInputs, StatusInputs},
};

/// Warm EC2 runners for GitHub Actions, without a server to operate.
#[derive(Debug, Parser)]
#[command(name = "controller", version, max_term_width = 100, after_help = help::CONTROLLER)]
pub struct Inputs {
    /// What to do.
    #[command(subcommand)]
    pub mode: Mode,
}

/// The things that the controller does.
#[derive(Debug, Subcommand)]
pub enum Mode {
    /// Bring AWS and the table to the desired state; run it on a schedule.
    #[command(after_help = help::REFRESH)]
    Refresh(Box<RefreshInputs>),
    /// Get machines for this workflow run; its first step.
    #[command(after_help = help::PROVISION)]
    Provision(ProvisionInputs),
    /// Give this run's machines back; its last step, with `if: always()`.
    #[command(after_help = help::RELEASE)]
    Release(ReleaseInputs),
    /// Show what the agents on the pool's machines say of themselves.
    #[command(after_help = help::AGENT_STATUS)]
    AgentStatus(AgentStatusInputs),
    /// Show the pool as it is: its machines, and what they cost.
    #[command(after_help = help::STATUS)]
    Status(StatusInputs),
    /// Look for what keeps the pool from working, and say what to do.
    #[command(after_help = help::DOCTOR)]
    Doctor(Box<DoctorInputs>),
    /// Take down all that refresh made: machines, template, queues, runners, table.
    #[command(after_help = help::DESTROY)]
    Destroy(Box<DestroyInputs>),
}

/// What every mode takes.
#[derive(Debug, Default, Args)]
pub struct CommonInputs {
    /// The pool's region [default: that of the environment].
    #[arg(long, env = "INPUT_AWS-REGION")]
    pub aws_region: Option<String>,
    /// The pool's name [default: owner and name of the repository, or the organisation].
    #[arg(long, visible_alias = "pool", env = "INPUT_POOL-NAME")]
    pub pool_name: Option<String>,
    /// Whom the pool serves: repository, or organisation for all of its repositories
    /// [default: repository].
    #[arg(long, env = "INPUT_GITHUB-SCOPE")]
    pub github_scope: Option<String>,
    /// `owner/name`, as GitHub tells it.
    #[arg(long, env = "GITHUB_REPOSITORY", hide = true)]
    pub github_repository: Option<String>,
    /// The workflow run, as GitHub tells it.
    #[arg(long, env = "GITHUB_RUN_ID", hide = true)]
    pub github_run_id: Option<String>,
    /// Which attempt of the run, as GitHub tells it.
    #[arg(long, env = "GITHUB_RUN_ATTEMPT", hide = true)]
    pub github_run_attempt: Option<String>,
    /// The region, as AWS tools are told it.
    #[arg(long, env = "AWS_REGION", hide = true)]
    pub ambient_region: Option<String>,
    /// The region, as older AWS tools are told it.
    #[arg(long, env = "AWS_DEFAULT_REGION", hide = true)]
    pub ambient_default_region: Option<String>,
    /// The file that takes the step's outputs.
    #[arg(long, env = "GITHUB_OUTPUT", hide = true)]
    pub github_output: Option<String>,
    /// The file that takes the step's summary.
    #[arg(long, env = "GITHUB_STEP_SUMMARY", hide = true)]
    pub github_step_summary: Option<String>,
}

/// What refresh takes: the desired state.
#[derive(Debug, Default, Args)]
pub struct RefreshInputs {
    /// What every mode takes.
    #[command(flatten)]
    pub common: CommonInputs,
    /// Machine image of new machines: `ami-…`, or `ssm:` and the name of a parameter of Systems
    /// Manager that holds it (required).
    #[arg(long, env = "INPUT_AMI")]
    pub ami: Option<String>,
    /// How to reach GitHub.
    #[command(flatten)]
    pub github: GithubInputs,
    /// Name or ARN of the machines' instance profile (required).
    #[arg(long, env = "INPUT_IAM-INSTANCE-PROFILE")]
    pub iam_instance_profile: Option<String>,
    /// GiB of the machines' root volume, which is always encrypted [default: as the image has].
    #[arg(long, env = "INPUT_ROOT-VOLUME-SIZE-GIB")]
    pub root_volume_size_gib: Option<String>,
    /// Kind of the root volume: gp3, gp2 or standard [default: gp3].
    #[arg(long, env = "INPUT_ROOT-VOLUME-TYPE")]
    pub root_volume_type: Option<String>,
    /// Name of the key pair that may log in to the machines [default: none].
    #[arg(long, env = "INPUT_KEY-NAME")]
    pub key_name: Option<String>,
    /// Security groups of the machines, `sg-…`, separated by spaces or commas (required).
    #[arg(long, env = "INPUT_SECURITY-GROUP-IDS")]
    pub security_group_ids: Option<String>,
    /// Subnets to launch in, `subnet-…`, separated by spaces or commas (required).
    #[arg(long, env = "INPUT_SUBNET-IDS")]
    pub subnet_ids: Option<String>,
    /// Seconds that a machine may wait in the pool [default: 420].
    #[arg(long, env = "INPUT_IDLE-TIME-SEC")]
    pub idle_time_sec: Option<String>,
    /// Idle machines to have at least, a rule a line: class, usage and number, then perhaps days,
    /// hours and time zone: `large on-demand 2 mon-fri 08-18 Europe/Berlin`; of several that hold
    /// for one kind the last counts [default: none].
    #[arg(long, env = "INPUT_MIN-IDLE")]
    pub min_idle: Option<String>,
    /// Idle machines to have at most, in the same form [default: no limit].
    #[arg(long, env = "INPUT_MAX-IDLE")]
    pub max_idle: Option<String>,
    /// Jobs after which a machine is terminated rather than pooled [default: no limit].
    #[arg(long, env = "INPUT_MAX-JOBS")]
    pub max_jobs: Option<String>,
    /// Minutes after which a machine is terminated rather than pooled [default: no limit].
    #[arg(long, env = "INPUT_MAX-AGE-MIN")]
    pub max_age_min: Option<String>,
    /// Shell script that each machine runs once as root before it is ready.
    #[arg(long, env = "INPUT_PRE-RUNNER-SCRIPT")]
    pub pre_runner_script: Option<String>,
    /// Whether jobs may become root by sudo, as on GitHub's own machines [default: true].
    #[arg(long, env = "INPUT_RUNNER-SUDO")]
    pub runner_sudo: Option<String>,
    /// Whether a registration is good for one job, after which the runner is registered again
    /// [default: false].
    #[arg(long, env = "INPUT_EPHEMERAL")]
    pub ephemeral: Option<String>,
    /// Bash script that runs before each job, as its user; if it fails, so does the job.
    #[arg(long, env = "INPUT_PRE-JOB-SCRIPT")]
    pub pre_job_script: Option<String>,
    /// Shell script that runs as root after a machine was released and cleaned; if it fails, the
    /// machine is terminated.
    #[arg(long, env = "INPUT_POST-RELEASE-SCRIPT")]
    pub post_release_script: Option<String>,
    /// Whether jobs need Docker: a machine on which it does not answer is not handed out
    /// [default: false].
    #[arg(long, env = "INPUT_REQUIRES-DOCKER")]
    pub requires_docker: Option<String>,
    /// Whether jobs may use the role of the machines' instance profile [default: false].
    #[arg(long, env = "INPUT_JOBS-MAY-USE-INSTANCE-ROLE")]
    pub jobs_may_use_instance_role: Option<String>,
    /// Sizes as JSON: {"large": {"cpu": 2, "mmem": 4096}, …} [default: large to 16xlarge].
    #[arg(long, env = "INPUT_RESOURCE-CLASS-CONFIG")]
    pub resource_class_config: Option<String>,
    /// Version of the official runner that machines must have, or `latest`; an image that has
    /// another one fetches it [default: what the image carries].
    #[arg(long, env = "INPUT_ACTIONS-RUNNER-VERSION")]
    pub actions_runner_version: Option<String>,
    /// Minutes that a run may keep its machines [default: 30].
    #[arg(long, env = "INPUT_MAX-RUNTIME-MIN")]
    pub max_runtime_min: Option<String>,
    /// Whether refresh and provision publish metrics to CloudWatch, namespace Paddock
    /// [default: false].
    #[arg(long, env = "INPUT_METRICS")]
    pub metrics: Option<String>,
    /// Where an image without the agent fetches it; `{arch}` stands for its architecture.
    #[arg(long, env = "INPUT_AGENT-URL")]
    pub agent_url: Option<String>,
    /// SHA-256 of that file for 64-bit x86, then for arm64.
    #[arg(long, env = "INPUT_AGENT-SHA256")]
    pub agent_sha256: Option<String>,
    /// Print what would be done, and do nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Print one JSON object on stdout, and the log on stderr.
    #[arg(long)]
    pub json: bool,
}

/// What provision takes.
#[derive(Debug, Default, Args)]
pub struct ProvisionInputs {
    /// What every mode takes.
    #[command(flatten)]
    pub common: CommonInputs,
    /// How many machines [default: 1].
    #[arg(long, env = "INPUT_INSTANCE-COUNT")]
    pub instance_count: Option<String>,
    /// on-demand or spot [default: on-demand].
    #[arg(long, env = "INPUT_USAGE-CLASS")]
    pub usage_class: Option<String>,
    /// What to take when there are no spot machines: none or on-demand [default: none].
    #[arg(long, env = "INPUT_FALLBACK")]
    pub fallback: Option<String>,
    /// How EC2 chooses among types and subnets [default: price-capacity-optimized for spot,
    /// lowest-price on demand].
    #[arg(long, env = "INPUT_ALLOCATION-STRATEGY")]
    pub allocation_strategy: Option<String>,
    /// USD an hour for one spot machine, at most [default: the on-demand price].
    #[arg(long, env = "INPUT_MAX-PRICE")]
    pub max_price: Option<String>,
    /// One of the pool's sizes [default: large].
    #[arg(long, env = "INPUT_RESOURCE-CLASS")]
    pub resource_class: Option<String>,
    /// Instance types that will do, with `*` as a wildcard [default: c* m* r*].
    #[arg(long, env = "INPUT_ALLOWED-INSTANCE-TYPES")]
    pub allowed_instance_types: Option<String>,
    /// Minutes that the run may keep them [default: what refresh was given].
    #[arg(long, env = "INPUT_MAX-RUNTIME-MIN")]
    pub max_runtime_min: Option<String>,
    /// Tells several provisions of one workflow apart: the label becomes `<run id>-<name>`.
    #[arg(long, env = "INPUT_NAME")]
    pub name: Option<String>,
    /// Print one JSON object on stdout, and the log on stderr.
    #[arg(long)]
    pub json: bool,
}

/// What release takes.
#[derive(Debug, Default, Args)]
pub struct ReleaseInputs {
    /// What every mode takes.
    #[command(flatten)]
    pub common: CommonInputs,
    /// Release the machines of this provision alone [default: all of the run's].
    #[arg(long, env = "INPUT_NAME")]
    pub name: Option<String>,
    /// Seconds to wait for machines that are busy or do not answer; after that they are
    /// terminated [default: 120].
    #[arg(long, env = "INPUT_RELEASE-TIMEOUT-SEC")]
    pub release_timeout_sec: Option<String>,
    /// Print one JSON object on stdout, and the log on stderr.
    #[arg(long)]
    pub json: bool,
}

impl Inputs {
    /// The command line, for parsing, its manual and its completions.
    pub fn program() -> Command {
        Self::command().mut_subcommands(|mode| mode.mut_args(help::dressed))
    }

    /// Reads a command line; an error prints itself.
    ///
    /// # Errors
    ///
    /// When it makes no sense, or asks for help.
    pub fn read(args: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        let mut matches = Self::program().try_get_matches_from(args)?;
        Self::from_arg_matches_mut(&mut matches).map_err(|error| error.format(&mut Self::program()))
    }
}

/// The command line with the mode in its place: the one that is given, else what `INPUT_MODE`
/// says.
pub fn with_mode(args: Vec<OsString>, mode: Option<OsString>) -> Vec<OsString> {
    let given = args
        .get(1)
        .and_then(|first| first.to_str())
        .is_some_and(|first| {
            !first.starts_with('-') || ["-h", "--help", "-V", "--version"].contains(&first)
        });
    match mode.filter(|mode| !given && !mode.is_empty()) {
        None => args,
        Some(mode) => {
            let mut args = args;
            args.insert(args.len().min(1), mode);
            args
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(words: &[&str]) -> Vec<OsString> {
        words.iter().map(OsString::from).collect()
    }

    #[test]
    fn the_mode_comes_from_the_command_line_or_the_input() {
        let mode = Some(OsString::from("release"));
        assert_eq!(
            with_mode(args(&["c"]), mode.clone()),
            args(&["c", "release"])
        );
        assert_eq!(
            with_mode(args(&["c", "--name", "x"]), mode.clone()),
            args(&["c", "release", "--name", "x"])
        );
        assert_eq!(
            with_mode(args(&["c", "refresh"]), mode),
            args(&["c", "refresh"])
        );
        assert_eq!(with_mode(args(&["c"]), None), args(&["c"]));
    }

    #[test]
    fn the_flags_are_consistent() {
        Inputs::program().debug_assert();
    }
}
