//! Who this machine is and what its pool wants of it: asked until it is known.
//!
//! A machine that surely is no pool's is left alone: it was only made from a pool's image. One that
//! may be a pool's, and of which nothing comes, is switched off after a time; a computer that is none
//! of EC2's never is.

use std::time::Duration;

use proto::agent_config::{AgentConfig, Times};
use tokio::time::Instant;
use userdata::InvalidUserData;

use crate::{
    ports::{Cause, Identity, Metadata, Power, chain},
    status::{Snapshot, StatusFile},
    supervisor::Supervisor,
};

/// The first pause between two tries; doubled from then on.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// The longest pause as long as there is hope.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// Between two tries to switch off.
const OFF_AGAIN: Duration = Duration::from_secs(10);
/// The pause on a machine that seems to be no member of a pool.
const SLOW: Duration = Duration::from_mins(1);

/// Asks until there is an identity and a configuration.
pub(crate) async fn discover(
    metadata: &impl Metadata,
    power: &impl Power,
    status: &StatusFile,
    on_ec2: bool,
    started: Instant,
) -> (Identity, AgentConfig) {
    let mut patience = Patience::default();
    let mut supervisor = Supervisor::new();
    let mut known = None;
    let mut said = None;
    loop {
        let trouble = match ask(metadata, &mut known).await {
            Ok(found) => return found,
            // No metadata service is no surprise elsewhere.
            Err(Trouble::Passing(cause)) if !on_ec2 => {
                Trouble::Foreign(format!("this computer is none of EC2's: {cause}"))
            }
            Err(trouble) => trouble,
        };
        let text = trouble.cause();
        if said.as_deref() != Some(text) {
            tracing::warn!("no configuration: {text}");
            let arn = known.as_ref().map(|identity| &identity.arn);
            let phase = "without configuration";
            status.write(&Snapshot::starting(phase, arn, Some(text.to_owned())));
            said = Some(text.to_owned());
        }
        let now = started.elapsed();
        supervisor.say(text);
        // To ask again is all the progress there can be.
        supervisor.turned(now, Duration::ZERO);
        let Next { off, pause } = patience.after(&trouble, now);
        if off {
            tracing::warn!("switching off, for nothing comes of this machine: {text}");
            if let Err(cause) = power.off().await {
                tracing::warn!("cannot switch the machine off: {cause}");
            }
        }
        tokio::time::sleep(pause.min(supervisor.longest_sleep())).await;
    }
}

/// Why there is no configuration.
#[derive(Debug)]
enum Trouble {
    /// May be over in a moment, or never.
    Passing(Cause),
    /// The machine is no pool's.
    Foreign(Cause),
}

impl Trouble {
    fn cause(&self) -> &str {
        match self {
            Self::Passing(cause) | Self::Foreign(cause) => cause,
        }
    }
}

async fn ask(
    metadata: &impl Metadata,
    known: &mut Option<Identity>,
) -> Result<(Identity, AgentConfig), Trouble> {
    let identity = match known {
        Some(identity) => identity,
        none => none.insert(metadata.identity().await.map_err(Trouble::Passing)?),
    };
    let user_data = metadata.user_data().await.map_err(Trouble::Passing)?;
    let none = "this machine has no user data: it belongs to no pool";
    let user_data = user_data.ok_or_else(|| Trouble::Foreign(none.to_owned()))?;
    match userdata::parse(&user_data) {
        Ok(config) => Ok((identity.clone(), config)),
        Err(error @ InvalidUserData::Foreign) => Err(Trouble::Foreign(chain(&error))),
        Err(
            error @ (InvalidUserData::Cut
            | InvalidUserData::Compression(_)
            | InvalidUserData::Text(_)
            | InvalidUserData::Json(_)
            | InvalidUserData::Version { .. }),
        ) => Err(Trouble::Passing(chain(&error))),
    }
}

/// What to do after a try that failed.
#[derive(Debug, PartialEq, Eq)]
struct Next {
    /// Whether to switch the machine off.
    off: bool,
    /// How long to wait before the next try.
    pause: Duration,
}

/// How long there is hope for a machine.
#[derive(Debug, Default)]
struct Patience {
    tries: u32,
    /// Since when nothing comes of this machine, though it may be a pool's.
    useless: Option<Duration>,
}

impl Patience {
    fn after(&mut self, trouble: &Trouble, now: Duration) -> Next {
        let pause = (FIRST_PAUSE * (1 << self.tries.min(5))).min(LONGEST_PAUSE);
        self.tries += 1;
        match trouble {
            Trouble::Foreign(_) => {
                self.useless = None;
                Next {
                    off: false,
                    pause: SLOW,
                }
            }
            Trouble::Passing(_) => {
                let since = *self.useless.get_or_insert(now);
                let off = now.saturating_sub(since) >= unclaimed();
                Next {
                    off,
                    pause: if off { OFF_AGAIN } else { pause },
                }
            }
        }
    }
}

/// How long a machine waits for somebody to want it, while no configuration says so.
fn unclaimed() -> Duration {
    Duration::try_from_secs_f64(Times::default().unclaimed).unwrap_or_default()
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

    #[tokio::test(start_paused = true)]
    async fn only_a_machine_that_may_be_a_pools_is_switched_off() {
        let odd = "#!/bin/sh\n: <<'PADDOCK_CONFIGURATION'\n{\"v\":9}\nPADDOCK_CONFIGURATION\n";
        let cases = [
            (Ok(None), true, false),
            (Ok(Some("#!/bin/sh\ntrue\n")), true, false),
            (Ok(Some(odd)), true, true),
            (Ok(Some(&odd[..60])), true, true),
            (Err("unreachable"), true, true),
            (Err("unreachable"), false, false),
        ];
        for (answer, on_ec2, off) in cases {
            let folder = tempfile::tempdir().unwrap();
            let status = StatusFile::of(folder.path());
            let switch = Switch::default();
            let service = Service(answer);
            let offs = || switch.0.load(Ordering::Relaxed);
            let found = discover(&service, &switch, &status, on_ec2, Instant::now());
            tokio::pin!(found);
            let mut wait = async |time| tokio::time::timeout(time, &mut found).await.is_err();
            assert!(wait(unclaimed().saturating_sub(LONGEST_PAUSE)).await);
            assert_eq!(offs(), 0, "{answer:?}");
            // Tried until it works.
            assert!(wait(OFF_AGAIN * 3).await);
            assert_eq!(offs() > 1, off, "{answer:?}");
        }
    }

    #[test]
    fn tries_become_rarer_and_hope_ends() {
        let mut patience = Patience::default();
        let passing = Trouble::Passing("busy".to_owned());
        let pauses: Vec<u128> = (0..7)
            .map(|_| patience.after(&passing, Duration::ZERO).pause.as_millis())
            .collect();
        assert_eq!(pauses, [200, 400, 800, 1600, 3200, 5000, 5000]);
        let late = unclaimed();
        let off = Next {
            off: true,
            pause: OFF_AGAIN,
        };
        assert_eq!(patience.after(&passing, late), off);
        // Whoever turns out to be no pool's is not counted at.
        patience.after(&Trouble::Foreign("mine".to_owned()), late);
        assert!(!patience.after(&passing, late).off);
    }
}
