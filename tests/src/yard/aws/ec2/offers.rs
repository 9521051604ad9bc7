//! What a `CreateFleet` request would take: its overrides, one by one.

use super::super::catalogue::{self, InstanceType, Range, Requirements};
use super::super::form::Form;
use super::error::Ec2Error;
use super::network::{Network, Subnet};
use super::placement::{Pool, Wish};
use super::templates::{Template, Templates};

/// A launch template's version together with one override of it.
#[derive(Clone, Debug)]
pub(super) struct Offer {
    pub(super) template_id: String,
    pub(super) version: u64,
    /// The template's data.
    pub(super) data: Form,
    /// The override's parameters; none when the request has no overrides.
    pub(super) overrides: Form,
}

impl Offer {
    /// Refuses spot machines for less than they cost.
    pub(super) fn check_price(&self, wishes: &[Wish], price: f64) -> Result<(), Ec2Error> {
        let spot = wishes.iter().any(|wish| wish.spot);
        match self.overrides.parsed::<f64>("MaxPrice")? {
            Some(most) if spot && most < price => Err(Ec2Error::new(
                "SpotMaxPriceTooLow",
                format!(
                    "Your Spot request price of {most} is lower than the minimum required Spot \
                     request fulfillment price of {price}."
                ),
            )),
            Some(_) | None => Ok(()),
        }
    }
}

/// The offers of a request, in its order.
pub(super) fn read(form: &Form, templates: &Templates) -> Result<Vec<Offer>, Ec2Error> {
    let configs = form.list("LaunchTemplateConfigs");
    if configs.is_empty() {
        return Err(Ec2Error::missing("LaunchTemplateConfigs"));
    }
    let mut offers = Vec::new();
    for config in configs {
        let specification = config
            .get("LaunchTemplateSpecification")
            .ok_or_else(|| Ec2Error::missing("LaunchTemplateSpecification"))?;
        let template = templates.of(specification)?;
        let version = specification.text("Version").ok_or_else(|| {
            Ec2Error::new(
                "InvalidFleetConfig",
                "The launch template specification must name a version.",
            )
        })?;
        let overrides = config.list("Overrides");
        if overrides.is_empty() {
            offers.push(offer(template, version, Form::default())?);
        }
        for over in overrides {
            offers.push(offer(template, version, over.clone())?);
        }
    }
    Ok(offers)
}

/// A template's version with something laid over it.
pub(super) fn offer(
    template: &Template,
    version: &str,
    overrides: Form,
) -> Result<Offer, Ec2Error> {
    let version = template.version(version)?;
    Ok(Offer {
        template_id: template.id.clone(),
        version: version.number,
        data: version.data.clone(),
        overrides,
    })
}

impl Offer {
    /// The pools it opens.
    pub(super) fn pools(&self, at: usize, network: &Network) -> Result<Vec<Pool>, Ec2Error> {
        let subnets = self.subnets(network)?;
        let kinds = self.kinds()?;
        Ok(kinds
            .into_iter()
            .flat_map(|kind| {
                subnets.iter().map(move |subnet| Pool {
                    offer: at,
                    kind,
                    subnet: subnet.clone(),
                })
            })
            .collect())
    }

    fn subnets(&self, network: &Network) -> Result<Vec<Subnet>, Ec2Error> {
        let named = self.overrides.text("SubnetId").or_else(|| {
            let interfaces = self.data.list("NetworkInterface");
            interfaces.first().and_then(|first| first.text("SubnetId"))
        });
        if let Some(id) = named {
            // Several may stand in one override, separated by commas.
            return id
                .split(',')
                .map(|id| network.subnet(id.trim()).cloned())
                .collect();
        }
        let zone = self.overrides.text("AvailabilityZone");
        let all = network.subnets().iter();
        Ok(all
            .filter(|subnet| zone.is_none_or(|zone| subnet.zone == zone))
            .cloned()
            .collect())
    }

    fn kinds(&self) -> Result<Vec<&'static InstanceType>, Ec2Error> {
        if let Some(name) = self.overrides.text("InstanceType") {
            return Ok(vec![kind(name)?]);
        }
        let wanted = self
            .overrides
            .get("InstanceRequirements")
            .or_else(|| self.data.get("InstanceRequirements"));
        if let Some(wanted) = wanted {
            let kinds: Vec<_> = requirements(wanted)?.matching().collect();
            return if kinds.is_empty() {
                Err(Ec2Error::new(
                    "InvalidFleetConfig",
                    "No instance types match the instance requirements.",
                ))
            } else {
                Ok(kinds)
            };
        }
        match self.data.text("InstanceType") {
            Some(name) => Ok(vec![kind(name)?]),
            None => Err(Ec2Error::new(
                "InvalidFleetConfig",
                "The fleet configuration names no instance type.",
            )),
        }
    }
}

/// The instance type of that name.
pub(super) fn kind(name: &str) -> Result<&'static InstanceType, Ec2Error> {
    catalogue::find(name).ok_or_else(|| Ec2Error::invalid("InstanceType", name))
}

/// Reads attribute-based requirements.
pub(super) fn requirements(form: &Form) -> Result<Requirements, Ec2Error> {
    let range = |name: &str| -> Result<Range, Ec2Error> {
        let min = form
            .parsed(&format!("{name}.Min"))?
            .ok_or_else(|| Ec2Error::missing(&format!("InstanceRequirements.{name}.Min")))?;
        let max = form.parsed(&format!("{name}.Max"))?;
        if max.is_some_and(|max| max < min) {
            return Err(Ec2Error::new(
                "InvalidParameterValue",
                format!("The minimum of {name} is above its maximum."),
            ));
        }
        Ok(Range { min, max })
    };
    let names = |name: &str| {
        let names = form.texts(name).into_iter();
        names.map(str::to_owned).collect::<Vec<_>>()
    };
    let (allowed, excluded) = (names("AllowedInstanceType"), names("ExcludedInstanceType"));
    if !allowed.is_empty() && !excluded.is_empty() {
        return Err(Ec2Error::new(
            "InvalidParameterCombination",
            "AllowedInstanceTypes and ExcludedInstanceTypes cannot both be given.",
        ));
    }
    Ok(Requirements {
        vcpus: range("VCpuCount")?,
        memory_mib: range("MemoryMiB")?,
        allowed,
        excluded,
        burstable: matches!(
            form.text("BurstablePerformance"),
            Some("included" | "required")
        ),
    })
}
