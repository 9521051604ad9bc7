//! `controller refresh` as a process.

use std::sync::Arc;

use async_trait::async_trait;
use controller::{
    output::Masks,
    ports::{PortError, RootVolume, TemplateContent},
    refresh::{
        ClassSpec, RefreshPorts, RefreshSettings,
        bounds::IdleRules,
        refresh,
        table::{Feature, Setting, TableAdmin, TableState, TableTrouble},
    },
};
use proto::ids::PoolName;

use super::{
    github::SimForge,
    process::{Doomed, End, Process, Role},
    steps::{Fortune, parameters, world},
    world::{Sim, pool_name},
};

struct Admin;

#[async_trait]
impl TableAdmin for Admin {
    async fn observe(&self) -> Result<Option<TableState>, TableTrouble> {
        Ok(Some(TableState {
            arn: "arn:aws:dynamodb:us-east-1:123456789012:table/paddock-p".to_owned(),
            expiry: Setting::On,
            recovery: Setting::On,
            index: Setting::On,
        }))
    }

    async fn create(&self, _: &PoolName) -> Result<(), PortError> {
        Ok(())
    }

    async fn turn_on(&self, _: Feature) -> Result<(), PortError> {
        Ok(())
    }
}

/// `controller refresh`: what it planned, if nothing of it failed.
pub(super) async fn run_refresh(sim: &Sim, fortune: &Fortune) -> Option<Vec<String>> {
    let process = Process::new(sim, "refresh", Role::Refresh, fortune.skew);
    let settings = RefreshSettings {
        pool: pool_name(),
        github_url: "https://github.com/acme/widgets".to_owned(),
        template: TemplateContent {
            image: sim.with(|state| format!("ami-{}", state.image)),
            root_volume: RootVolume {
                size_gib: None,
                kind: "gp3".to_owned(),
            },
            key_name: None,
            iam_instance_profile: "runner".to_owned(),
            security_group_ids: vec!["sg-1".to_owned()],
            user_data: Vec::new(),
            tags: Vec::new(),
        },
        classes: vec![ClassSpec {
            name: "large".parse().expect("a valid name"),
            cpu: 2,
            mmem: 4096,
        }],
        image_is_input: true,
        runner: None,
        ephemeral: false,
        parameters: parameters(sim.with(|state| state.idle_time)),
        idle: IdleRules::default(),
        dry_run: false,
    };
    let world = world(&process);
    let ports = RefreshPorts {
        admin: Arc::new(Admin),
        table: world.table,
        pool: world.pool,
        fleet: world.fleet,
        forge: Arc::new(SimForge(process.clone())),
        clock: world.clock,
        chance: world.chance,
        masks: Masks::Off,
    };
    let holder = process.to_string();
    let heard = process.clone();
    let mut out = move |line: &str| heard.sim.say(&heard, format!("“{line}”"));
    let program = Doomed {
        process: process.clone(),
        program: Box::pin(async { refresh(&settings, &holder, &ports, &mut out).await }),
        waits_left: fortune.waits_left,
        interrupted: None,
    };
    match program.await {
        End::Done(report) => {
            sim.with(|state| {
                state.count("refreshes");
                for (failed, error) in &report.failed {
                    state.say(&process, format!("could not {failed}: {error}"));
                }
            });
            let planned = report.planned.iter().map(ToString::to_string).collect();
            let done = report.failed.is_empty() && report.left_to.is_none();
            done.then_some(planned)
        }
        End::Killed => None,
    }
}
