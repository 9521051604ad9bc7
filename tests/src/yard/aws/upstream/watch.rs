//! Watches the instances of the other stand-in and announces their machines.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::super::ec2::{InstanceState, InstanceView};
use super::super::form::Form;
use super::super::{Launch, MachineEvent};
use super::Upstream;
use super::client::{Instance, Template};
use super::fleet::{TEMPLATE_TAG, VERSION_TAG};

/// Which pool an instance belongs to.
const POOL_TAG: &str = "paddock:pool";

const POLL: Duration = Duration::from_millis(100);

/// What the watcher knows of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    /// Seen once, without the tags that name its template; they may be on
    /// their way.
    Bare,
    Announced,
    Gone,
}

impl Upstream {
    /// Runs until `shutdown`.
    pub(in super::super) async fn watch(self: Arc<Self>, shutdown: CancellationToken) {
        let taken = self
            .stopping
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let Some(mut stopping) = taken else {
            return;
        };
        let mut known = BTreeMap::new();
        let mut tick = tokio::time::interval(POLL);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            // Both arms only wait, so nothing is lost when the other one wins.
            tokio::select! {
                () = shutdown.cancelled() => return,
                Some(id) = stopping.recv() => {
                    known.insert(id.clone(), Known::Gone);
                    self.client.terminate(&id).await;
                }
                _ = tick.tick() => self.look(&mut known).await,
            }
        }
    }

    async fn look(&self, known: &mut BTreeMap<String, Known>) {
        let Some(mut instances) = self.client.instances().await else {
            return;
        };
        if let Some(pool) = &self.pool {
            instances.retain(|one| one.tags().get(POOL_TAG) == Some(pool));
        }
        let missing: Vec<String> = known
            .keys()
            .filter(|id| !instances.iter().any(|one| one.id == **id))
            .cloned()
            .collect();
        for id in missing {
            if known.remove(&id) == Some(Known::Announced) {
                self.tell(MachineEvent::Terminated { id });
            }
        }
        self.state().instances = instances.iter().map(view).collect();
        for instance in instances {
            let id = instance.id.clone();
            let before = known.get(&id).copied();
            let after = if state(&instance).is_alive() {
                self.meet(instance, before).await
            } else {
                if before == Some(Known::Announced) {
                    self.tell(MachineEvent::Terminated { id: id.clone() });
                }
                Known::Gone
            };
            known.insert(id, after);
        }
    }

    /// An instance that lives.
    async fn meet(&self, instance: Instance, before: Option<Known>) -> Known {
        if let Some(settled @ (Known::Announced | Known::Gone)) = before {
            return settled;
        }
        let tags = instance.tags();
        let template = match self.template_of(&tags).await {
            Some(template) => template,
            None if before.is_none() => return Known::Bare,
            None => Template::default(),
        };
        let id = instance.id.clone();
        self.tell(MachineEvent::Launched(Launch {
            arn: format!("arn:aws:ec2:{}:{}:instance/{id}", self.region, self.account),
            id,
            region: self.region.clone(),
            account: self.account.clone(),
            zone: instance.zone().to_owned(),
            instance_type: instance.kind.clone(),
            image_id: instance.image_id.clone(),
            spot: instance.spot(),
            user_data: template.user_data,
            tags,
            instance_profile: template.profile,
        }));
        Known::Announced
    }

    /// The template that the tags name.
    async fn template_of(&self, tags: &BTreeMap<String, String>) -> Option<Template> {
        let id = tags.get(TEMPLATE_TAG)?;
        let version = tags.get(VERSION_TAG)?;
        let key = (id.clone(), version.clone());
        let cached = self.state().templates.get(&key).cloned();
        if cached.is_some() {
            return cached;
        }
        let mut named = Form::default();
        named.insert("LaunchTemplateId", id.clone()).ok()?;
        named.insert("Version", version.clone()).ok()?;
        let template = self.client.template(&named).await?;
        self.state().templates.insert(key, template.clone());
        Some(template)
    }

    fn tell(&self, event: MachineEvent) {
        if self.events.send(event).is_err() {
            tracing::debug!("nobody runs machines for the upstream AWS");
        }
    }
}

fn state(instance: &Instance) -> InstanceState {
    match instance.state() {
        "pending" => InstanceState::Pending,
        "running" => InstanceState::Running,
        "shutting-down" | "stopping" => InstanceState::ShuttingDown,
        _ => InstanceState::Terminated,
    }
}

fn view(instance: &Instance) -> InstanceView {
    InstanceView {
        id: instance.id.clone(),
        state: state(instance),
        instance_type: instance.kind.clone(),
        zone: instance.zone().to_owned(),
        spot: instance.spot(),
        tags: instance.tags(),
    }
}
