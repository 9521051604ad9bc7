//! The story on an AWS of one's own choice: wherever endpoint, region and credentials of the
//! environment lead, in a pool of its own, which is taken down in every case.
//!
//! What a stand-in for AWS cannot do is added here, and so is not tried: its machines are names, so
//! the yard runs an agent for each as processes of this computer; GitHub and its runner are the
//! yard's. `CreateFleet` goes through the yard's door, which names instance types where only
//! requirements are known, heeds client tokens and tells shortages. `tests/tests/contracts.rs` has
//! the gaps of each stand-in by name. An account of AWS's has real machines, which need none of
//! that: `.github/workflows/account.yml`.

use std::{
    error::Error,
    time::{Duration, Instant},
};

use aws_config::SdkConfig;
use aws_sdk_ec2::types::Filter;
use aws_sdk_sqs::config::ProvideCredentials;

use crate::{
    binaries::Binaries,
    story::{self, Stage, Teller, refresh_inputs},
    yard::{Settings, Yard, aws},
};

/// A refresh that was killed keeps its pool for so long, and a destroy waits for its end.
const TAKEN_DOWN_WITHIN: Duration = Duration::from_mins(5);
/// Between two tries.
const PAUSE: Duration = Duration::from_secs(2);

/// Plays the story there, until its end or until somebody cancels it; then takes the pool down.
///
/// # Errors
///
/// When the AWS cannot be reached, anything is not as it must be, the pool cannot be taken down, or
/// `cancelled` was first.
pub async fn play(
    sdk: &SdkConfig,
    binaries: &Binaries,
    teller: &mut dyn Teller,
    cancelled: impl Future<Output = ()>,
) -> Result<(), Box<dyn Error + Send + Sync>> {
    let pool = format!("story-{:08x}", rand::random::<u32>());
    let settings = Settings {
        boot: Duration::from_millis(500),
        configure: Duration::from_millis(200),
        deregister: Duration::from_millis(200),
        aws: at(sdk, &pool).await?,
        ..Settings::new(&binaries.agent, &binaries.runner)
    };
    let yard = Yard::start(settings).await?;
    let stage = Stage {
        refresh: there(sdk, &yard).await,
        pool: Some(pool.clone()),
        ..Stage::new(&yard, binaries, "")
    };
    teller.event(&format!("the pool is {pool}"), None);
    let played = tokio::select! {
        played = story::play(&stage, teller) => played,
        () = cancelled => Err("cancelled".into()),
    };
    teller.chapter("In every case: the pool is taken down");
    let down = take_down(&stage).await;
    if down.is_ok() {
        teller.event("controller destroy: nothing of it is left", None);
    }
    yard.stop().await;
    // What went wrong first explains the rest.
    played.and(down)
}

/// The yard's door to that AWS.
async fn at(sdk: &SdkConfig, pool: &str) -> Result<aws::Settings, Box<dyn Error + Send + Sync>> {
    let url = sdk.endpoint_url().ok_or("AWS_ENDPOINT_URL is not set")?;
    let region = sdk.region().ok_or("AWS_REGION is not set")?;
    let provider = sdk
        .credentials_provider()
        .ok_or("there are no credentials")?;
    let who = aws_sdk_sts::Client::new(sdk).get_caller_identity().send();
    Ok(aws::Settings {
        region: region.to_string(),
        account: who.await?.account.ok_or("STS names no account")?,
        upstream: Some(url.to_owned()),
        upstream_credentials: Some(provider.provide_credentials().await?),
        upstream_pool: Some(pool.to_owned()),
        ..aws::Settings::default()
    })
}

/// Refresh's inputs, with an image, a subnet and a security group that there are. Where none is
/// told, any will do.
async fn there(sdk: &SdkConfig, yard: &Yard) -> Vec<(&'static str, String)> {
    let found = Furniture::of(&aws_sdk_ec2::Client::new(sdk)).await;
    let mut subnets = found.subnets;
    subnets.truncate(2);
    if subnets.is_empty() {
        subnets.push("subnet-0a".to_owned());
    }
    let mut inputs = refresh_inputs(yard, &subnets.join(" "));
    for (name, value) in &mut inputs {
        match (*name, &found.image, &found.security_group) {
            ("ami", Some(image), _) => value.clone_from(image),
            ("security-group-ids", _, Some(group)) => value.clone_from(group),
            _ => {}
        }
    }
    inputs
}

/// What an EC2 has from the beginning, as far as it tells.
#[derive(Debug)]
pub struct Furniture {
    /// An image of Amazon's.
    pub image: Option<String>,
    /// All subnets.
    pub subnets: Vec<String>,
    /// A security group.
    pub security_group: Option<String>,
}

impl Furniture {
    /// That of this EC2.
    pub async fn of(ec2: &aws_sdk_ec2::Client) -> Self {
        let amazon = Filter::builder()
            .name("name")
            .values("amzn2-ami-hvm*")
            .build();
        let images = ec2.describe_images().filters(amazon).send().await.ok();
        let subnets = ec2.describe_subnets().send().await.ok();
        let subnets = subnets.and_then(|it| it.subnets).unwrap_or_default();
        let groups = ec2.describe_security_groups().send().await.ok();
        Self {
            image: images.and_then(|it| it.images?.into_iter().next()?.image_id),
            subnets: subnets.into_iter().filter_map(|it| it.subnet_id).collect(),
            security_group: groups.and_then(|it| it.security_groups?.into_iter().next()?.group_id),
        }
    }
}

async fn take_down(stage: &Stage<'_>) -> Result<(), Box<dyn Error + Send + Sync>> {
    let mut operator = stage.run(1);
    operator.flags = ["--yes", "--force"].map(str::to_owned).into();
    let token = stage.yard.github.token();
    let deadline = Instant::now() + TAKEN_DOWN_WITHIN;
    loop {
        let step = operator
            .step("destroy", &[("github-token", &token)])
            .await?;
        if step.code == 0 {
            return Ok(());
        }
        if Instant::now() > deadline {
            let name = stage.pool.as_deref().unwrap_or_default();
            return Err(format!("pool {name} is not taken down: {}", step.log).into());
        }
        tokio::time::sleep(PAUSE).await;
    }
}
