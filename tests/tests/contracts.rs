//! The contracts of `Pool` and `Fleet` on every form that there is: in memory, the yard, and two
//! AWSes that nobody here wrote. What a stand-in cannot do is listed with it.

use controller::{aws::fleet::Ec2Fleet, aws::pool::SqsPool};
use tests::{
    anywhere::Furniture,
    clients,
    contract::{fleet, pool, promise::Gap},
    sim,
    stand_in::{Maker, StandIn},
    yard::aws::{Aws, Settings},
};

const fn gap(promise: &'static str, reason: &'static str) -> Gap {
    Gap { promise, reason }
}

async fn yard(upstream: Option<&StandIn>) -> Aws {
    let (events, mut machines) = tokio::sync::mpsc::unbounded_channel();
    // Nobody runs machines here: they are seen at EC2 alone.
    tokio::spawn(async move { while machines.recv().await.is_some() {} });
    let upstream = upstream.map(|it| it.url().to_owned());
    let settings = Settings {
        upstream,
        ..Settings::default()
    };
    Aws::start(settings, events).await.expect("the yard's AWS")
}

async fn check_pool(url: &str, gaps: &[Gap]) {
    let sqs = clients::sqs(url);
    let form = pool::Form {
        pool: &SqsPool::new(sqs.clone()),
        stranger: Some(&sqs),
    };
    pool::check(&form, gaps).await;
}

/// The first image, subnet and security group that there is.
async fn check_fleet(url: &str, shortage: Option<&(dyn Fn(Option<u32>) + Sync)>, gaps: &[Gap]) {
    let ec2 = clients::ec2(url);
    let found = Furniture::of(&ec2).await;
    let form = fleet::Form {
        fleet: &Ec2Fleet::new(ec2),
        image: found
            .image
            .unwrap_or_else(|| "ami-0123456789abcdef0".to_owned()),
        subnet: found
            .subnets
            .into_iter()
            .next()
            .unwrap_or_else(|| "subnet-0a".to_owned()),
        security_group: found.security_group.unwrap_or_else(|| "sg-1".to_owned()),
        shortage,
    };
    fleet::check(&form, gaps).await;
}

#[test]
fn queues_and_machines_in_memory() {
    const SIZES: &str = "the simulation's EC2 has one kind of machine, everywhere";
    let no_attributes = gap(
        "a_strangers_queue_is_adopted",
        "a simulated queue has no attributes, and nobody else makes one",
    );
    let gaps = [
        gap("an_image_is_known_by_its_id", "any image is known to it"),
        gap("machines_are_of_the_size_that_was_asked_for", SIZES),
        gap("a_subnet_that_is_not_there_is_told", SIZES),
        gap("a_size_that_nobody_has_is_told", SIZES),
        gap(
            "a_shortage_is_told_beside_what_was_launched",
            "its shortages are faults, which are off here",
        ),
        gap(
            "an_unknown_machine_spoils_no_batch",
            "it refuses by chance alone",
        ),
        gap("other_pools_machines_are_not_shown", "it has one pool"),
    ];
    sim::at_rest(async |pool, fleet| {
        let form = pool::Form {
            pool: &*pool,
            stranger: None,
        };
        pool::check(&form, &[no_attributes]).await;
        let form = fleet::Form {
            fleet: &*fleet,
            image: "ami-1".to_owned(),
            subnet: "subnet-1".to_owned(),
            security_group: "sg-1".to_owned(),
            shortage: None,
        };
        fleet::check(&form, &gaps).await;
    });
}

const ANY_IMAGE: Gap = gap(
    "an_image_is_known_by_its_id",
    "any image is known to it, so that a test may name its own",
);
const NO_SHORTAGE: Gap = gap(
    "a_shortage_is_told_beside_what_was_launched",
    "it has machines without end",
);

const NO_ZONE: Gap = gap(
    "the_zone_of_a_machine_is_told",
    "CreateFleet of it tells no zone",
);

#[tokio::test(flavor = "multi_thread")]
async fn queues_and_machines_of_the_yard() {
    let aws = yard(None).await;
    check_pool(&aws.url(), &[]).await;
    let shortage = |left| aws.set_capacity("*", None, left);
    check_fleet(&aws.url(), Some(&shortage), &[ANY_IMAGE]).await;
    aws.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn queues_and_machines_of_ministack() {
    const REQUIREMENTS: &str = "it does not read InstanceRequirements: each machine is a t2.micro";
    let no_deletion = gap(
        "versions_of_a_template_are_deleted_once",
        "it has no DeleteLaunchTemplateVersions",
    );
    let any_subnet = gap(
        "a_subnet_that_is_not_there_is_told",
        "it does not look for the subnet",
    );
    let ministack = StandIn::start(Maker::Ministack).await.expect("it starts");
    check_pool(ministack.url(), &[]).await;
    let gaps = [
        ANY_IMAGE,
        NO_SHORTAGE,
        NO_ZONE,
        no_deletion,
        any_subnet,
        gap("machines_are_of_the_size_that_was_asked_for", REQUIREMENTS),
        gap("a_size_that_nobody_has_is_told", REQUIREMENTS),
        gap(
            "the_same_request_again_launches_nothing",
            "it does not read ClientToken",
        ),
    ];
    check_fleet(ministack.url(), None, &gaps).await;
    // What the yard's door adds to it is what the story needs.
    let ministack = StandIn::start(Maker::Ministack).await.expect("it starts");
    let gaps = [ANY_IMAGE, NO_ZONE, no_deletion, any_subnet];
    let aws = yard(Some(&ministack)).await;
    let shortage = |left| aws.set_capacity("*", None, left);
    check_fleet(&aws.url(), Some(&shortage), &gaps).await;
    aws.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn queues_and_machines_of_moto() {
    const REQUIREMENTS: &str = "it answers InstanceRequirements with status 500";
    let no_deletion = gap(
        "versions_of_a_template_are_deleted_once",
        "it answers DeleteLaunchTemplateVersions with status 500",
    );
    let moto = StandIn::start(Maker::Moto).await.expect("it starts");
    check_pool(moto.url(), &[]).await;
    let launches = [
        "what_is_launched_is_shown_with_its_request",
        "machines_are_of_the_size_that_was_asked_for",
        "the_same_request_again_launches_nothing",
        "the_zone_of_a_machine_is_told",
        "a_spot_request_launches",
        "a_subnet_that_is_not_there_is_told",
        "a_size_that_nobody_has_is_told",
        "what_is_terminated_is_over",
        "an_unknown_machine_spoils_no_batch",
        "other_pools_machines_are_not_shown",
    ];
    let mut gaps = vec![NO_SHORTAGE, no_deletion];
    gaps.extend(launches.map(|promise| gap(promise, REQUIREMENTS)));
    check_fleet(moto.url(), None, &gaps).await;
    // The yard's door turns them into an instance type, which it knows.
    let moto = StandIn::start(Maker::Moto).await.expect("it starts");
    let aws = yard(Some(&moto)).await;
    let shortage = |left| aws.set_capacity("*", None, left);
    check_fleet(&aws.url(), Some(&shortage), &[NO_ZONE, no_deletion]).await;
    aws.stop().await;
}
