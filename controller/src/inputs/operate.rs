//! What operators' commands take.

use clap::Args;

use super::{CommonInputs, GithubInputs};

/// What agent-status takes.
#[derive(Debug, Default, Args)]
pub struct AgentStatusInputs {
    /// What every mode takes.
    #[command(flatten)]
    pub common: CommonInputs,
    /// Ask these machines alone, `i-…`, separated by spaces or commas [default: all of the pool].
    #[arg(long)]
    pub instance: Option<String>,
}

/// What status takes.
#[derive(Debug, Default, Args)]
pub struct StatusInputs {
    /// What every mode takes.
    #[command(flatten)]
    pub common: CommonInputs,
    /// USD an hour by type and usage class: a file with
    /// {"m6i.large": {"on-demand": 0.096, "spot": 0.035}, …} [default: no costs].
    #[arg(long)]
    pub price_file: Option<String>,
    /// Look again every two seconds, until Ctrl-C.
    #[arg(long)]
    pub watch: bool,
    /// Print JSON: one object for each look.
    #[arg(long)]
    pub json: bool,
}

/// What doctor takes.
#[derive(Debug, Default, Args)]
pub struct DoctorInputs {
    /// What every mode takes.
    #[command(flatten)]
    pub common: CommonInputs,
    /// How to reach GitHub; without a login it is not looked at.
    #[command(flatten)]
    pub github: GithubInputs,
    /// ARN of the role whose permissions are asked for [default: that of the credentials].
    #[arg(long)]
    pub role: Option<String>,
    /// The commands that it has to be allowed: some of refresh, provision and release
    /// [default: refresh].
    #[arg(long)]
    pub commands: Option<String>,
}

/// What destroy takes.
#[derive(Debug, Default, Args)]
pub struct DestroyInputs {
    /// What every mode takes.
    #[command(flatten)]
    pub common: CommonInputs,
    /// How to reach GitHub; without a login its runners are left, and it forgets them in time.
    #[command(flatten)]
    pub github: GithubInputs,
    /// The pool's name once more, in a workflow, where nobody can be asked [default: ask at the
    /// terminal].
    #[arg(long, env = "INPUT_CONFIRM", value_name = "NAME")]
    pub confirm: Option<String>,
    /// Do not ask.
    #[arg(long)]
    pub yes: bool,
    /// Also when machines are in use: their jobs fail.
    #[arg(long)]
    pub force: bool,
    /// Show what would be taken down, and do nothing.
    #[arg(long)]
    pub dry_run: bool,
}
