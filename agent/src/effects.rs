//! Has done what the machine decides. What takes time runs as a task and reports back as an event.

use std::{sync::Arc, time::Duration};

use proto::{
    agent_config::AgentConfig,
    ids::InstanceArn,
    table::{Outcome, Table, TableError, TableErrorKind},
};
use tokio::sync::mpsc::UnboundedSender;

use crate::{
    machine::{Answer, Call, Effect, Event, Vitals},
    ports::chain,
    run::World,
};

/// How long the table may take to answer: then the beat would be late, and another try is better
/// than more patience.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// How long a look at the own machine may take.
const SEEN_WITHIN: Duration = Duration::from_secs(10);

/// Performs effects.
pub(crate) struct Effects {
    world: World,
    config: Arc<AgentConfig>,
    arn: InstanceArn,
    events: UnboundedSender<Event>,
}

impl Effects {
    pub(crate) fn new(
        world: World,
        config: AgentConfig,
        arn: InstanceArn,
        events: UnboundedSender<Event>,
    ) -> Self {
        Self {
            world,
            config: Arc::new(config),
            arn,
            events,
        }
    }

    /// Starts what is to be done, and returns at once.
    pub(crate) fn perform(&self, effect: Effect) {
        let World {
            table, host, power, ..
        } = self.world.clone();
        let config = Arc::clone(&self.config);
        let events = self.events.clone();
        match effect {
            Effect::Boot => self.report(async move { Event::Booted(host.boot(&config).await) }),
            Effect::Table(call) => {
                if matches!(call, Call::Change(_)) {
                    host.reap();
                }
                let arn = self.arn.clone();
                self.report(async move { Event::Table(ask(&*table, &arn, call).await) });
            }
            Effect::Configure {
                tenant,
                token,
                within,
            } => self.report(async move {
                let result = host
                    .configure(&config.github_url, &tenant, &token, within)
                    .await;
                Event::Configured(result)
            }),
            Effect::Listen(run) => {
                tokio::spawn(async move { host.listen(run, events).await });
            }
            Effect::Adopt(run, listener, offset) => {
                tokio::spawn(async move { host.adopt(run, listener, offset, events).await });
            }
            Effect::Remove(token, listener) => {
                self.report(async move { Event::Removed(host.remove(&token, listener).await) });
            }
            Effect::Dismiss(listener) => {
                tokio::spawn(async move { host.dismiss(listener).await });
            }
            Effect::Retire(listener) => {
                self.report(async move { Event::Retired(host.retire(listener).await) });
            }
            Effect::Examine(listener) => {
                let off = self.world.clock_off();
                self.report(async move {
                    let seen = tokio::time::timeout(SEEN_WITHIN, host.examine(listener)).await;
                    Event::Examined(match seen {
                        Ok(Ok(vitals)) => Ok(Vitals {
                            clock_off: off,
                            ..vitals
                        }),
                        Ok(Err(cause)) => Err(cause),
                        Err(_) => Err("its file systems do not answer".to_owned()),
                    })
                });
            }
            Effect::Save(saved) => {
                if let Err(cause) = host.save(saved.as_ref()) {
                    tracing::error!("a restart of the agent would lose the runner: {cause}");
                }
            }
            Effect::PowerOff(reason) => {
                tracing::warn!("switching off: {reason}");
                tokio::spawn(async move {
                    if let Err(cause) = power.off().await {
                        // The loop is over when nobody hears it.
                        let _ = events.send(Event::PowerOffFailed(cause));
                    }
                });
            }
        }
    }

    fn report(&self, work: impl Future<Output = Event> + Send + 'static) {
        let events = self.events.clone();
        tokio::spawn(async move {
            // The loop is over when nobody hears it.
            let _ = events.send(work.await);
        });
    }
}

/// What an operator can do about it.
fn advice(error: &TableError) -> &'static str {
    match error.kind {
        TableErrorKind::NoTable | TableErrorKind::NoIndex => {
            "; `controller refresh` makes it; is it in another region than the user data says?"
        }
        TableErrorKind::Denied => {
            "; has the instance profile its role, and the role the policy of a machine?"
        }
        TableErrorKind::Malformed => "; do agent and controller fit together?",
        TableErrorKind::Unavailable => "",
    }
}

async fn ask(table: &dyn Table, arn: &InstanceArn, call: Call) -> Result<Answer, String> {
    let answer = async {
        match call {
            Call::Look => Ok(Answer {
                record: table.instance(arn).await?.map(Box::new),
                applied: true,
            }),
            Call::Change(change) => Ok(match table.change_instance(arn, &change).await? {
                Outcome::Applied(record) => Answer {
                    record: Some(Box::new(record)),
                    applied: true,
                },
                Outcome::Conflict(record) => Answer {
                    record: record.map(Box::new),
                    applied: false,
                },
            }),
        }
    };
    match tokio::time::timeout(ANSWER_WITHIN, answer).await {
        Ok(result) => result.map_err(|error| chain(&error) + advice(&error)),
        Err(_) => Err(format!(
            "the table did not answer within {}",
            proto::time::human(ANSWER_WITHIN)
        )),
    }
}
