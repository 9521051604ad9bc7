//! EC2 as far as Paddock uses it: launch templates, instant fleets, instances.
//!
//! Every action is one method of [`State`] that takes the parameters as a
//! [`Form`] and gives the inside of the answer as [`Xml`]; all run under one
//! lock, so each call is atomic.

mod error;
mod filter;
mod fleets;
mod instance_actions;
mod instances;
mod launch;
mod network;
mod offers;
mod placement;
mod tags;
mod template_actions;
mod templates;
mod types;
mod wishes;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::http::StatusCode;
use axum::response::Response;
use jiff::Timestamp;
use tokio::sync::mpsc::UnboundedSender;

use super::MachineEvent;
use super::capacity::Capacities;
use super::catalogue::Requirements;
use super::form::Form;
use super::service::{Request, ec2_error, request_id, xml_answer};
use super::settings::Settings;
use super::xml::Xml;
use error::Ec2Error;

pub use instances::{InstanceState, InstanceView};

/// The namespace of every answer.
const NAMESPACE: &str = "http://ec2.amazonaws.com/doc/2016-11-15/";

/// The inside of an answer, or a refusal.
type Answer = Result<Xml, Ec2Error>;

/// An action on the state.
type Action = fn(&mut State, &Form) -> Answer;

/// The service.
pub(super) struct Ec2 {
    state: Mutex<State>,
}

/// Everything that EC2 knows.
struct State {
    region: String,
    account: String,
    quota: usize,
    spot_price: f64,
    lag: Duration,
    templates: templates::Templates,
    network: network::Network,
    instances: instances::Instances,
    fleets: fleets::Fleets,
    capacity: Capacities,
    tags: tags::Tags,
    events: UnboundedSender<MachineEvent>,
}

impl Ec2 {
    pub(super) fn new(settings: &Settings, events: UnboundedSender<MachineEvent>) -> Self {
        Self {
            state: Mutex::new(State {
                region: settings.region.clone(),
                account: settings.account.clone(),
                quota: settings.quota,
                spot_price: settings.spot_price,
                lag: settings.instance_lag,
                templates: templates::Templates::default(),
                network: network::Network::new(&settings.region),
                instances: instances::Instances::default(),
                fleets: fleets::Fleets::default(),
                capacity: Capacities::new(settings.capacity.clone()),
                tags: tags::Tags::default(),
                events,
            }),
        }
    }

    pub(super) fn answer(&self, request: &Request) -> Response {
        match self.act(request) {
            Ok(inside) => {
                let name = format!("{}Response", request.action);
                let body = Xml::document(&name, NAMESPACE, |xml| {
                    xml.text("requestId", request_id()).append(&inside);
                });
                xml_answer(StatusCode::OK, body)
            }
            Err(error) => ec2_error(error.status, error.code, &error.message),
        }
    }

    fn act(&self, request: &Request) -> Answer {
        let form = Form::parse(&request.body)?;
        let action = action(&request.action).ok_or_else(|| {
            Ec2Error::new(
                "InvalidAction",
                format!(
                    "The action {} is not valid for this web service.",
                    request.action
                ),
            )
        })?;
        if form.flag("DryRun") {
            return Err(Ec2Error::dry_run());
        }
        let mut state = self.state();
        for id in state.instances.forget() {
            state.tags.forget(&id);
        }
        action(&mut state, &form)
    }

    pub(super) fn machine_running(&self, id: &str) {
        self.state().instances.machine_running(id);
    }

    pub(super) fn machine_stopped(&self, id: &str) {
        self.state().instances.machine_stopped(id);
    }

    pub(super) fn instances(&self) -> Vec<InstanceView> {
        let state = self.state();
        let view = |instance: &instances::Instance| InstanceView {
            id: instance.id.clone(),
            state: instance.state,
            instance_type: instance.kind.name.clone(),
            zone: instance.subnet.zone.clone(),
            spot: instance.spot,
            tags: state.tags.of(&instance.id).clone(),
        };
        state.instances.all().iter().map(view).collect()
    }

    pub(super) fn set_capacity(&self, pattern: &str, zone: Option<&str>, left: Option<u32>) {
        self.state().capacity.set(pattern, zone, left);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn arn(&self, kind: &str, id: &str) -> String {
        format!("arn:aws:ec2:{}:{}:{kind}/{id}", self.region, self.account)
    }
}

/// Reads attribute-based requirements, or says what is wrong with them.
pub(super) fn requirements(form: &Form) -> Result<Requirements, String> {
    offers::requirements(form).map_err(|error| error.message)
}

fn action(name: &str) -> Option<Action> {
    Some(match name {
        "CreateFleet" => State::create_fleet,
        "CreateLaunchTemplate" => State::create_launch_template,
        "CreateLaunchTemplateVersion" => State::create_launch_template_version,
        "CreateSecurityGroup" => State::create_security_group,
        "CreateTags" => State::create_tags,
        "DeleteLaunchTemplate" => State::delete_launch_template,
        "DeleteLaunchTemplateVersions" => State::delete_launch_template_versions,
        "DescribeFleets" => State::describe_fleets,
        "DescribeImages" => State::describe_images,
        "DescribeInstanceStatus" => State::describe_instance_status,
        "DescribeInstanceTypeOfferings" => State::describe_instance_type_offerings,
        "DescribeInstanceTypes" => State::describe_instance_types,
        "DescribeInstances" => State::describe_instances,
        "DescribeLaunchTemplateVersions" => State::describe_launch_template_versions,
        "DescribeLaunchTemplates" => State::describe_launch_templates,
        "DescribeSecurityGroups" => State::describe_security_groups,
        "DescribeSpotPriceHistory" => State::describe_spot_price_history,
        "DescribeSubnets" => State::describe_subnets,
        "DescribeTags" => State::describe_tags,
        "DescribeVpcs" => State::describe_vpcs,
        "GetInstanceTypesFromInstanceRequirements" => {
            State::get_instance_types_from_instance_requirements
        }
        "ModifyLaunchTemplate" => State::modify_launch_template,
        "RunInstances" => State::run_instances,
        "TerminateInstances" => State::terminate_instances,
        _ => return None,
    })
}

/// A fresh id: the prefix and 17 hexadecimal digits.
fn new_id(prefix: &str) -> String {
    let bits: u128 = rand::random();
    format!("{prefix}-{:017x}", bits >> 60)
}

/// A time as EC2 writes it.
fn time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%S.000Z").to_string()
}
