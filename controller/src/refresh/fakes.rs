//! A world in memory that behaves: a queue counts its messages, a template its versions, and a
//! machine that is terminated is not alive any more.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use proto::{
    config::Image,
    ids::{InstanceId, PoolName, RunId},
    instance::Secret,
    message::PoolMessage,
    table::memory::MemoryTable,
    time::{Clock, Time},
};

use super::{
    RefreshPorts,
    table::{Feature, Setting, TableAdmin, TableState, TableTrouble},
};
use crate::{
    output::Masks,
    ports::{
        Deleted, Fleet, FleetAnswer, FleetError, FleetRequest, Forge, ForgeRunner, Launched, Lease,
        Machine, Pool, PortError, QueueState, RunState, RunnerToken, TemplateContent,
        TemplateState, Unknown,
    },
};

pub(super) const TABLE_ARN: &str = "arn:aws:dynamodb:us-east-1:123456789012:table/paddock-p";

/// Everything outside the table.
#[derive(Debug, Default)]
pub(super) struct World {
    pub(super) now: i64,
    pub(super) table: Option<TableState>,
    pub(super) queues: BTreeMap<String, Vec<PoolMessage>>,
    /// Messages that somebody leased, by handle.
    pub(super) leased: BTreeMap<String, PoolMessage>,
    /// What is odd about the queues' attributes.
    pub(super) odd_queue: Option<(String, String, String)>,
    pub(super) template: Option<TemplateState>,
    pub(super) machines: Vec<Machine>,
    pub(super) tokens: u32,
    pub(super) images_asked: u32,
    pub(super) runners: Vec<ForgeRunner>,
    pub(super) runs: BTreeMap<RunId, RunState>,
    /// How many more machines EC2 launches, if there is a limit.
    pub(super) capacity: Option<u32>,
    pub(super) launches: Vec<FleetRequest>,
    /// The operation that fails, if any.
    pub(super) broken: Option<&'static str>,
}

#[derive(Clone, Default)]
pub(super) struct Fakes(Arc<Mutex<World>>);

impl Fakes {
    pub(super) fn with<T>(&self, act: impl FnOnce(&mut World) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// As [`Self::with`], unless this operation is the broken one.
    fn call<T>(
        &self,
        operation: &'static str,
        act: impl FnOnce(&mut World) -> T,
    ) -> Result<T, PortError> {
        self.with(|world| {
            if world.broken == Some(operation) {
                return Err(PortError {
                    operation: operation.to_owned(),
                    code: None,
                    source: "broken for the test".into(),
                });
            }
            Ok(act(world))
        })
    }

    pub(super) fn ports(&self, table: Arc<MemoryTable>) -> RefreshPorts {
        RefreshPorts {
            admin: Arc::new(self.clone()),
            table,
            pool: Arc::new(self.clone()),
            fleet: Arc::new(self.clone()),
            forge: Arc::new(self.clone()),
            clock: Arc::new(self.clone()),
            chance: Arc::new(|| 0.5),
            masks: Masks::Off,
        }
    }
}

impl Clock for Fakes {
    fn now(&self) -> Time {
        self.with(|world| Time::from_millis(world.now))
    }
}

#[async_trait]
impl TableAdmin for Fakes {
    async fn observe(&self) -> Result<Option<TableState>, TableTrouble> {
        Ok(self.call("observe", |world| world.table.clone())?)
    }

    async fn create(&self, _: &PoolName) -> Result<(), PortError> {
        self.call("create", |world| {
            world.table = Some(TableState {
                arn: TABLE_ARN.to_owned(),
                expiry: Setting::Off,
                recovery: Setting::Off,
                index: Setting::On,
            });
        })
    }

    async fn turn_on(&self, feature: Feature) -> Result<(), PortError> {
        self.call("turn_on", |world| {
            let table = world.table.as_mut().expect("the table is made first");
            match feature {
                Feature::Index => table.index = Setting::On,
                Feature::Expiry => table.expiry = Setting::On,
                Feature::Recovery => table.recovery = Setting::On,
            }
        })
    }
}

#[async_trait]
impl Pool for Fakes {
    async fn receive(
        &self,
        queue_url: &str,
        most: usize,
        _: Duration,
        _: Duration,
    ) -> Result<Vec<Lease>, PortError> {
        self.call("receive", |world| {
            let queue = world.queues.entry(queue_url.to_owned()).or_default();
            let messages: Vec<PoolMessage> = queue.drain(..queue.len().min(most)).collect();
            let lease = |message: PoolMessage| {
                let handle = format!("handle-{}", world.leased.len());
                let body = message.body();
                world.leased.insert(handle.clone(), message);
                Lease {
                    id: handle.clone(),
                    body,
                    handle,
                }
            };
            messages.into_iter().map(lease).collect()
        })
    }

    async fn delete(&self, _: &str, handles: &[String]) -> Result<(), PortError> {
        self.call("delete", |world| {
            world.leased.retain(|handle, _| !handles.contains(handle));
        })
    }

    async fn give_back(&self, queue_url: &str, handles: &[String]) -> Result<(), PortError> {
        self.call("give_back", |world| {
            for handle in handles {
                let message = world.leased.remove(handle);
                let queue = world.queues.entry(queue_url.to_owned()).or_default();
                queue.extend(message);
            }
        })
    }

    async fn send(&self, queue_url: &str, messages: &[PoolMessage]) -> Result<(), PortError> {
        self.call("send", |world| {
            let queue = world
                .queues
                .get_mut(queue_url)
                .expect("a queue that is there");
            queue.extend_from_slice(messages);
        })
    }

    async fn ensure_queue(&self, name: &str) -> Result<String, PortError> {
        self.call("ensure_queue", |world| {
            let url = format!("http://sqs/{name}");
            world.odd_queue = None;
            world.queues.entry(url.clone()).or_default();
            url
        })
    }

    async fn queue(&self, queue_url: &str) -> Result<Option<QueueState>, PortError> {
        self.call("queue", |world| {
            let odd = world.odd_queue.clone().into_iter().collect();
            world.queues.get(queue_url).map(|queue| QueueState {
                messages: queue.len() as u64,
                odd,
            })
        })
    }

    async fn delete_queue(&self, queue_url: &str) -> Result<(), PortError> {
        self.call("delete_queue", |world| drop(world.queues.remove(queue_url)))
    }
}

#[async_trait]
impl Fleet for Fakes {
    async fn launch(&self, request: &FleetRequest) -> Result<FleetAnswer, PortError> {
        self.call("launch", |world| {
            let left = world.capacity.unwrap_or(u32::MAX);
            let count = request.count.min(left);
            world.capacity = world.capacity.map(|left| left - count);
            world.launches.push(request.clone());
            let launched: Vec<Launched> = (0..count)
                .map(|_| {
                    let number = 0x1000 + world.machines.len();
                    let id: InstanceId = format!("i-{number:017x}").parse().expect("an id");
                    world.machines.push(Machine {
                        id: id.clone(),
                        alive: true,
                        launched_at: Time::from_millis(world.now),
                        fleet: Some(request.client_token.clone()),
                    });
                    Launched {
                        id,
                        instance_type: "m6i.large".to_owned(),
                        zone: "us-east-1a".to_owned(),
                    }
                })
                .collect();
            let short = (count < request.count).then(|| FleetError {
                code: "InsufficientInstanceCapacity".to_owned(),
                message: "there is none".to_owned(),
                subnet_id: None,
            });
            FleetAnswer {
                launched,
                errors: short.into_iter().collect(),
            }
        })
    }

    async fn terminate(
        &self,
        ids: &[InstanceId],
        _: Unknown,
    ) -> Result<Vec<(InstanceId, PortError)>, PortError> {
        self.call("terminate", |world| {
            for machine in &mut world.machines {
                machine.alive &= !ids.contains(&machine.id);
            }
            Vec::new()
        })
    }

    async fn machines(&self, _: &PoolName) -> Result<Vec<Machine>, PortError> {
        self.call("machines", |world| world.machines.clone())
    }

    async fn image(&self, id: &str) -> Result<Option<Image>, PortError> {
        self.call("image", |world| {
            world.images_asked += 1;
            (id != "ami-gone").then(|| Image {
                id: id.to_owned(),
                root_device: "/dev/xvda".to_owned(),
                root_gib: 8,
            })
        })
    }

    async fn template(&self, _: &str) -> Result<Option<TemplateState>, PortError> {
        self.call("template", |world| world.template.clone())
    }

    async fn put_template(
        &self,
        _: &str,
        content: &TemplateContent,
        content_hash: &str,
    ) -> Result<TemplateState, PortError> {
        self.call("put_template", |world| {
            let content = content.with_image(content.image.id.clone());
            let template = world.template.get_or_insert_with(|| TemplateState {
                id: "lt-1".to_owned(),
                version: 0,
                content: content.clone(),
                versions: BTreeMap::new(),
            });
            let newest = template.versions.keys().next_back().unwrap_or(&0);
            let version = template.version_with(content_hash).unwrap_or(newest + 1);
            template
                .versions
                .insert(version, Some(content_hash.to_owned()));
            template.version = version;
            template.content = content;
            template.clone()
        })
    }

    async fn delete_versions(&self, _: &str, versions: &[i64]) -> Result<(), PortError> {
        self.call("delete_versions", |world| {
            let template = world.template.as_mut().expect("a template that is there");
            template
                .versions
                .retain(|version, _| !versions.contains(version));
        })
    }
}

#[async_trait]
impl Forge for Fakes {
    async fn registration_token(&self) -> Result<RunnerToken, PortError> {
        self.call("registration_token", |world| token(world, 3_600_000))
    }

    async fn removal_token(&self) -> Result<RunnerToken, PortError> {
        self.call("removal_token", |world| token(world, 3_500_000))
    }

    async fn runners(&self) -> Result<Vec<ForgeRunner>, PortError> {
        self.call("runners", |world| world.runners.clone())
    }

    async fn delete_runner(&self, id: u64) -> Result<Deleted, PortError> {
        self.call("delete_runner", |world| {
            world.runners.retain(|runner| runner.id != id);
            Deleted::Yes
        })
    }

    async fn run(&self, _: Option<&str>, run: &RunId) -> Result<RunState, PortError> {
        self.call("run", |world| {
            let known = world.runs.get(run).copied();
            known.unwrap_or(RunState::Unknown)
        })
    }
}

fn token(world: &mut World, life: i64) -> RunnerToken {
    world.tokens += 1;
    RunnerToken {
        token: Secret::new(format!("token {}", world.tokens)),
        expires_at: Time::from_millis(world.now + life),
    }
}
