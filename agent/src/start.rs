//! From nothing to a configured agent.

use std::{fs::File, path::Path, sync::Arc, time::Duration};

use aws_sdk_dynamodb::{
    Client,
    config::{StalledStreamProtectionConfig, timeout::TimeoutConfig},
};
use nix::fcntl::{Flock, FlockArg};
use proto::{aws::AwsClock, table::dynamo::DynamoTable, time::SystemClock};
use tokio::time::Instant;

use crate::{
    cli::Settings,
    discover::discover,
    files::FileError,
    host::{Machinery, System, make_private},
    imds::{self, Imds},
    ports::{Cause, chain},
    power::PowerProgram,
    run::{World, run},
    status::StatusFile,
    supervisor,
};

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
    // Closed, and so unlocked, with this process; what it starts does not inherit it.
    let _lock = match lock(&settings.state.state_dir) {
        Ok(lock) => Some(lock),
        Err(NotLocked::Another(cause)) => return Err(cause),
        // Boot reports it, and then the machine ends. To give up here would leave it to run for
        // ever; a job that an earlier agent began goes on.
        Err(NotLocked::Folder(cause)) => {
            tracing::error!("the agent cannot keep its state: {cause}");
            None
        }
    };
    // In memory, as a rule: what a full disk does to the machine is to be seen there.
    if let Err(cause) = make_private(&settings.run.run_dir) {
        tracing::warn!("`agent status` will know nothing: {cause}");
    }
    let status = StatusFile::of(&settings.run.run_dir);
    supervisor::ready();
    let power = Arc::new(PowerProgram::new(settings.poweroff.clone()));
    let service = Arc::new(Imds::new(&settings.metadata).map_err(|error| chain(&error))?);
    // Whoever names another place knows that there is a service.
    let on_ec2 = settings.metadata != imds::USUAL || imds::is_ec2(Path::new("/sys"));
    tokio::pin!(shutdown);
    let (identity, config) = tokio::select! {
        // Cancel-safe: the questions are asked anew by the next agent.
        () = &mut shutdown => return Ok(()),
        known = discover(&*service, &*power, &status, on_ec2, started) => known,
    };
    tracing::info!(instance = %identity.arn, pool = %config.pool, "the agent starts");
    let clock = AwsClock::new(started, &SystemClock);
    let sdk = proto::aws::sdk_config(Some(config.region.clone())).await;
    let client = aws_sdk_dynamodb::config::Builder::from(&sdk)
        .time_source(clock.clone())
        .interceptor(clock.clone())
        // The loop gives each call its time. Every timer more wakes a machine that waits.
        .timeout_config(
            TimeoutConfig::builder()
                .disable_operation_attempt_timeout()
                .build(),
        )
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled());
    let world = World {
        table: Arc::new(DynamoTable::new(
            &Client::from_conf(client.build()),
            config.table.clone(),
        )),
        host: Arc::new(Machinery {
            state_dir: settings.state.state_dir.clone(),
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
        metadata: service,
        power,
        clock: Arc::new(clock),
        machine_clock: Arc::new(SystemClock),
        started,
    };
    run(world, config, identity.arn, &status, shutdown).await;
    Ok(())
}

/// The state folder is not this agent's.
#[derive(Debug)]
enum NotLocked {
    /// Two agents with one state folder would fight over one runner.
    Another(Cause),
    /// It cannot be made or written to.
    Folder(Cause),
}

/// Makes the state folder and takes it.
fn lock(state_dir: &Path) -> Result<Flock<File>, NotLocked> {
    make_private(state_dir).map_err(NotLocked::Folder)?;
    let path = state_dir.join("lock");
    let file = File::create(&path)
        .map_err(|error| NotLocked::Folder(chain(&FileError::of("make", &path)(error))))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, error)| {
        let folder = state_dir.display();
        let cause = format!("another agent runs with the state folder {folder}: {error}");
        NotLocked::Another(cause)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_agent_at_a_time_has_a_state_folder() {
        let folder = tempfile::tempdir().unwrap();
        let first = lock(folder.path()).unwrap();
        let error = lock(folder.path()).unwrap_err();
        assert!(
            matches!(&error, NotLocked::Another(cause) if cause.contains("another agent")),
            "{error:?}"
        );
        drop(first);
        lock(folder.path()).unwrap();
    }
}
