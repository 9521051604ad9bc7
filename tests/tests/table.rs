//! The contract of the table, on its in-memory form, on DynamoDB as dynoxide plays it, and on two that
//! nobody here wrote.

use controller::{
    aws::schema::DynamoAdmin,
    refresh::table::{Feature, TableAdmin},
};
use proto::table::{dynamo::DynamoTable, memory::MemoryTable};
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
