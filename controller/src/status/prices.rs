//! What machines cost, as the operator says it.

use std::collections::BTreeMap;

use proto::instance::{InstanceRecord, UsageClass};
use serde::Deserialize;

use super::Cost;

/// USD an hour, by instance type and usage class:
/// `{"m6i.large": {"on-demand": 0.096, "spot": 0.035}}`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(transparent)]
pub struct Prices(BTreeMap<String, BTreeMap<UsageClass, f64>>);

impl Prices {
    /// Reads a price file.
    ///
    /// # Errors
    ///
    /// In words, when it is not of that form or a price is none.
    pub fn parse(text: &str) -> Result<Self, String> {
        let prices: Self = serde_json::from_str(text).map_err(|error| error.to_string())?;
        for (kind, usages) in &prices.0 {
            for (usage, price) in usages {
                if !price.is_finite() || *price < 0.0 {
                    return Err(format!("{kind} {usage} has the price {price}"));
                }
            }
        }
        Ok(prices)
    }

    /// What these machines cost.
    pub(super) fn cost(&self, records: &[InstanceRecord]) -> Cost {
        let mut cost = Cost {
            usd_per_hour: 0.0,
            unpriced: BTreeMap::new(),
        };
        for record in records {
            let (kind, usage) = (&record.instance_type, record.usage_class);
            match self.0.get(kind).and_then(|usages| usages.get(&usage)) {
                Some(price) => cost.usd_per_hour += price,
                None => *cost.unpriced.entry(format!("{kind} {usage}")).or_default() += 1,
            }
        }
        cost
    }
}

#[cfg(test)]
mod tests {
    use proto::state::State;

    use super::*;

    #[test]
    fn machines_without_a_price_are_named() {
        let prices = Prices::parse(r#"{"m6i.large": {"on-demand": 0.5}}"#).unwrap();
        let one = InstanceRecord::example(State::Idle);
        let spot = InstanceRecord {
            usage_class: UsageClass::Spot,
            ..one.clone()
        };
        let cost = prices.cost(&[one.clone(), one, spot]);
        assert!((cost.usd_per_hour - 1.0).abs() < 1e-9);
        assert_eq!(
            cost.unpriced,
            BTreeMap::from([("m6i.large spot".to_owned(), 1)])
        );
    }

    #[test]
    fn what_is_no_price_is_said() {
        assert!(Prices::parse("{").is_err());
        assert!(Prices::parse(r#"{"m6i.large": {"cheap": 1}}"#).is_err());
        let odd = Prices::parse(r#"{"m6i.large": {"spot": -1}}"#).unwrap_err();
        assert!(odd.contains("m6i.large spot"), "{odd}");
    }
}
