//! The settings of refresh: the desired state.

mod download;

use proto::{
    agent_config::{AgentConfig, Downloads, JobRules, RunnerRelease, Times},
    config::Parameters,
};

use self::download::agent_download;
use super::{
    BadInput, Common, classes, flag, github::GithubSettings, given, idle, list, positive, required,
};
use crate::{
    github::release::Wanted,
    inputs::RefreshInputs,
    ports::{RootVolume, TemplateContent},
    refresh::{RefreshSettings, bounds::IdleRules},
};

/// The image of new machines, as an operator names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImageName {
    /// `ami-…`
    Id(String),
    /// A parameter of Systems Manager that holds the id, by its name or ARN.
    Parameter(String),
}

/// The desired state, as far as it can be told without asking anybody.
#[derive(Debug)]
pub struct DesiredState {
    /// The image of new machines.
    pub image: ImageName,
    /// Which runner program the machines must have; none: whatever the image carries.
    pub runner: Option<Wanted>,
    /// Without an image, and with user data that names no runner program.
    refresh: RefreshSettings,
    agent: AgentConfig,
    agent_download: Option<Downloads>,
}

impl DesiredState {
    /// Checks a refresh's inputs.
    pub fn new(inputs: &RefreshInputs) -> Result<Self, BadInput> {
        let Common { region, pool } = Common::new(&inputs.common)?;
        let github = GithubSettings::new(&inputs.common, &inputs.github)?;
        let classes = classes::parse(given(inputs.resource_class_config.as_ref()))?;
        let agent = AgentConfig {
            v: 1,
            table: pool.resource_name(),
            pool: pool.clone(),
            region,
            github_url: github.runners_url,
            pre_runner_script: given(inputs.pre_runner_script.as_ref()).map(str::to_owned),
            runner: None,
            jobs_may_use_instance_role: flag(
                "jobs-may-use-instance-role",
                inputs.jobs_may_use_instance_role.as_ref(),
                false,
            )?,
            jobs: job_rules(inputs)?,
            docker: flag("requires-docker", inputs.requires_docker.as_ref(), false)?,
            times: Times::default(),
        };
        let agent_download = agent_download(inputs)?;
        let idle = idle::rules(
            given(inputs.min_idle.as_ref()),
            given(inputs.max_idle.as_ref()),
            &classes,
        )?;
        let image = image(inputs)?;
        let refresh = RefreshSettings {
            image_is_input: matches!(image, ImageName::Id(_)),
            template: TemplateContent {
                image: String::new(),
                root_volume: root_volume(inputs)?,
                key_name: key_name(given(inputs.key_name.as_ref()))?,
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
                user_data: user_data(&agent, agent_download.as_ref())?,
                tags: vec![("paddock:pool".to_owned(), pool.to_string())],
            },
            runner: None,
            ephemeral: agent.jobs.ephemeral,
            parameters: parameters(inputs, &idle)?,
            idle,
            classes,
            pool,
            github_url: agent.github_url.clone(),
            dry_run: inputs.dry_run,
        };
        Ok(Self {
            image,
            runner: wanted_runner(given(inputs.actions_runner_version.as_ref()))?,
            refresh,
            agent,
            agent_download,
        })
    }

    /// With the id of the image, and the runner program that was found.
    pub fn with(
        self,
        image: String,
        runner: Option<RunnerRelease>,
    ) -> Result<RefreshSettings, BadInput> {
        let Self {
            mut refresh,
            mut agent,
            agent_download,
            ..
        } = self;
        agent.runner.clone_from(&runner);
        refresh.template.user_data = user_data(&agent, agent_download.as_ref())?;
        refresh.template.image = image;
        refresh.runner = runner;
        Ok(refresh)
    }
}

fn image(inputs: &RefreshInputs) -> Result<ImageName, BadInput> {
    const ALLOWED: &str = "give the image of new machines, ami-…, or ssm: and the name of a \
                           parameter that holds it";
    let ami = required("ami", inputs.ami.as_ref(), ALLOWED)?;
    // EC2's own spelling, which launch templates know.
    let name = ami.strip_prefix("resolve:").unwrap_or(ami);
    let is_arn = name.starts_with("arn:") && name.contains(":ssm:") && name.contains(":parameter/");
    match name.strip_prefix("ssm:").or(is_arn.then_some(name)) {
        Some(name) if !name.is_empty() => Ok(ImageName::Parameter(name.to_owned())),
        None if ami.starts_with("ami-") => Ok(ImageName::Id(ami.to_owned())),
        Some(_) | None => {
            let wrong = format!("`{ami}` names no image");
            Err(BadInput::new("ami", wrong, ALLOWED))
        }
    }
}

fn user_data(agent: &AgentConfig, download: Option<&Downloads>) -> Result<Vec<u8>, BadInput> {
    userdata::render(agent, download).map_err(|error| {
        BadInput::new(
            "pre-runner-script",
            error.to_string(),
            "shorten the scripts, or have them fetch what they need",
        )
    })
}

fn job_rules(inputs: &RefreshInputs) -> Result<JobRules, BadInput> {
    let script = |script: &Option<String>| given(script.as_ref()).map(str::to_owned);
    Ok(JobRules {
        runner_sudo: flag("runner-sudo", inputs.runner_sudo.as_ref(), true)?,
        ephemeral: flag("ephemeral", inputs.ephemeral.as_ref(), false)?,
        pre_job_script: script(&inputs.pre_job_script),
        post_release_script: script(&inputs.post_release_script),
    })
}

fn parameters(inputs: &RefreshInputs, idle: &IdleRules) -> Result<Parameters, BadInput> {
    Ok(Parameters {
        subnet_ids: list(
            "subnet-ids",
            inputs.subnet_ids.as_ref(),
            "",
            |item| item.starts_with("subnet-"),
            "give one or more ids, subnet-…",
        )?,
        metrics: flag("metrics", inputs.metrics.as_ref(), false)?,
        keeps_idle: idle.min.iter().any(|rule| rule.count > 0),
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

/// The kinds of volume that a machine can boot from.
const VOLUME_KINDS: [&str; 3] = ["gp3", "gp2", "standard"];

fn root_volume(inputs: &RefreshInputs) -> Result<RootVolume, BadInput> {
    // EC2: a gp2 or gp3 volume has 16 TiB at most.
    let size = limit(
        "root-volume-size-gib",
        inputs.root_volume_size_gib.as_ref(),
        16_384,
    )?;
    let kind = given(inputs.root_volume_type.as_ref()).unwrap_or(VOLUME_KINDS[0]);
    if !VOLUME_KINDS.contains(&kind) {
        return Err(BadInput::new(
            "root-volume-type",
            format!("`{kind}` is none that Paddock makes"),
            format!("give one of {}", VOLUME_KINDS.join(", ")),
        ));
    }
    Ok(RootVolume {
        size_gib: size.map(|size| u32::try_from(size).unwrap_or(u32::MAX)),
        kind: kind.to_owned(),
    })
}

fn key_name(name: Option<&str>) -> Result<Option<String>, BadInput> {
    // EC2: up to 255 ASCII characters.
    let fine = |name: &str| name.len() <= 255 && name.chars().all(|c| (' '..='~').contains(&c));
    match name {
        Some(name) if !fine(name) => Err(BadInput::new(
            "key-name",
            format!("`{name}` is no name of a key pair"),
            "give the name of one at EC2",
        )),
        name => Ok(name.map(str::to_owned)),
    }
}

/// A limit, if one is given.
fn limit(input: &'static str, text: Option<&String>, most: u64) -> Result<Option<u64>, BadInput> {
    given(text)
        .map(|_| positive(input, text, 1, most))
        .transpose()
}

fn wanted_runner(version: Option<&str>) -> Result<Option<Wanted>, BadInput> {
    Ok(match version {
        None => None,
        Some("latest") => Some(Wanted::Latest),
        Some(version) => Some(Wanted::Pinned(version.parse().map_err(|_| {
            let wrong = format!("`{version}` is no version");
            let allowed = "give latest, or one such as 2.336.0";
            BadInput::new("actions-runner-version", wrong, allowed)
        })?)),
    })
}
