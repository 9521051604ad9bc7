//! The pool's machines at EC2.

use async_trait::async_trait;
use aws_sdk_ec2::{
    Client,
    config::{Config, retry::RetryConfig},
    types::{
        CreateFleetError, CreateFleetInstance, DefaultTargetCapacityType, Filter,
        FleetLaunchTemplateConfigRequest, FleetLaunchTemplateOverridesRequest,
        FleetLaunchTemplateSpecificationRequest, FleetOnDemandAllocationStrategy, FleetType,
        Instance, InstanceRequirementsRequest, InstanceStateName, MemoryMiBRequest,
        OnDemandOptionsRequest, Reservation, ResourceType, SpotAllocationStrategy,
        SpotOptionsRequest, Tag, TagSpecification, TargetCapacitySpecificationRequest,
        VCpuCountRangeRequest,
    },
};
use proto::{
    config::Image,
    ids::{InstanceId, PoolName},
    instance::UsageClass,
    time::Time,
};

use super::{failed, odd, template, terminate};
use crate::ports::{
    Allocation, Fleet, FleetAnswer, FleetError, FleetRequest, Launched, Machine, PortError,
    TemplateContent, TemplateState, Unknown,
};

/// The tag that every machine of a pool bears, with the pool's name.
pub const POOL_TAG: &str = "paddock:pool";
/// The tag with the client token of the fleet request that launched the machine.
pub const FLEET_TAG: &str = "paddock:fleet";

/// EC2, as a pool uses it.
#[derive(Clone, Debug)]
pub struct Ec2Fleet {
    client: Client,
}

impl Ec2Fleet {
    /// Machines of the client's account and region.
    pub fn new(client: Client) -> Self {
        Self { client }
    }
}

pub(super) fn tags(pairs: &[(String, String)]) -> Vec<Tag> {
    pairs
        .iter()
        .map(|(key, value)| Tag::builder().key(key).value(value).build())
        .collect()
}

fn number(count: u32) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

/// The template with one override per subnet, each asking for the same kind of machine.
fn template_config(request: &FleetRequest) -> FleetLaunchTemplateConfigRequest {
    let cpu = number(request.cpu);
    let requirements = InstanceRequirementsRequest::builder()
        .v_cpu_count(VCpuCountRangeRequest::builder().min(cpu).max(cpu).build())
        .memory_mib(
            MemoryMiBRequest::builder()
                .min(number(request.mmem))
                .build(),
        )
        .set_allowed_instance_types(Some(request.allowed_instance_types.clone()))
        .build();
    let overrides = request.subnet_ids.iter().map(|subnet| {
        FleetLaunchTemplateOverridesRequest::builder()
            .subnet_id(subnet)
            .set_max_price(request.max_price.clone())
            .instance_requirements(requirements.clone())
            .build()
    });
    FleetLaunchTemplateConfigRequest::builder()
        .launch_template_specification(
            FleetLaunchTemplateSpecificationRequest::builder()
                .launch_template_id(&request.template_id)
                .version(request.template_version.to_string())
                .build(),
        )
        .set_overrides(Some(overrides.collect()))
        .build()
}

fn spot_allocation(allocation: Allocation) -> SpotAllocationStrategy {
    match allocation {
        Allocation::PriceCapacityOptimized => SpotAllocationStrategy::PriceCapacityOptimized,
        Allocation::CapacityOptimized => SpotAllocationStrategy::CapacityOptimized,
        Allocation::Diversified => SpotAllocationStrategy::Diversified,
        Allocation::LowestPrice => SpotAllocationStrategy::LowestPrice,
    }
}

/// The request's tags, with the one that leads from a machine back to its request.
fn fleet_tags(request: &FleetRequest) -> Vec<Tag> {
    let mut pairs = request.tags.clone();
    if !pairs.iter().any(|(key, _)| key == FLEET_TAG) {
        pairs.push((FLEET_TAG.to_owned(), request.client_token.clone()));
    }
    tags(&pairs)
}

/// The machines of one group of a fleet's answer: all of one type in one subnet.
fn launched(group: &CreateFleetInstance) -> Result<Vec<Launched>, PortError> {
    let zone = group.availability_zone().or_else(|| {
        let overrides = group.launch_template_and_overrides()?.overrides()?;
        overrides.availability_zone()
    });
    group
        .instance_ids()
        .iter()
        .map(|id| {
            Ok(Launched {
                id: machine_id(id)?,
                instance_type: group
                    .instance_type()
                    .map(|kind| kind.as_str().to_owned())
                    .unwrap_or_default(),
                zone: zone.unwrap_or_default().to_owned(),
            })
        })
        .collect()
}

fn refusal(error: &CreateFleetError) -> FleetError {
    let subnet = error
        .launch_template_and_overrides()
        .and_then(|used| used.overrides()?.subnet_id());
    FleetError {
        code: error.error_code().unwrap_or("Unknown").to_owned(),
        message: error.error_message().unwrap_or_default().to_owned(),
        subnet_id: subnet.map(str::to_owned),
    }
}

fn machine_id(id: &str) -> Result<InstanceId, PortError> {
    id.parse().map_err(|error: proto::ids::InvalidId| {
        odd("read what EC2 says of a machine", None, error.to_string())
    })
}

/// A machine as EC2 describes it; none when it lacks an id or a launch time.
fn machine(instance: &Instance) -> Option<Machine> {
    let state = instance.state().and_then(|state| state.name());
    let fleet = instance
        .tags()
        .iter()
        .find(|tag| tag.key() == Some(FLEET_TAG))
        .and_then(|tag| tag.value());
    Some(Machine {
        id: instance.instance_id()?.parse().ok()?,
        alive: !matches!(
            state,
            Some(InstanceStateName::ShuttingDown | InstanceStateName::Terminated)
        ),
        launched_at: Time::from_millis(instance.launch_time()?.to_millis().ok()?),
        fleet: fleet.map(str::to_owned),
    })
}

#[async_trait]
impl Fleet for Ec2Fleet {
    async fn launch(&self, request: &FleetRequest) -> Result<FleetAnswer, PortError> {
        let capacity = TargetCapacitySpecificationRequest::builder()
            .total_target_capacity(number(request.count));
        let call = self
            .client
            .create_fleet()
            .r#type(FleetType::Instant)
            .client_token(&request.client_token)
            .launch_template_configs(template_config(request));
        let mut call = match request.usage_class {
            UsageClass::OnDemand => call
                .target_capacity_specification(
                    capacity
                        .default_target_capacity_type(DefaultTargetCapacityType::OnDemand)
                        .build(),
                )
                .on_demand_options(
                    OnDemandOptionsRequest::builder()
                        .allocation_strategy(FleetOnDemandAllocationStrategy::LowestPrice)
                        .build(),
                ),
            UsageClass::Spot => call
                .target_capacity_specification(
                    capacity
                        .default_target_capacity_type(DefaultTargetCapacityType::Spot)
                        .build(),
                )
                .spot_options(
                    SpotOptionsRequest::builder()
                        .allocation_strategy(spot_allocation(request.allocation))
                        .build(),
                ),
        };
        for kind in [ResourceType::Fleet, ResourceType::Instance] {
            call = call.tag_specifications(
                TagSpecification::builder()
                    .resource_type(kind)
                    .set_tags(Some(fleet_tags(request)))
                    .build(),
            );
        }
        // The caller repeats what is worth it, with a pause that all its requests share: the SDK
        // would also repeat a request that was refused for want of capacity.
        let once = Config::builder().retry_config(RetryConfig::disabled());
        let answer = call
            .customize()
            .config_override(once)
            .send()
            .await
            .map_err(failed("launch machines"))?;
        let groups: Vec<Vec<Launched>> = answer
            .instances()
            .iter()
            .map(launched)
            .collect::<Result<_, _>>()?;
        Ok(FleetAnswer {
            launched: groups.into_iter().flatten().collect(),
            errors: answer.errors().iter().map(refusal).collect(),
        })
    }

    async fn terminate(
        &self,
        ids: &[InstanceId],
        unknown: Unknown,
    ) -> Result<Vec<(InstanceId, PortError)>, PortError> {
        terminate::terminate(&self.client, ids, unknown).await
    }

    async fn machines(&self, pool: &PoolName) -> Result<Vec<Machine>, PortError> {
        let mut pages = self
            .client
            .describe_instances()
            .filters(
                Filter::builder()
                    .name(format!("tag:{POOL_TAG}"))
                    .values(pool.as_str())
                    .build(),
            )
            .filters(
                Filter::builder()
                    .name("instance-state-name")
                    .set_values(Some(
                        ["pending", "running", "stopping", "stopped", "shutting-down"]
                            .map(str::to_owned)
                            .to_vec(),
                    ))
                    .build(),
            )
            .into_paginator()
            .send();
        let mut machines = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(failed("list the pool's machines"))?;
            let instances = page.reservations().iter().flat_map(Reservation::instances);
            machines.extend(instances.filter_map(machine));
        }
        Ok(machines)
    }

    async fn image(&self, id: &str) -> Result<Option<Image>, PortError> {
        template::image(&self.client, id).await
    }

    async fn template(&self, name: &str) -> Result<Option<TemplateState>, PortError> {
        template::read(&self.client, name).await
    }

    async fn put_template(
        &self,
        name: &str,
        content: &TemplateContent,
        content_hash: &str,
    ) -> Result<TemplateState, PortError> {
        template::put(&self.client, name, content, content_hash).await
    }

    async fn delete_versions(&self, id: &str, versions: &[i64]) -> Result<(), PortError> {
        template::delete_versions(&self.client, id, versions).await
    }
}
