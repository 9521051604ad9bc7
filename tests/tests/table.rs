//! The contract of the table, on its in-memory form and on DynamoDB as dynoxide plays it.

use controller::{
    aws::schema::DynamoAdmin,
    refresh::table::{Feature, TableAdmin},
};
use proto::table::{dynamo::DynamoTable, memory::MemoryTable};
use tests::{clients, contract, yard::aws};

#[tokio::test]
async fn the_table_in_memory() {
    contract::table::check(&MemoryTable::default()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_table_at_dynamodb() {
    let (events, _machines) = tokio::sync::mpsc::unbounded_channel();
    let aws = aws::Aws::start(aws::Settings::default(), events)
        .await
        .expect("the yard's AWS starts");
    let client = clients::dynamodb(&aws.url());
    let admin = DynamoAdmin::new(client.clone(), "paddock-contract");
    assert_eq!(admin.observe().await.expect("looked at"), None);
    admin
        .create(&"contract".parse().expect("a pool"))
        .await
        .expect("made");
    admin.turn_on(Feature::Expiry).await.expect("turned on");
    assert!(admin.observe().await.expect("looked at").is_some());
    contract::table::check(&DynamoTable::new(client, "paddock-contract")).await;
    aws.stop().await;
}
