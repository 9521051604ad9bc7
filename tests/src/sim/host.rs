//! The machine under an agent: its runner program, and what outlives the agent there.

use std::{sync::Arc, time::Duration};

use agent::{
    machine::{Ages, Ending, Event, ListenerId, Said, Saved, Tenant, Vitals},
    ports::{Cause, Host},
};
use async_trait::async_trait;
use proto::{agent_config::AgentConfig, ids::InstanceId, instance::Secret};
use rand::RngExt;
use tokio::sync::mpsc::UnboundedSender;

use super::{
    fault::Fault,
    github::{self, Runner},
    invariant,
    listener::{self, Ended, Listener},
    process::Process,
    world::Sim,
};

const MS: fn(u64) -> Duration = Duration::from_millis;
const SECS: fn(u64) -> Duration = Duration::from_secs;

/// The machine under the runner.
#[derive(Clone)]
pub(super) struct SimHost {
    pub(super) process: Process,
    pub(super) id: InstanceId,
}

impl SimHost {
    fn sim(&self) -> &Sim {
        &self.process.sim
    }

    /// Starts the listener; it outlives the agent.
    fn start(&self) -> Option<ListenerId> {
        let id = self.sim().step(|state| {
            let id = ListenerId {
                pid: state.rng.random_range(2..=i32::MAX),
                started: u64::try_from(state.now().as_millis()).unwrap_or(u64::MAX),
            };
            state.say(&self.process, format!("starts listener {}", id.pid));
            state.vm(&self.id)?.listener = Some(Listener {
                id,
                lines: Vec::new(),
                ended: None,
                stopped: false,
                news: Arc::default(),
            });
            Some(id)
        })?;
        tokio::spawn(listener::live(self.sim().clone(), self.id.clone(), id));
        Some(id)
    }

    /// Tells what a listener says from `offset` on, until it ends.
    async fn tail(
        &self,
        run: u64,
        listener: ListenerId,
        offset: u64,
        events: &UnboundedSender<Event>,
    ) {
        let mut next = usize::try_from(offset).unwrap_or(usize::MAX);
        loop {
            let heard = self.sim().with(|state| {
                let listener = state
                    .listener(&self.id)
                    .filter(|known| known.id == listener)?;
                let lines: Vec<Said> = listener.lines.iter().skip(next).cloned().collect();
                Some((lines, listener.ended, Arc::clone(&listener.news)))
            });
            self.process.live().await;
            // Nobody hears it when the agent is gone.
            let Some((lines, ended, news)) = heard else {
                let _ = events.send(Event::ListenerEnded(run, Ending::Unknown, String::new()));
                return;
            };
            for said in lines {
                next += 1;
                let _ = events.send(Event::ListenerSaid(run, said, next as u64));
            }
            if let Some(Ended(code)) = ended {
                let how = code.map_or(Ending::Unknown, Ending::Code);
                let _ = events.send(Event::ListenerEnded(run, how, "it ended".to_owned()));
                return;
            }
            news.notified().await;
        }
    }
}

#[async_trait]
impl Host for SimHost {
    async fn boot(&self, _: &AgentConfig) -> Result<String, Cause> {
        let known = self.sim().with(|state| state.vm(&self.id)?.booted.clone());
        if known.is_none() {
            self.process.pause(SECS(1), SECS(20)).await;
        }
        self.sim().step(|state| {
            let fails = state.strikes(Fault::BootFails);
            let booted = known.unwrap_or_else(|| {
                if fails {
                    Err("the script ended with exit code 3".to_owned())
                } else {
                    Ok(())
                }
            });
            if let Some(vm) = state.vm(&self.id) {
                vm.booted = Some(booted.clone());
            }
            booted.map(|()| "2.336.0".to_owned())
        })
    }

    async fn configure(
        &self,
        _: &str,
        tenant: &Tenant,
        _: &Secret,
        within: Duration,
    ) -> Result<(), Cause> {
        let registering = Some((self.process.clone(), tenant.label.clone()));
        self.sim().with(|state| {
            if let Some(vm) = state.vm(&self.id) {
                vm.registering = registering;
            }
        });
        let registered = self.process.pause(SECS(1), SECS(5));
        let in_time = tokio::time::timeout(within, registered).await;
        self.sim().step(|state| {
            if let Some(vm) = state.vm(&self.id) {
                vm.registering = None;
            }
            if in_time.is_err() {
                return Err("it took too long".to_owned());
            }
            if state.strikes(Fault::RegistrationFails) {
                return Err("GitHub refuses".to_owned());
            }
            let earlier = state.github.runners.get(&tenant.name);
            let died = earlier.is_some_and(|runner| runner.died);
            let runner = Runner {
                id: state.rng.random(),
                machine: self.id.clone(),
                label: tenant.label.clone(),
                online: false,
                died,
                job: None,
            };
            state.say(
                &self.process,
                format!("registers {} under {}", tenant.name, tenant.label),
            );
            state.github.runners.insert(tenant.name.clone(), runner);
            if state.strikes(Fault::RegistrationUnanswered) {
                return Err("GitHub does not answer".to_owned());
            }
            if let Some(vm) = state.vm(&self.id) {
                vm.configured = Some(tenant.name.clone());
            }
            Ok(())
        })
    }

    async fn listen(&self, run: u64, events: UnboundedSender<Event>) {
        self.process.live().await;
        let Some(id) = self.start() else { return };
        // Nobody hears it when the agent is gone.
        let _ = events.send(Event::ListenerStarted(run, id));
        self.tail(run, id, 0, &events).await;
    }

    async fn adopt(
        &self,
        run: u64,
        listener: ListenerId,
        offset: u64,
        events: UnboundedSender<Event>,
    ) {
        self.tail(run, listener, offset, &events).await;
    }

    async fn remove(&self, _: &Secret, _: Option<ListenerId>) -> Result<(), Cause> {
        self.process.pause(MS(200), SECS(2)).await;
        self.sim().step(|state| {
            if state.strikes(Fault::RemovalFails) {
                return Err("GitHub refuses".to_owned());
            }
            let Some(name) = state.vm(&self.id).and_then(|vm| vm.configured.clone()) else {
                return Ok(());
            };
            let busy = state.github.runners.get(&name);
            if busy.is_some_and(|runner| runner.job.is_some()) {
                return Err("the runner has a job".to_owned());
            }
            state.github.runners.remove(&name);
            state.say(&self.process, format!("deregisters {name}"));
            if let Some(vm) = state.vm(&self.id) {
                vm.configured = None;
            }
            Ok(())
        })
    }

    async fn dismiss(&self, listener: ListenerId) {
        self.process.pause(MS(5), MS(100)).await;
        let sim = self.sim();
        sim.step(|state| {
            let (begun, has_job) = (
                state.has_begun_a_job(&self.id),
                state.job_on(&self.id).is_some(),
            );
            let Some(listener) = state.listener(&self.id).filter(|now| now.id == listener) else {
                return;
            };
            if listener.ended.is_some() || (listener.stopped && has_job) {
                return;
            }
            if begun && !listener.stopped {
                listener.stopped = true;
                state.say(&self.process, "keeps the listener from its next job");
                return state.takes_no_job(&self.id);
            }
            let code = (!listener.stopped).then_some(0);
            listener.end(code);
            state.say(&self.process, "stops the idle listener");
            state.listener_stops(&self.id);
        });
        github::assign(sim);
    }

    async fn retire(&self, _: Option<ListenerId>) -> Result<(), Cause> {
        self.process.pause(MS(100), SECS(2)).await;
        self.sim().step(|state| {
            if state.strikes(Fault::CleaningFails) {
                return Err("a process cannot be killed".to_owned());
            }
            invariant::before_end(state, &self.process, &self.id);
            state.machine_is_gone(&self.id);
            state.say(&self.process, "stops the listener and cleans up");
            if let Some(listener) = state.listener(&self.id) {
                listener.end(None);
            }
            if let Some(vm) = state.vm(&self.id) {
                vm.listener = None;
            }
            Ok(())
        })
    }

    fn save(&self, saved: Option<&Saved>) -> Result<(), Cause> {
        if !self.process.is_dead() {
            self.sim().step(|state| {
                if let Some(vm) = state.vm(&self.id) {
                    vm.saved = saved.cloned();
                }
            });
        }
        Ok(())
    }

    /// As on a real machine: a listener that lives is found even if nobody remembered it.
    fn earlier(&self) -> Option<Saved> {
        self.sim().with(|state| {
            let alive = state.listener(&self.id).filter(|l| l.ended.is_none());
            let alive = alive.map(|listener| listener.id);
            let vm = state.vm(&self.id)?;
            let Some(mut saved) = vm.saved.clone() else {
                let name = vm.configured.clone().unwrap_or_default();
                return Saved::unremembered(&self.id, name, alive?);
            };
            if saved.listener.is_none() || saved.listener != alive {
                saved.listener = alive;
                saved.offset = 0;
                saved.listening = false;
                saved.job = None;
            }
            Some(saved)
        })
    }

    async fn examine(&self, listener: Option<ListenerId>) -> Result<Vitals, Cause> {
        self.process.pause(MS(10), MS(200)).await;
        let works = self.sim().with(|state| {
            let is = state.listener(&self.id).is_some();
            is.then(|| state.has_begun_a_job(&self.id))
        });
        Ok(Vitals {
            worker: listener.and(works),
            silent: listener.map(|_| Duration::ZERO),
            ..Vitals::default()
        })
    }

    fn keep(&self, ages: Ages) {
        if !self.process.is_dead() {
            self.sim().with(|state| {
                if let Some(vm) = state.vm(&self.id) {
                    vm.ages = Some(ages);
                }
            });
        }
    }

    fn ages(&self) -> Option<Ages> {
        self.sim().with(|state| state.vm(&self.id)?.ages)
    }

    fn reap(&self) {}
}
