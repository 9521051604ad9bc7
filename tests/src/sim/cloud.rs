//! EC2.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use agent::machine::{Ages, Saved};
use async_trait::async_trait;
use controller::ports::{
    Fleet, FleetAnswer, FleetError, FleetRequest, Launched, Machine, PortError, TemplateContent,
    TemplateState, Unknown,
};
use proto::{
    config::Image,
    ids::{InstanceId, Label, PoolName},
    time::Time,
};
use rand::RngExt;
use tokio::sync::Notify;

use super::{
    fault::Fault,
    invariant,
    listener::Listener,
    machine,
    process::{Process, Role},
    queue::failed,
    world::{Sim, State},
};

/// EC2's side of the world.
#[derive(Default)]
pub(super) struct Cloud {
    pub(super) machines: BTreeMap<InstanceId, Vm>,
    /// What each fleet request came to, by its client token.
    fleets: BTreeMap<String, FleetAnswer>,
    pub(super) template: Option<TemplateState>,
}

/// A machine.
pub(super) struct Vm {
    launched_at: Time,
    /// `paddock:fleet`
    pub(super) fleet: String,
    pub(super) alive: bool,
    /// Whether EC2 itself took it.
    pub(super) taken: bool,
    /// When its own agent switched it off.
    pub(super) left_at: Option<Time>,
    /// When EC2 will take it, once it has said so.
    pub(super) notice: Option<Time>,
    /// Whether EC2 recommended to move away from it.
    pub(super) at_risk: bool,
    /// EC2 does not show it before this.
    shown_from: Duration,
    /// Wakes whoever runs on it when it ends.
    pub(super) ended: Arc<Notify>,
    pub(super) booted: Option<Result<(), String>>,
    pub(super) saved: Option<Saved>,
    pub(super) ages: Option<Ages>,
    /// Who registers its runner just now, and under which label.
    pub(super) registering: Option<(Process, Label)>,
    /// The runner that its runner program is configured as.
    pub(super) configured: Option<String>,
    pub(super) listener: Option<Listener>,
}

/// Who ends a machine.
pub(super) enum By<'a> {
    Process(&'a Process),
    /// EC2 takes it away.
    Ec2,
}

impl State {
    pub(super) fn vm(&mut self, id: &InstanceId) -> Option<&mut Vm> {
        self.cloud.machines.get_mut(id)
    }

    pub(super) fn is_alive(&self, id: &InstanceId) -> bool {
        self.cloud.machines.get(id).is_some_and(|vm| vm.alive)
    }

    /// A machine ends, with everything on it.
    pub(super) fn end_machine(&mut self, id: &InstanceId, by: &By<'_>) {
        if !self.is_alive(id) {
            return;
        }
        match by {
            By::Process(process) => {
                self.say(process, format!("ends {id}"));
                invariant::before_end(self, process, id);
            }
            By::Ec2 => {
                self.say("ec2", format!("takes {id} away"));
            }
        }
        let by_itself =
            matches!(by, By::Process(process) if matches!(process.role, Role::Agent(_)));
        let left_at = by_itself.then_some(self.time());
        if let Some(vm) = self.vm(id) {
            vm.alive = false;
            vm.left_at = left_at;
            vm.taken = matches!(by, By::Ec2) || vm.notice.is_some();
            vm.listener = None;
            vm.ended.notify_waiters();
        }
        self.machine_is_gone(id);
    }
}

pub(super) struct SimFleet(pub(super) Process);

fn launch(sim: &Sim, process: &Process, request: &FleetRequest) -> FleetAnswer {
    let (answer, new) = sim.step(|state| {
        if let Some(answer) = state.cloud.fleets.get(&request.client_token) {
            let answer = answer.clone();
            let what = format!("asks again for fleet {}", request.client_token);
            state.say(process, what);
            return (answer, Vec::new());
        }
        invariant::before_launch(state, request);
        let count = if state.strikes(Fault::ShortFleet) {
            state.rng.random_range(0..request.count)
        } else {
            request.count
        };
        let what = format!(
            "fleet {}: {count} of {}",
            request.client_token, request.count
        );
        state.say(process, what);
        let launched: Vec<Launched> = (0..count)
            .map(|_| new_machine(state, sim.time(), request))
            .collect();
        let short = FleetError {
            code: "InsufficientInstanceCapacity".to_owned(),
            message: "there is no more".to_owned(),
            subnet_id: None,
        };
        let answer = FleetAnswer {
            launched: launched.clone(),
            errors: if count < request.count {
                vec![short]
            } else {
                Vec::new()
            },
        };
        let token = request.client_token.clone();
        state.cloud.fleets.insert(token, answer.clone());
        (answer, launched)
    });
    for launched in new {
        tokio::spawn(machine::live(sim.clone(), launched.id));
    }
    answer
}

fn new_machine(state: &mut State, launched_at: Time, request: &FleetRequest) -> Launched {
    let number = state.cloud.machines.len() + 1;
    let id: InstanceId = format!("i-{number:017x}").parse().expect("a valid id");
    let hidden = if state.strikes(Fault::HiddenMachine) {
        state.between(Duration::ZERO, Duration::from_secs(20))
    } else {
        Duration::ZERO
    };
    let vm = Vm {
        launched_at,
        fleet: request.client_token.clone(),
        alive: true,
        taken: false,
        left_at: None,
        notice: None,
        at_risk: false,
        shown_from: state.now() + hidden,
        ended: Arc::default(),
        booted: None,
        saved: None,
        ages: None,
        registering: None,
        configured: None,
        listener: None,
    };
    state.cloud.machines.insert(id.clone(), vm);
    state.count("machines launched");
    let alive = state.cloud.machines.values().filter(|vm| vm.alive).count() as u64;
    let most = state.counts.entry("machines at once, at most").or_default();
    *most = alive.max(*most);
    Launched {
        id,
        instance_type: "m6i.large".to_owned(),
        zone: "us-east-1a".to_owned(),
    }
}

#[async_trait]
impl Fleet for SimFleet {
    async fn launch(&self, request: &FleetRequest) -> Result<FleetAnswer, PortError> {
        let wanted = request.clone();
        let process = &self.0;
        process
            .pause(Duration::from_millis(500), Duration::from_secs(3))
            .await;
        process
            .call(move |process| launch(&process.sim, process, &wanted))
            .await
            .map_err(failed("launch machines"))
    }

    async fn terminate(
        &self,
        ids: &[InstanceId],
        _: Unknown,
    ) -> Result<Vec<(InstanceId, PortError)>, PortError> {
        let ids = ids.to_vec();
        let refused = self
            .0
            .call(move |process| {
                process.sim.step(|state| {
                    let (refused, ended): (Vec<InstanceId>, Vec<InstanceId>) = ids
                        .iter()
                        .cloned()
                        .partition(|_| state.strikes(Fault::RefusedTermination));
                    for id in &ended {
                        state.end_machine(id, &By::Process(process));
                    }
                    refused
                })
            })
            .await
            .map_err(failed("terminate machines"))?;
        let error = || failed("terminate a machine")(super::process::Broken::Unanswered);
        Ok(refused.into_iter().map(|id| (id, error())).collect())
    }

    async fn machines(&self, _: &PoolName) -> Result<Vec<Machine>, PortError> {
        self.0
            .call(|process| {
                process.sim.step(|state| {
                    let now = state.now();
                    let shown = state.cloud.machines.iter();
                    let shown = shown.filter(|(_, vm)| vm.shown_from <= now);
                    shown
                        .map(|(id, vm)| Machine {
                            id: id.clone(),
                            alive: vm.alive,
                            launched_at: vm.launched_at,
                            fleet: Some(vm.fleet.clone()),
                        })
                        .collect()
                })
            })
            .await
            .map_err(failed("list machines"))
    }

    async fn image(&self, id: &str) -> Result<Option<Image>, PortError> {
        let image = Image {
            id: id.to_owned(),
            root_device: "/dev/xvda".to_owned(),
            root_gib: 8,
        };
        self.0
            .call(move |_| Some(image.clone()))
            .await
            .map_err(failed("look up the image"))
    }

    async fn template(&self, _: &str) -> Result<Option<TemplateState>, PortError> {
        self.0
            .call(|process| process.sim.step(|state| state.cloud.template.clone()))
            .await
            .map_err(failed("read the launch template"))
    }

    async fn put_template(
        &self,
        _: &str,
        content: &TemplateContent,
        content_hash: &str,
    ) -> Result<TemplateState, PortError> {
        let hash = content_hash.to_owned();
        let content = content.with_image(content.image.id.clone());
        self.0
            .call(move |process| {
                process.sim.step(|state| {
                    let mut new = state.cloud.template.clone().unwrap_or(TemplateState {
                        id: "lt-1".to_owned(),
                        version: 0,
                        content: content.clone(),
                        versions: BTreeMap::new(),
                    });
                    new.content.clone_from(&content);
                    new.version = new.version_with(&hash).unwrap_or_else(|| {
                        let last = new.versions.keys().last();
                        last.map_or(1, |last| last + 1)
                    });
                    new.versions.insert(new.version, Some(hash.clone()));
                    state.say(process, format!("template version {}", new.version));
                    state.cloud.template.insert(new).clone()
                })
            })
            .await
            .map_err(failed("write the launch template"))
    }

    async fn delete_versions(&self, _: &str, versions: &[i64]) -> Result<(), PortError> {
        let versions = versions.to_vec();
        self.0
            .call(move |process| {
                process.sim.step(|state| {
                    if let Some(template) = &mut state.cloud.template {
                        template
                            .versions
                            .retain(|version, _| !versions.contains(version));
                    }
                });
            })
            .await
            .map_err(failed("delete versions of the launch template"))
    }
}
