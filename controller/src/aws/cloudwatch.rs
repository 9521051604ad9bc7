//! Metrics at CloudWatch.

use aws_config::SdkConfig;
use proto::{ids::PoolName, time::Time};

use super::query::Service;
use crate::{
    metrics::{Measure, Unit},
    ports::PortError,
};

const CLOUDWATCH: Service = Service {
    name: "monitoring",
    version: "2010-08-01",
};
/// What all metrics are under; the policies name it too.
const NAMESPACE: &str = "Paddock";
/// `PutMetricData` takes so many values.
const A_CALL: usize = 1000;

/// Publishes values as of `at`: one call for each thousand.
///
/// # Errors
///
/// When CloudWatch refuses a call: its values and those after it are lost.
pub async fn publish(
    config: &SdkConfig,
    pool: &PoolName,
    measures: &[Measure],
    at: Time,
) -> Result<(), PortError> {
    for some in measures.chunks(A_CALL) {
        let mut parameters = vec![("Namespace".to_owned(), NAMESPACE.to_owned())];
        for (number, measure) in (1..).zip(some) {
            parameters.extend(datum(number, pool, measure, at));
        }
        CLOUDWATCH
            .call(config, "PutMetricData", &parameters)
            .await?;
    }
    Ok(())
}

fn datum(number: usize, pool: &PoolName, measure: &Measure, at: Time) -> Vec<(String, String)> {
    let unit = match measure.unit {
        Unit::Count => "Count",
        Unit::Seconds => "Seconds",
    };
    let (class, usage) = match &measure.kind {
        Some((class, usage)) => (class.to_string(), usage.to_string()),
        None => ("unknown".to_owned(), "unknown".to_owned()),
    };
    let mut fields = vec![
        ("MetricName".to_owned(), measure.name.to_owned()),
        ("Timestamp".to_owned(), at.to_string()),
        ("Value".to_owned(), measure.value.to_string()),
        ("Unit".to_owned(), unit.to_owned()),
    ];
    let dimensions = [
        ("Pool", pool.to_string()),
        ("Class", class),
        ("Usage", usage),
    ];
    for (number, (name, value)) in (1..).zip(dimensions) {
        fields.push((format!("Dimensions.member.{number}.Name"), name.to_owned()));
        fields.push((format!("Dimensions.member.{number}.Value"), value));
    }
    let prefix = format!("MetricData.member.{number}.");
    let fields = fields.into_iter();
    fields
        .map(|(name, value)| (format!("{prefix}{name}"), value))
        .collect()
}
