//! How much a `CreateFleet` request wants, of each usage class.

use super::super::form::Form;
use super::error::Ec2Error;
use super::placement::Wish;

/// The usage class of what is left open.
pub(super) fn default_class(form: &Form) -> &str {
    form.text("TargetCapacitySpecification.DefaultTargetCapacityType")
        .unwrap_or("on-demand")
}

/// What the request wants of each usage class.
pub(super) fn wishes(form: &Form) -> Result<Vec<Wish>, Ec2Error> {
    let number = |name: &str| form.parsed(&format!("TargetCapacitySpecification.{name}"));
    let total: usize = number("TotalTargetCapacity")?
        .ok_or_else(|| Ec2Error::missing("TargetCapacitySpecification.TotalTargetCapacity"))?;
    let mut on_demand: usize = number("OnDemandTargetCapacity")?.unwrap_or(0);
    let mut spot: usize = number("SpotTargetCapacity")?.unwrap_or(0);
    let Some(rest) = total.checked_sub(on_demand.saturating_add(spot)) else {
        return Err(Ec2Error::new(
            "InvalidTargetCapacitySpecification",
            "The target capacities add up to more than their total.",
        ));
    };
    match default_class(form) {
        "spot" => spot += rest,
        "on-demand" => on_demand += rest,
        other => return Err(Ec2Error::invalid("DefaultTargetCapacityType", other)),
    }
    let mut wishes = Vec::new();
    for (options, spot, target) in [
        ("OnDemandOptions", false, on_demand),
        ("SpotOptions", true, spot),
    ] {
        if target > 0 {
            wishes.push(wish(form, options, spot, target)?);
        }
    }
    Ok(wishes)
}

fn wish(form: &Form, options: &str, spot: bool, target: usize) -> Result<Wish, Ec2Error> {
    let flag = |name: &str| form.flag(&format!("{options}.{name}"));
    let min: Option<usize> = form.parsed(&format!("{options}.MinTargetCapacity"))?;
    let wish = Wish {
        target,
        spot,
        min: min.unwrap_or(0),
        single_zone: flag("SingleAvailabilityZone"),
        single_type: flag("SingleInstanceType"),
    };
    if min.is_some() && !wish.single_zone && !wish.single_type {
        return Err(Ec2Error::new(
            "InvalidParameterCombination",
            "MinTargetCapacity needs SingleAvailabilityZone or SingleInstanceType.",
        ));
    }
    if wish.min > target {
        return Err(Ec2Error::invalid(
            "MinTargetCapacity",
            &wish.min.to_string(),
        ));
    }
    Ok(wish)
}
