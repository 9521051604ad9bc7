//! Clients of the yard's AWS, for tests that look at it from outside.

use aws_sdk_dynamodb::{
    config::{BehaviorVersion, Credentials, Region},
    types::{AttributeValue, DeleteGlobalSecondaryIndexAction, GlobalSecondaryIndexUpdate},
};
use proto::table::dynamo::INDEX;

/// DynamoDB at an endpoint.
pub fn dynamodb(endpoint: &str) -> aws_sdk_dynamodb::Client {
    let config = aws_sdk_dynamodb::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .credentials_provider(Credentials::new("AKIATEST", "test", None, None, "tests"))
        .endpoint_url(endpoint)
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .build();
    aws_sdk_dynamodb::Client::from_conf(config)
}

/// SQS at an endpoint.
pub fn sqs(endpoint: &str) -> aws_sdk_sqs::Client {
    let config = aws_sdk_sqs::Config::builder()
        .behavior_version(aws_sdk_sqs::config::BehaviorVersion::latest())
        .region(aws_sdk_sqs::config::Region::new("us-east-1"))
        .credentials_provider(Credentials::new("AKIATEST", "test", None, None, "tests"))
        .endpoint_url(endpoint)
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .build();
    aws_sdk_sqs::Client::from_conf(config)
}

/// EC2 at an endpoint.
pub fn ec2(endpoint: &str) -> aws_sdk_ec2::Client {
    let config = aws_sdk_ec2::Config::builder()
        .behavior_version(aws_sdk_ec2::config::BehaviorVersion::latest())
        .region(aws_sdk_ec2::config::Region::new("us-east-1"))
        .credentials_provider(Credentials::new("AKIATEST", "test", None, None, "tests"))
        .endpoint_url(endpoint)
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .build();
    aws_sdk_ec2::Client::from_conf(config)
}

/// Sets a time in a machine's record of the default pool, as hours of waiting would.
///
/// # Panics
///
/// When the table refuses.
pub async fn set_time(endpoint: &str, machine: &str, name: &str, time: &str) {
    let arn = format!("arn:aws:ec2:us-east-1:123456789012:instance/{machine}");
    let answer = dynamodb(endpoint)
        .update_item()
        .table_name("paddock-acme-widgets")
        .key("pk", AttributeValue::S(arn))
        .key("sk", AttributeValue::S("INSTANCE".to_owned()))
        .update_expression("SET #name = :time")
        .expression_attribute_names("#name", name)
        .expression_attribute_values(":time", AttributeValue::S(time.to_owned()))
        .send()
        .await;
    answer.expect("written");
}

/// Takes the table's index away, as a careless hand would.
///
/// # Panics
///
/// When the world itself is broken.
pub async fn lose_the_index(client: &aws_sdk_dynamodb::Client, table: &str) {
    let delete = DeleteGlobalSecondaryIndexAction::builder().index_name(INDEX);
    let delete = delete.build().expect("an action");
    let update = GlobalSecondaryIndexUpdate::builder().delete(delete).build();
    let lost = client.update_table().table_name(table);
    lost.global_secondary_index_updates(update)
        .send()
        .await
        .expect("it is deleted");
}
