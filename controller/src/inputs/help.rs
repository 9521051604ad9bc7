//! What `--help` looks like: under which heading a flag stands, what its value is called, and what
//! is said below.

use clap::Arg;

/// Headings, each with its flags and what their values are called.
const HEADINGS: [(&str, &[(&str, &str)]); 5] = [
    (
        "Pool",
        &[
            ("aws_region", "REGION"),
            ("pool_name", "NAME"),
            ("github_scope", "SCOPE"),
            ("resource_class_config", "JSON"),
            ("metrics", "true|false"),
        ],
    ),
    (
        "Machines",
        &[
            ("ami", "AMI"),
            ("iam_instance_profile", "PROFILE"),
            ("security_group_ids", "IDS"),
            ("subnet_ids", "IDS"),
            ("root_volume_size_gib", "GIB"),
            ("root_volume_type", "TYPE"),
            ("key_name", "NAME"),
            ("pre_runner_script", "SCRIPT"),
            ("actions_runner_version", "VERSION"),
            ("agent_url", "URL"),
            ("agent_sha256", "SUMS"),
            ("requires_docker", "true|false"),
        ],
    ),
    (
        "Idle machines",
        &[
            ("idle_time_sec", "SECONDS"),
            ("min_idle", "RULES"),
            ("max_idle", "RULES"),
            ("max_jobs", "NUMBER"),
            ("max_age_min", "MINUTES"),
        ],
    ),
    (
        "Runs and jobs",
        &[
            ("instance_count", "NUMBER"),
            ("resource_class", "CLASS"),
            ("allowed_instance_types", "TYPES"),
            ("usage_class", "CLASS"),
            ("fallback", "CLASS"),
            ("allocation_strategy", "STRATEGY"),
            ("max_price", "USD"),
            ("name", "NAME"),
            ("max_runtime_min", "MINUTES"),
            ("release_timeout_sec", "SECONDS"),
            ("runner_sudo", "true|false"),
            ("ephemeral", "true|false"),
            ("jobs_may_use_instance_role", "true|false"),
            ("pre_job_script", "SCRIPT"),
            ("post_release_script", "SCRIPT"),
        ],
    ),
    (
        "GitHub",
        &[
            ("github_token", "TOKEN"),
            ("github_app_id", "ID"),
            ("github_app_private_key", "PEM"),
            ("runner_releases_url", "URL"),
        ],
    ),
];

/// A flag as the help shows it: that each is read from `INPUT_…` too is said once.
pub(super) fn dressed(flag: Arg) -> Arg {
    let known = HEADINGS.iter().find_map(|(heading, flags)| {
        let mut flags = flags.iter();
        let (_, value) = flags.find(|(id, _)| flag.get_id() == *id)?;
        Some((*heading, *value))
    });
    let flag = flag.hide_env(true);
    match known {
        Some((heading, value)) => flag.help_heading(heading).value_name(value),
        None => flag,
    }
}

pub(super) const CONTROLLER: &str = "\
Every flag is also read from INPUT_<NAME>, as GitHub passes inputs (INPUT_INSTANCE-COUNT), and
INPUT_MODE picks the command. RUST_LOG=debug shows more of the log.

Exit codes:
  0    done
  1    failed, and nothing of it is left
  2    an input cannot be used, or does not fit the pool; nothing was touched
  3    failed, and something is left for refresh; the error names it
  130  cancelled, and nothing of it is left

Examples:
  controller refresh --dry-run --ami ami-0abc --iam-instance-profile paddock-acme-web \\
    --security-group-ids sg-1 --subnet-ids 'subnet-1 subnet-2'
  controller provision --instance-count 2 --resource-class large
  controller release
  controller status --pool acme-web --watch";

pub(super) const REFRESH: &str = "\
Secrets are better given as INPUT_GITHUB-TOKEN or INPUT_GITHUB-APP-PRIVATE-KEY than as flags, which
other users of the computer can see; or as the name of a secret at AWS.

Examples:
  controller refresh --dry-run --github-token ssm:/paddock-acme-web/token --ami ami-0abc \\
    --iam-instance-profile paddock-acme-web --security-group-ids sg-1 --subnet-ids subnet-1
  controller refresh --github-app-id 123456 --ami ami-0abc --min-idle 'large on-demand 2' \\
    --iam-instance-profile paddock-acme-web --security-group-ids sg-1 --subnet-ids subnet-1";

pub(super) const PROVISION: &str = "\
It takes the run from GITHUB_RUN_ID, and writes label, instance-ids, reused, created and seconds to
the file GITHUB_OUTPUT. The label is what jobs put in runs-on.

Examples:
  controller provision --instance-count 3
  controller provision --resource-class 4xlarge --name compile --max-runtime-min 60
  controller provision --usage-class spot --fallback on-demand --allowed-instance-types 'c7* m7*'";

pub(super) const RELEASE: &str = "\
It takes the run from GITHUB_RUN_ID. It may be repeated: what was given back stays so.

Examples:
  controller release
  controller release --name compile --release-timeout-sec 300";

pub(super) const AGENT_STATUS: &str = "\
It asks through Systems Manager, with the document Paddock-AgentStatus.
Exit code 1: some machine did not answer.

Examples:
  controller agent-status --pool acme-web
  controller agent-status --pool acme-web --instance 'i-0123456789abcdef0 i-0123456789abcdef1'";

pub(super) const STATUS: &str = "\
Examples:
  controller status --pool acme-web --aws-region eu-central-1
  controller status --pool acme-web --watch --price-file prices.json
  controller status --pool acme-web --json";

pub(super) const DOCTOR: &str = "\
It changes nothing. Exit code 1: the pool cannot work, and the lines that begin with `failed` say why.

Examples:
  controller doctor --pool acme-web
  controller doctor --pool acme-web --commands 'provision release' \\
    --role arn:aws:iam::123456789012:role/paddock-workflow";

pub(super) const DESTROY: &str = "\
It asks for the pool's name before it does anything, and refuses while runs hold machines.

Examples:
  controller destroy --pool acme-web --dry-run
  controller destroy --pool acme-web
  controller destroy --pool acme-web --yes --force";
