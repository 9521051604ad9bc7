//! The yard's AWS, seen through the real SDK.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_dynamodb::config::Credentials;
use aws_sdk_ec2::error::ProvideErrorMetadata as _;
use aws_sdk_ec2::operation::create_fleet::CreateFleetOutput;
use aws_sdk_ec2::types::{
    DefaultTargetCapacityType, Filter, FleetLaunchTemplateConfigRequest,
    FleetLaunchTemplateOverridesRequest, FleetLaunchTemplateSpecificationRequest, FleetType,
    InstanceRequirementsRequest, MemoryMiBRequest, RequestLaunchTemplateData, Reservation,
    ResourceType, Tag, TagSpecification, TargetCapacitySpecificationRequest, VCpuCountRangeRequest,
};
use aws_sdk_sqs::types::{QueueAttributeName, SendMessageBatchRequestEntry};
use tests::yard::aws::{Aws, Fault, FaultKind, InstanceState, Launch, MachineEvent, Settings};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

/// No test waits longer than this for something that must happen.
const PATIENCE: Duration = Duration::from_secs(20);

struct World {
    aws: Aws,
    machines: UnboundedReceiver<MachineEvent>,
    sqs: aws_sdk_sqs::Client,
    ec2: aws_sdk_ec2::Client,
    dynamodb: aws_sdk_dynamodb::Client,
}

async fn world(settings: Settings) -> World {
    let (events, machines) = unbounded_channel();
    let aws = Aws::start(settings, events).await.unwrap();
    let config = sdk(&aws).await;
    World {
        machines,
        sqs: aws_sdk_sqs::Client::new(&config),
        ec2: aws_sdk_ec2::Client::new(&config),
        dynamodb: aws_sdk_dynamodb::Client::new(&config),
        aws,
    }
}

async fn sdk(aws: &Aws) -> SdkConfig {
    aws_config::defaults(BehaviorVersion::latest())
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .endpoint_url(aws.url())
        .region(Region::new("us-east-1"))
        .credentials_provider(Credentials::new("AKIATEST", "secret", None, None, "test"))
        .load()
        .await
}

impl World {
    async fn queue(&self, name: &str) -> String {
        let created = self.sqs.create_queue().queue_name(name).send().await;
        created.unwrap().queue_url.unwrap()
    }

    async fn send(&self, queue: &str, body: &str) {
        let send = self.sqs.send_message().queue_url(queue).message_body(body);
        send.send().await.unwrap();
    }

    /// The bodies and receipts that one receive gives.
    async fn receive(&self, queue: &str, lease: i32, wait: i32) -> Vec<(String, String)> {
        let received = self
            .sqs
            .receive_message()
            .queue_url(queue)
            .max_number_of_messages(10)
            .visibility_timeout(lease)
            .wait_time_seconds(wait)
            .send()
            .await
            .unwrap();
        let messages = received.messages.unwrap_or_default().into_iter();
        messages
            .map(|message| (message.body.unwrap(), message.receipt_handle.unwrap()))
            .collect()
    }

    async fn template(&self) -> String {
        let data = RequestLaunchTemplateData::builder()
            .image_id("ami-1")
            .user_data("aGVsbG8=")
            .security_group_ids("sg-1")
            .build();
        let create = self.ec2.create_launch_template();
        let create = create
            .launch_template_name("pool")
            .launch_template_data(data);
        let created = create.send().await.unwrap().launch_template.unwrap();
        created.launch_template_id.unwrap()
    }

    async fn fleet(&self, count: i32, token: &str) -> CreateFleetOutput {
        let requirements = InstanceRequirementsRequest::builder()
            .v_cpu_count(VCpuCountRangeRequest::builder().min(2).max(2).build())
            .memory_mib(MemoryMiBRequest::builder().min(4096).build())
            .allowed_instance_types("c5*")
            .build();
        let overrides = ["subnet-0a", "subnet-0b"].map(|subnet| {
            FleetLaunchTemplateOverridesRequest::builder()
                .subnet_id(subnet)
                .instance_requirements(requirements.clone())
                .build()
        });
        let config = FleetLaunchTemplateConfigRequest::builder()
            .launch_template_specification(
                FleetLaunchTemplateSpecificationRequest::builder()
                    .launch_template_name("pool")
                    .version("$Default")
                    .build(),
            )
            .set_overrides(Some(overrides.to_vec()))
            .build();
        let capacity = TargetCapacitySpecificationRequest::builder()
            .total_target_capacity(count)
            .default_target_capacity_type(DefaultTargetCapacityType::OnDemand)
            .build();
        let tags = TagSpecification::builder()
            .resource_type(ResourceType::Instance)
            .tags(Tag::builder().key("paddock:pool").value("one").build())
            .build();
        let create = self.ec2.create_fleet().r#type(FleetType::Instant);
        create
            .launch_template_configs(config)
            .target_capacity_specification(capacity)
            .tag_specifications(tags)
            .client_token(token)
            .send()
            .await
            .unwrap()
    }

    async fn launched(&mut self) -> Launch {
        let event = tokio::time::timeout(PATIENCE, self.machines.recv());
        match event.await.unwrap().unwrap() {
            MachineEvent::Launched(launch) => launch,
            MachineEvent::Terminated { id } => panic!("{id} was terminated"),
        }
    }

    async fn terminate(&self, ids: &[&str]) -> Result<(), String> {
        let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
        let call = self.ec2.terminate_instances().set_instance_ids(Some(ids));
        let done = call.send().await;
        done.map(|_| ())
            .map_err(|error| error.code().unwrap_or_default().to_owned())
    }

    fn state(&self, id: &str) -> InstanceState {
        let instances = self.aws.instances();
        let found = instances.iter().find(|instance| instance.id == id);
        found.unwrap().state
    }
}

fn ids(fleet: &CreateFleetOutput) -> BTreeSet<String> {
    let groups = fleet.instances().iter();
    groups
        .flat_map(|group| group.instance_ids().to_vec())
        .collect()
}

fn bodies(received: &[(String, String)]) -> Vec<&str> {
    received.iter().map(|(body, _)| body.as_str()).collect()
}

#[tokio::test]
async fn a_leased_message_comes_back_unless_deleted() {
    let world = world(Settings::default()).await;
    let queue = world.queue("idle").await;
    world.send(&queue, "one").await;
    let first = world.receive(&queue, 1, 0).await;
    assert_eq!(bodies(&first), ["one"]);
    assert!(world.receive(&queue, 1, 0).await.is_empty());
    // The long poll ends with the lease, not with its own time.
    let started = Instant::now();
    let second = world.receive(&queue, 60, 20).await;
    assert_eq!(bodies(&second), ["one"]);
    assert!(started.elapsed() < PATIENCE / 2);
    assert_ne!(first[0].1, second[0].1);

    let give_back = world.sqs.change_message_visibility().queue_url(&queue);
    let give_back = give_back.receipt_handle(&second[0].1).visibility_timeout(0);
    give_back.send().await.unwrap();
    let third = world.receive(&queue, 60, 0).await;
    let delete = world.sqs.delete_message().queue_url(&queue);
    let delete = delete.receipt_handle(&third[0].1);
    delete.send().await.unwrap();
    let asked = world.sqs.get_queue_attributes().queue_url(&queue);
    let asked = asked.attribute_names(QueueAttributeName::All);
    let attributes = asked.send().await.unwrap().attributes.unwrap();
    let hidden = &attributes[&QueueAttributeName::ApproximateNumberOfMessagesNotVisible];
    assert_eq!(hidden, "0");
}

#[tokio::test]
async fn a_send_ends_a_long_poll() {
    let world = world(Settings::default()).await;
    let queue = world.queue("idle").await;
    let started = Instant::now();
    // Whichever the server sees first, the poll must not last its 20 seconds.
    let send = world.send(&queue, "late");
    let (received, ()) = tokio::join!(world.receive(&queue, 30, 20), send);
    assert_eq!(bodies(&received), ["late"]);
    assert!(started.elapsed() < PATIENCE / 2);
}

#[tokio::test]
async fn sqs_refuses_as_aws_does() {
    let world = world(Settings::default()).await;
    let absent = world.sqs.get_queue_url().queue_name("absent").send().await;
    let absent = absent.unwrap_err().into_service_error();
    assert!(absent.is_queue_does_not_exist());

    let queue = world.queue("idle").await;
    let other = world.sqs.create_queue().queue_name("idle");
    let other = other.attributes(QueueAttributeName::VisibilityTimeout, "77");
    let other = other.send().await.unwrap_err().into_service_error();
    assert!(other.is_queue_name_exists());

    let entries = (0..11).map(|n| {
        let entry = SendMessageBatchRequestEntry::builder().id(n.to_string());
        entry.message_body("m").build().unwrap()
    });
    let batch = world.sqs.send_message_batch().queue_url(&queue);
    let batch = batch.set_entries(Some(entries.collect())).send().await;
    let batch = batch.unwrap_err().into_service_error();
    assert!(batch.is_too_many_entries_in_batch_request());

    let delete = world.sqs.delete_queue().queue_url(&queue);
    delete.send().await.unwrap();
    let again = world.sqs.create_queue().queue_name("idle").send().await;
    let again = again.unwrap_err().into_service_error();
    assert!(again.is_queue_deleted_recently());
}

#[tokio::test]
async fn a_short_capacity_gives_instances_and_errors() {
    let mut world = world(Settings::default()).await;
    world.template().await;
    world.aws.set_capacity("c5.*", Some("us-east-1a"), Some(2));
    world.aws.set_capacity("c5.*", Some("us-east-1b"), Some(1));
    let fleet = world.fleet(4, "token").await;
    assert_eq!(ids(&fleet).len(), 3);
    assert_eq!(fleet.instances().len(), 2);
    let codes: Vec<_> = fleet.errors().iter().map(|e| e.error_code()).collect();
    assert_eq!(codes, [Some("InsufficientInstanceCapacity"); 2]);

    let launch = world.launched().await;
    assert_eq!(launch.user_data, b"hello");
    assert_eq!(launch.instance_type, "c5.large");
    assert_eq!(launch.tags["paddock:pool"], "one");
    assert!(launch.arn.ends_with(&launch.id));
}

#[tokio::test]
async fn a_client_token_makes_one_fleet() {
    let world = world(Settings::default()).await;
    world.template().await;
    let cut = Fault::new("ec2", "CreateFleet", FaultKind::CutAfterApplying);
    world.aws.inject(cut);
    // The SDK tries again by itself, and finds the fleet that it made.
    let first = world.fleet(2, "token").await;
    let again = world.fleet(2, "token").await;
    assert_eq!(first.fleet_id(), again.fleet_id());
    assert_eq!(ids(&first), ids(&again));
    assert_eq!(world.aws.instances().len(), 2);
    let calls = world.aws.calls();
    let fleets = calls.iter().filter(|call| call.action == "CreateFleet");
    let statuses: Vec<_> = fleets.map(|call| call.status).collect();
    assert_eq!(statuses, [0, 200, 200]);
    assert!(calls.iter().all(|call| call.caller == "AKIATEST"));
}

#[tokio::test]
async fn instances_are_found_by_tag_and_page() {
    let world = world(Settings::default()).await;
    world.template().await;
    let fleet = world.fleet(12, "token").await;
    let pool = Filter::builder().name("tag:paddock:pool").values("one");
    let states = Filter::builder().name("instance-state-name");
    let mut pages = world
        .ec2
        .describe_instances()
        .filters(pool.build())
        .filters(states.values("pending").values("running").build())
        .into_paginator()
        .page_size(5)
        .send();
    let (mut found, mut count) = (BTreeSet::new(), 0);
    while let Some(page) = pages.next().await {
        count += 1;
        let page = page.unwrap();
        let instances = page.reservations().iter().flat_map(Reservation::instances);
        found.extend(instances.filter_map(|one| one.instance_id().map(str::to_owned)));
    }
    assert_eq!(count, 3);
    assert_eq!(found, ids(&fleet));

    let other = Filter::builder().name("tag:paddock:pool").values("two");
    let none = world.ec2.describe_instances().filters(other.build());
    assert!(none.send().await.unwrap().reservations().is_empty());
}

#[tokio::test]
async fn an_instance_lives_and_dies_with_its_machine() {
    let mut world = world(Settings::default()).await;
    world.template().await;
    world.fleet(2, "token").await;
    let (one, two) = (world.launched().await.id, world.launched().await.id);
    assert_eq!(world.state(&one), InstanceState::Pending);
    world.aws.machine_running(&one);
    assert_eq!(world.state(&one), InstanceState::Running);

    let unknown = world.terminate(&[&one, "i-0123456789abcdef0"]).await;
    assert_eq!(unknown, Err("InvalidInstanceID.NotFound".to_owned()));
    assert_eq!(world.state(&one), InstanceState::Running);

    assert_eq!(world.terminate(&[&one, &two]).await, Ok(()));
    assert_eq!(world.state(&one), InstanceState::ShuttingDown);
    assert_eq!(world.state(&two), InstanceState::Terminated);
    world.aws.machine_stopped(&one);
    assert_eq!(world.state(&one), InstanceState::Terminated);
    assert_eq!(world.terminate(&[&one]).await, Ok(()));
    world.aws.stop().await;
    let mut killed = BTreeSet::new();
    while let Ok(MachineEvent::Terminated { id }) = world.machines.try_recv() {
        killed.insert(id);
    }
    assert_eq!(killed, BTreeSet::from([one, two]));
}

#[tokio::test]
async fn template_versions_merge_and_move() {
    let world = world(Settings::default()).await;
    let id = world.template().await;
    let data = RequestLaunchTemplateData::builder()
        .user_data("Ynll")
        .build();
    let version = world
        .ec2
        .create_launch_template_version()
        .launch_template_id(&id)
        .source_version("1")
        .launch_template_data(data)
        .send()
        .await
        .unwrap()
        .launch_template_version
        .unwrap();
    assert_eq!(version.version_number(), Some(2));
    let data = version.launch_template_data().unwrap();
    assert_eq!(data.user_data(), Some("Ynll"));
    assert_eq!(data.image_id(), Some("ami-1"));
    assert_eq!(data.security_group_ids(), ["sg-1"]);

    let modify = world.ec2.modify_launch_template().launch_template_id(&id);
    modify.default_version("2").send().await.unwrap();
    let prune = world.ec2.delete_launch_template_versions();
    let prune = prune.launch_template_id(&id).versions("1").versions("2");
    let pruned = prune.send().await.unwrap();
    let deleted = pruned.successfully_deleted_launch_template_versions();
    assert_eq!(deleted.len(), 1);
    let kept = pruned.unsuccessfully_deleted_launch_template_versions();
    assert_eq!(kept[0].version_number(), Some(2));
}

#[tokio::test]
async fn faults_reach_every_service() {
    let world = world(Settings::default()).await;
    let busy = FaultKind::Error {
        status: 400,
        code: "AccessDeniedException".to_owned(),
    };
    world.aws.inject(Fault::new("dynamodb", "*", busy));
    let refused = world.dynamodb.list_tables().send().await.unwrap_err();
    assert_eq!(refused.code(), Some("AccessDeniedException"));
    let listed = world.dynamodb.list_tables().send().await.unwrap();
    assert!(listed.table_names().is_empty());
    world.aws.set_latency(Duration::from_millis(30));
    world.dynamodb.list_tables().send().await.unwrap();
    assert!(world.aws.calls().last().unwrap().millis >= 30);
}

/// The yard's own AWS serves as the other stand-in.
#[tokio::test]
async fn machines_of_an_upstream_are_announced() {
    let behind = world(Settings::default()).await;
    let mut world = world(Settings {
        upstream: Some(behind.aws.url()),
        ..Settings::default()
    })
    .await;
    world.template().await;
    world.aws.set_capacity("c5.*", None, Some(2));
    let fleet = world.fleet(3, "token").await;
    assert_eq!(ids(&fleet).len(), 2);
    let codes: Vec<_> = fleet.errors().iter().map(|e| e.error_code()).collect();
    assert_eq!(codes, [Some("InsufficientInstanceCapacity")]);
    let again = world.fleet(3, "token").await;
    assert_eq!(ids(&again), ids(&fleet));
    assert_eq!(behind.aws.instances().len(), 2);

    let (one, two) = (world.launched().await, world.launched().await);
    assert_eq!(one.user_data, b"hello");
    assert_eq!(one.tags["paddock:pool"], "one");
    let announced = BTreeSet::from([one.id.clone(), two.id.clone()]);
    assert_eq!(announced, ids(&fleet));

    // A machine that stops by itself ends over there; one that is terminated
    // over there is to be killed here.
    world.aws.machine_stopped(&one.id);
    while behind.state(&one.id).is_alive() {
        tokio::task::yield_now().await;
    }
    world.terminate(&[&two.id]).await.unwrap();
    let killed = tokio::time::timeout(PATIENCE, world.machines.recv());
    let killed = killed.await.unwrap().unwrap();
    assert!(matches!(killed, MachineEvent::Terminated { id } if id == two.id));
}

#[tokio::test]
async fn stopping_cuts_what_waits() {
    let world = world(Settings::default()).await;
    let queue = world.queue("idle").await;
    let hang = Fault::new("sqs", "SendMessage", FaultKind::Hang);
    world.aws.inject(hang);
    let send = world.sqs.send_message().queue_url(&queue).message_body("x");
    let hanging = tokio::spawn(send.send());
    tokio::time::timeout(PATIENCE, world.aws.stop())
        .await
        .unwrap();
    assert!(hanging.await.unwrap().is_err());
}
