//! From nothing to a configured agent.

use std::{fs::File, path::Path, sync::Arc, time::Duration};

use aws_sdk_dynamodb::Client;
use nix::fcntl::{Flock, FlockArg};
use proto::{
    agent_config::{AgentConfig, Times},
    aws::AwsClock,
    table::dynamo::DynamoTable,
    time::SystemClock,
};
use tokio::time::Instant;
use userdata::InvalidUserData;

use crate::{
    cli::Settings,
    files::FileError,
    host::{Machinery, System, make_private},
    imds::Imds,
    ports::{Cause, Identity, Metadata, Power, chain},
    power::PowerProgram,
    run::{World, run},
    status::{Snapshot, StatusFile},
    supervisor::{self, Supervisor},
};

/// The first pause between two tries; doubled from then on.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// The longest pause as long as there is hope.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// Between two tries to switch off.
const OFF_AGAIN: Duration = Duration::from_secs(10);
/// The pause on a machine that seems to be no member of a pool.
const SLOW: Duration = Duration::from_mins(1);

/// Runs the agent, which began at `started`, on this machine until `shutdown`.
///
/// # Errors
///
/// Only what no waiting can mend.
pub async fn start(
    settings: &Settings,
    started: Instant,
    shutdown: impl Future<Output = ()>,
) -> Result<(), Cause> {
    make_private(&settings.state_dir)?;
    // Closed, and so unlocked, with this process; what it starts does not inherit it.
    let _lock = lock(&settings.state_dir)?;
    let status = StatusFile::of(&settings.state_dir);
    let mut supervisor = Supervisor::new();
    supervisor::ready();
    let power = Arc::new(PowerProgram::new(settings.poweroff.clone()));
    let imds = Arc::new(Imds::new(&settings.metadata).map_err(|error| chain(&error))?);
    tokio::pin!(shutdown);
    let (identity, config) = tokio::select! {
        // Cancel-safe: the questions are asked anew by the next agent.
        () = &mut shutdown => return Ok(()),
        known = discover(&*imds, &*power, &status, &mut supervisor, started, unclaimed()) => known,
    };
    tracing::info!(instance = %identity.arn, pool = %config.pool, "the agent starts");
    let clock = AwsClock::new(started, &SystemClock);
    let sdk = proto::aws::sdk_config(Some(config.region.clone())).await;
    let client = aws_sdk_dynamodb::config::Builder::from(&sdk)
        .time_source(clock.clone())
        .interceptor(clock.clone());
    let world = World {
        table: Arc::new(DynamoTable::new(
            Client::from_conf(client.build()),
            config.table.clone(),
        )),
        host: Arc::new(Machinery {
            state_dir: settings.state_dir.clone(),
            runner_dir: settings.runner_dir.clone(),
            runner_user: settings.runner_user.clone(),
            system: System {
                docker_socket: settings.docker.clone(),
                ..System::default()
            },
            instance: identity.arn.id().clone(),
            jobs_may_use_role: config.jobs_may_use_instance_role,
            jobs: config.jobs.clone(),
            post_release_within: Duration::try_from_secs_f64(config.times.post_release)
                .unwrap_or_default(),
            docker: config.docker.then(|| settings.docker.clone()),
        }),
        metadata: imds,
        power,
        clock: Arc::new(clock),
        machine_clock: Arc::new(SystemClock),
        started,
    };
    run(world, config, identity.arn, &status, shutdown).await;
    Ok(())
}

/// Two agents with one state folder would fight over one runner.
fn lock(state_dir: &Path) -> Result<Flock<File>, Cause> {
    let path = state_dir.join("lock");
    let file = File::create(&path).map_err(|error| chain(&FileError::of("make", &path)(error)))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, error)| {
        let folder = state_dir.display();
        format!("another agent runs with the state folder {folder}: {error}")
    })
}

/// How long a machine waits for somebody to want it, while no configuration says so.
fn unclaimed() -> Duration {
    Duration::try_from_secs_f64(Times::default().unclaimed).unwrap_or_default()
}

/// Asks until there is an identity and a configuration.
///
/// A machine that surely is no pool's is left alone: it was only made from a pool's image. One
/// that may be a pool's, and of which nothing comes, is switched off after `patience`.
async fn discover(
    metadata: &impl Metadata,
    power: &impl Power,
    status: &StatusFile,
    supervisor: &mut Supervisor,
    started: Instant,
    patience: Duration,
) -> (Identity, AgentConfig) {
    let mut pause = FIRST_PAUSE;
    let mut known = None;
    let mut said = None;
    // Since when nothing comes of this machine.
    let mut useless: Option<Duration> = None;
    loop {
        let trouble = match ask(metadata, &mut known).await {
            Ok(config) => match known {
                Some(identity) => return (identity, config),
                None => Trouble::Passing("no identity".to_owned()),
            },
            Err(trouble) => trouble,
        };
        let (text, mut wait) = match trouble {
            Trouble::Foreign(text) => {
                useless = None;
                (text, SLOW)
            }
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
        }
        let now = started.elapsed();
        if wait < SLOW && now.saturating_sub(*useless.get_or_insert(now)) >= patience {
            tracing::warn!("switching off, for nothing comes of this machine: {text}");
            if let Err(cause) = power.off().await {
                tracing::warn!("cannot switch the machine off: {cause}");
            }
            wait = OFF_AGAIN;
        }
        supervisor.say(&text);
        // To ask again is all the progress there can be.
        supervisor.turned(now, Duration::ZERO);
        said = Some(text);
        tokio::time::sleep(wait.min(supervisor.longest_sleep())).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

enum Trouble {
    /// May be over in a moment, or never.
    Passing(Cause),
    /// The machine is no pool's.
    Foreign(Cause),
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
    let user_data = user_data.ok_or_else(|| Trouble::Foreign(none.to_owned()))?;
    userdata::parse(&user_data).map_err(|error| match error {
        InvalidUserData::Foreign => Trouble::Foreign(chain(&error)),
        InvalidUserData::Cut
        | InvalidUserData::Compression(_)
        | InvalidUserData::Text(_)
        | InvalidUserData::Json(_)
        | InvalidUserData::Version { .. } => Trouble::Passing(chain(&error)),
    })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use async_trait::async_trait;

    use super::*;
    use crate::machine::Notices;

    struct Service(Result<Option<&'static str>, &'static str>);

    #[async_trait]
    impl Metadata for Service {
        async fn identity(&self) -> Result<Identity, Cause> {
            let arn = "arn:aws:ec2:us-east-1:123456789012:instance/i-0123456789abcdef0";
            Ok(Identity {
                arn: arn.to_owned().try_into().unwrap(),
                region: "us-east-1".into(),
            })
        }

        async fn user_data(&self) -> Result<Option<Vec<u8>>, Cause> {
            Ok(self.0?.map(|text| text.as_bytes().to_vec()))
        }

        async fn may_be_taken_away(&self) -> Result<bool, Cause> {
            Ok(false)
        }

        async fn notices(&self) -> Result<Notices, Cause> {
            Ok(Notices::default())
        }
    }

    #[derive(Default)]
    struct Switch(AtomicU32);

    #[async_trait]
    impl Power for Switch {
        async fn off(&self) -> Result<(), Cause> {
            self.0.fetch_add(1, Ordering::Relaxed);
            Ok(())
        }
    }

    #[tokio::test]
    async fn only_a_machine_that_may_be_a_pools_is_switched_off() {
        let odd = "#!/bin/sh\n: <<'PADDOCK_CONFIGURATION'\n{\"v\":9}\nPADDOCK_CONFIGURATION\n";
        let cases = [
            (Ok(None), false),
            (Ok(Some("#!/bin/sh\ntrue\n")), false),
            (Ok(Some(odd)), true),
            (Ok(Some(&odd[..60])), true),
            (Err("unreachable"), true),
        ];
        for (answer, off) in cases {
            let folder = tempfile::tempdir().unwrap();
            let status = StatusFile::of(folder.path());
            let switch = Switch::default();
            let service = Service(answer);
            let patience = Duration::from_millis(100);
            let mut supervisor = Supervisor::new();
            let began = Instant::now();
            let found = discover(&service, &switch, &status, &mut supervisor, began, patience);
            let found = tokio::time::timeout(Duration::from_millis(500), found).await;
            assert!(found.is_err());
            assert_eq!(switch.0.load(Ordering::Relaxed) > 0, off, "{answer:?}");
        }
    }

    #[test]
    fn one_agent_at_a_time_has_a_state_folder() {
        let folder = tempfile::tempdir().unwrap();
        let first = lock(folder.path()).unwrap();
        let error = lock(folder.path()).unwrap_err();
        assert!(error.contains("another agent"), "{error}");
        drop(first);
        lock(folder.path()).unwrap();
    }
}
