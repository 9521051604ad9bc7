//! The contract of the table, on its in-memory form, on DynamoDB as dynoxide plays it, and on two that
//! nobody here wrote.

use std::collections::BTreeMap;

use aws_sdk_dynamodb::types::AttributeValue;
use controller::{
    aws::schema::DynamoAdmin,
    refresh::table::{Feature, TableAdmin},
};
use proto::{
    instance::{InstanceRecord, UsageClass},
    provision::{Phase, ProvisionRecord, Request},
    state::State,
    table::{Table, dynamo::DynamoTable, memory::MemoryTable},
    time::Time,
};
use tests::{
    clients,
    contract::{self, promise::Gap},
    stand_in::{Maker, StandIn},
    yard::aws,
};

#[tokio::test]
async fn the_table_in_memory() {
    contract::table::check(&MemoryTable::default(), &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_table_at_dynamodb() {
    let (events, _machines) = tokio::sync::mpsc::unbounded_channel();
    let aws = aws::Aws::start(aws::Settings::default(), events)
        .await
        .expect("the yard's AWS starts");
    check(&aws.url(), &[]).await;
    aws.stop().await;
}

/// Makes the table as refresh does, and tries what it promises.
async fn check(url: &str, gaps: &[Gap]) {
    let client = clients::dynamodb(url);
    let admin = DynamoAdmin::new(client.clone(), "paddock-contract");
    assert_eq!(admin.observe().await.expect("looked at"), None);
    admin
        .create(&"contract".parse().expect("a pool"))
        .await
        .expect("made");
    admin.turn_on(Feature::Expiry).await.expect("turned on");
    assert!(admin.observe().await.expect("looked at").is_some());
    contract::table::check(&DynamoTable::new(&client, "paddock-contract"), gaps).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_table_at_ministack() {
    let ministack = StandIn::start(Maker::Ministack).await;
    check(ministack.expect("it starts").url(), &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_table_at_moto() {
    let moto = StandIn::start(Maker::Moto).await;
    check(moto.expect("it starts").url(), &[]).await;
}

/// A machine may write what it likes under its own key, which root on it can do too.
#[tokio::test]
async fn what_a_machine_writes_is_taken_for_nothing_but_its_own_record() {
    let (events, _machines) = tokio::sync::mpsc::unbounded_channel();
    let aws = aws::Aws::start(aws::Settings::default(), events)
        .await
        .expect("the yard's AWS starts");
    let client = clients::dynamodb(&aws.url());
    let name = "paddock-contract";
    let admin = DynamoAdmin::new(client.clone(), name);
    admin
        .create(&"contract".parse().expect("a pool"))
        .await
        .expect("made");
    let table = DynamoTable::new(&client, name);
    let idle = InstanceRecord::example(State::Idle);
    table.insert_instance(&idle).await.expect("written");
    let journal = ProvisionRecord {
        run: "7".parse().expect("a run"),
        label: "7".parse().expect("a label"),
        revision: 1,
        attempt: 1,
        repository: None,
        request: Request {
            count: 1,
            resource_class: "large".parse().expect("a class"),
            usage_class: UsageClass::OnDemand,
            allowed_instance_types: vec![],
            max_runtime_sec: 1800,
        },
        phase: Phase::Open,
        client_token: "token.1".to_owned(),
        claimed: vec![],
        launched: vec![],
        generations: BTreeMap::new(),
        started_at: Time::EPOCH,
        beat: Time::EPOCH,
        error: None,
        expires_at: None,
    };
    table.put_provision(&journal).await.expect("written");

    // A second record of it, and a journal: both with all that the true ones have.
    let items = client.scan().table_name(name).send().await.expect("read");
    for mut item in items.items.unwrap_or_default() {
        for (attribute, value) in [("pk", idle.arn.as_str()), ("sk", "PROVISION#7")] {
            item.insert(attribute.to_owned(), AttributeValue::S(value.to_owned()));
        }
        let put = client.put_item().table_name(name).set_item(Some(item));
        put.send().await.expect("written");
        let live = table.live().await.expect("listed");
        assert_eq!(live.instances, std::slice::from_ref(&idle));
        assert_eq!(live.provisions, std::slice::from_ref(&journal));
        let listed = table.instances_in(State::Idle, None).await.expect("listed");
        assert_eq!(listed, std::slice::from_ref(&idle));
    }
    aws.stop().await;
}
