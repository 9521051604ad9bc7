//! The settings of refresh: the desired state.

use proto::{
    agent_config::{AgentConfig, RunnerRelease, Times},
    config::Parameters,
    instance::Secret,
};
use userdata::{AgentDownload, Download};

use super::{BadInput, Common, classes, given, list, positive, required};
use crate::{
    github::Scope, inputs::RefreshInputs, ports::TemplateContent, refresh::RefreshSettings,
};

/// A refresh, with how to reach GitHub.
#[derive(Debug)]
pub struct RefreshAndGithub {
    /// The desired state.
    pub refresh: RefreshSettings,
    /// GitHub's API.
    pub api_url: String,
    /// Where runners register.
    pub scope: Scope,
    /// What asks for their tokens.
    pub pat: Secret,
}

impl RefreshAndGithub {
    /// Checks a refresh's inputs.
    pub fn new(inputs: &RefreshInputs) -> Result<Self, BadInput> {
        let Common { region, pool } = Common::new(&inputs.common)?;
        let repository = required(
            "GITHUB_REPOSITORY",
            inputs.common.github_repository.as_ref(),
            "run this inside a workflow, or set it to owner/name",
        )?;
        let Some((owner, repo)) = repository
            .split_once('/')
            .filter(|(o, r)| !o.is_empty() && !r.is_empty())
        else {
            let wrong = format!("`{repository}` names no repository");
            return Err(BadInput::new("GITHUB_REPOSITORY", wrong, "give owner/name"));
        };
        let pat = required(
            "github-token",
            inputs.github_token.as_ref(),
            "give a personal access token that may administer the repository",
        )?;
        let ami = required(
            "ami",
            inputs.ami.as_ref(),
            "give the image of new machines, ami-…",
        )?;
        if !ami.starts_with("ami-") {
            return Err(BadInput::new(
                "ami",
                format!("`{ami}` is no image id"),
                "give one such as ami-0abc",
            ));
        }
        let server = given(inputs.github_server_url.as_ref()).unwrap_or("https://github.com");
        let classes = classes::parse(given(inputs.resource_class_config.as_ref()))?;
        let agent_config = AgentConfig {
            v: 1,
            table: pool.resource_name(),
            pool: pool.clone(),
            region,
            github_url: format!("{}/{repository}", server.trim_end_matches('/')),
            pre_runner_script: given(inputs.pre_runner_script.as_ref()).map(str::to_owned),
            runner: runner_release(given(inputs.actions_runner_version.as_ref()))?,
            times: Times::default(),
        };
        let user_data =
            userdata::render(&agent_config, agent_download(inputs)?.as_ref()).map_err(|error| {
                BadInput::new(
                    "pre-runner-script",
                    error.to_string(),
                    "shorten it, or have it fetch what it needs",
                )
            })?;
        let refresh = RefreshSettings {
            template: TemplateContent {
                ami: ami.to_owned(),
                iam_instance_profile: required(
                    "iam-instance-profile",
                    inputs.iam_instance_profile.as_ref(),
                    "give the name or ARN of the machines' instance profile",
                )?
                .to_owned(),
                security_group_ids: list(
                    "security-group-ids",
                    inputs.security_group_ids.as_ref(),
                    "",
                    |item| item.starts_with("sg-"),
                    "give one or more ids, sg-…",
                )?,
                user_data,
                tags: vec![("paddock:pool".to_owned(), pool.to_string())],
            },
            parameters: parameters(inputs)?,
            classes,
            pool,
            github_url: agent_config.github_url,
            dry_run: inputs.dry_run,
        };
        Ok(Self {
            refresh,
            api_url: given(inputs.github_api_url.as_ref())
                .unwrap_or("https://api.github.com")
                .to_owned(),
            scope: Scope::Repository {
                owner: owner.to_owned(),
                repo: repo.to_owned(),
            },
            pat: Secret::new(pat),
        })
    }
}

fn parameters(inputs: &RefreshInputs) -> Result<Parameters, BadInput> {
    Ok(Parameters {
        subnet_ids: list(
            "subnet-ids",
            inputs.subnet_ids.as_ref(),
            "",
            |item| item.starts_with("subnet-"),
            "give one or more ids, subnet-…",
        )?,
        max_jobs: limit("max-jobs", inputs.max_jobs.as_ref(), 1_000_000)?
            .map(|jobs| u32::try_from(jobs).unwrap_or(u32::MAX)),
        max_age_sec: limit("max-age-min", inputs.max_age_min.as_ref(), 43_200)?
            .map(|minutes| minutes * 60),
        idle_time_sec: positive(
            "idle-time-sec",
            inputs.idle_time_sec.as_ref(),
            420,
            7 * 86_400,
        )?,
        max_runtime_sec: 60
            * positive(
                "max-runtime-min",
                inputs.max_runtime_min.as_ref(),
                30,
                43_200,
            )?,
        claim_timeout_sec: 30,
        fleet_timeout_sec: 180,
        release_timeout_sec: 120,
        healthy_within_sec: 15,
    })
}

/// A limit, if one is given.
fn limit(input: &'static str, text: Option<&String>, most: u64) -> Result<Option<u64>, BadInput> {
    given(text)
        .map(|_| positive(input, text, 1, most))
        .transpose()
}

fn runner_release(version: Option<&str>) -> Result<Option<RunnerRelease>, BadInput> {
    let Some(version) = version else {
        return Ok(None);
    };
    let numbers = version.trim_start_matches('v');
    if numbers.split('.').count() != 3 || !numbers.split('.').all(|n| n.parse::<u32>().is_ok()) {
        let wrong = format!("`{version}` is no version");
        return Err(BadInput::new(
            "actions-runner-version",
            wrong,
            "give one such as 2.336.0",
        ));
    }
    Ok(Some(RunnerRelease {
        version: numbers.to_owned(),
        url: None,
        sha256: None,
    }))
}

/// Where an image without the agent fetches it, if it may.
fn agent_download(inputs: &RefreshInputs) -> Result<Option<AgentDownload>, BadInput> {
    let (url, sums) = (
        given(inputs.agent_url.as_ref()),
        given(inputs.agent_sha256.as_ref()),
    );
    let (url, sums) = match (url, sums) {
        (None, None) => return Ok(None),
        (Some(url), Some(sums)) => (url, sums),
        (Some(_), None) => {
            return Err(BadInput::new(
                "agent-sha256",
                "is missing",
                "agent-url needs it",
            ));
        }
        (None, Some(_)) => {
            return Err(BadInput::new(
                "agent-url",
                "is missing",
                "agent-sha256 needs it",
            ));
        }
    };
    let is_address = url.starts_with("https://") || url.starts_with("http://");
    if !is_address || url.contains(|c: char| c.is_whitespace() || c == '\'') {
        let wrong = format!("`{url}` is no address");
        return Err(BadInput::new(
            "agent-url",
            wrong,
            "give one that starts with https://",
        ));
    }
    let is_sum = |sum: &str| sum.len() == 64 && sum.chars().all(|c| c.is_ascii_hexdigit());
    let download = |arch: &str, sum: &str| Download {
        url: url.replace("{arch}", arch),
        sha256: sum.to_ascii_lowercase(),
    };
    match sums.split_whitespace().collect::<Vec<_>>()[..] {
        [x86_64, aarch64] if is_sum(x86_64) && is_sum(aarch64) => Ok(Some(AgentDownload {
            x86_64: download("x86_64", x86_64),
            aarch64: download("aarch64", aarch64),
        })),
        _ => Err(BadInput::new(
            "agent-sha256",
            "is not two SHA-256 sums",
            "give those for x86_64 and for aarch64, 64 hexadecimal digits each",
        )),
    }
}
