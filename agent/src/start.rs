//! From nothing to a configured agent.

use std::{sync::Arc, time::Duration};

use aws_sdk_dynamodb::Client;
use proto::{
    agent_config::{AgentConfig, Times},
    table::dynamo::DynamoTable,
    time::SystemClock,
};
use tokio::time::Instant;

use crate::{
    cli::Settings,
    host::{Machinery, make_private},
    imds::Imds,
    ports::{Cause, Identity, Metadata, chain},
    power::PowerProgram,
    run::{World, run},
    status::{Snapshot, StatusFile},
};

/// The first pause between two tries; doubled from then on.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// The longest pause as long as there is hope.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// The pause on a machine that seems to be no member of a pool.
const SLOW: Duration = Duration::from_mins(1);

/// Runs the agent on this machine until `shutdown`.
///
/// # Errors
///
/// Only what no waiting can mend.
pub async fn start(settings: &Settings, shutdown: impl Future<Output = ()>) -> Result<(), Cause> {
    let started = Instant::now();
    make_private(&settings.state_dir)?;
    let status = StatusFile::of(&settings.state_dir);
    let imds = Imds::new(&settings.metadata).map_err(|error| chain(&error))?;
    tokio::pin!(shutdown);
    let (identity, config) = tokio::select! {
        // Cancel-safe: the questions are asked anew by the next agent.
        () = &mut shutdown => return Ok(()),
        known = discover(&imds, &status) => known,
    };
    tracing::info!(instance = %identity.arn, pool = %config.pool, "the agent starts");
    let sdk = proto::aws::sdk_config(Some(config.region.clone())).await;
    let world = World {
        table: Arc::new(DynamoTable::new(Client::new(&sdk), config.table.clone())),
        host: Arc::new(Machinery {
            state_dir: settings.state_dir.clone(),
            runner_dir: settings.runner_dir.clone(),
            runner_user: settings.runner_user.clone(),
            instance: identity.arn.id().clone(),
        }),
        power: Arc::new(PowerProgram(settings.poweroff.clone())),
        clock: Arc::new(SystemClock),
        started,
    };
    run(world, config, identity.arn, &status, shutdown).await;
    Ok(())
}

/// Asks until there is an identity and a configuration.
///
/// A machine without them is left alone: it may be no pool's, only made from a pool's image. What
/// is a pool's, refresh ends.
async fn discover(metadata: &impl Metadata, status: &StatusFile) -> (Identity, AgentConfig) {
    let hope = Duration::try_from_secs_f64(Times::default().contact).unwrap_or_default();
    let started = Instant::now();
    let mut pause = FIRST_PAUSE;
    let mut known = None;
    let mut said = None;
    loop {
        let cause = match ask(metadata, &mut known).await {
            Ok(config) => match known {
                Some(identity) => return (identity, config),
                None => Trouble::Passing("no identity".to_owned()),
            },
            Err(trouble) => trouble,
        };
        let (text, wait) = match cause {
            Trouble::Lasting(text) => (text, SLOW),
            Trouble::Passing(text) if started.elapsed() > hope => (text, SLOW),
            Trouble::Passing(text) => (text, pause),
        };
        if said.as_ref() != Some(&text) {
            tracing::warn!("no configuration: {text}");
            let arn = known.as_ref().map(|identity| &identity.arn);
            status.write(&Snapshot::starting(
                "without configuration",
                arn,
                Some(text.clone()),
            ));
            said = Some(text);
        }
        tokio::time::sleep(wait).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

enum Trouble {
    /// May be over in a moment.
    Passing(Cause),
    /// Is not likely to be.
    Lasting(Cause),
}

async fn ask(
    metadata: &impl Metadata,
    known: &mut Option<Identity>,
) -> Result<AgentConfig, Trouble> {
    if known.is_none() {
        *known = Some(metadata.identity().await.map_err(Trouble::Passing)?);
    }
    let user_data = metadata.user_data().await.map_err(Trouble::Passing)?;
    let none = "this machine has no user data: it belongs to no pool";
    let user_data = user_data.ok_or_else(|| Trouble::Lasting(none.to_owned()))?;
    userdata::parse(&user_data).map_err(|error| Trouble::Lasting(chain(&error)))
}
