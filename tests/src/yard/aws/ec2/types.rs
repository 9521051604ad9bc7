//! The actions on instance types, their prices and images.

use super::super::super::clock;
use super::super::catalogue::{self, InstanceType};
use super::super::form::Form;
use super::super::xml::Xml;
use super::error::Ec2Error;
use super::filter::{Filters, page};
use super::tags::TagMap;
use super::{Answer, State, offers, time};

/// Images of Amazon's, for whoever lists them. Any other id exists as well.
const IMAGES: [(&str, &str); 2] = [
    (
        "ami-0123456789abcdef0",
        "al2023-ami-2023.9.20261101.0-kernel-6.12-x86_64",
    ),
    (
        "ami-0123456789abcdef1",
        "ubuntu/images/hvm-ssd-gp3/ubuntu-noble-24.04-amd64-server-20261101",
    ),
];

impl State {
    #[expect(clippy::unused_self, reason = "all actions have one shape")]
    pub(super) fn describe_instance_types(&mut self, form: &Form) -> Answer {
        let asked = form.texts("InstanceType");
        let named: Vec<&InstanceType> = if asked.is_empty() {
            catalogue::all().iter().collect()
        } else {
            asked
                .iter()
                .map(|name| {
                    catalogue::find(name).ok_or_else(|| {
                        Ec2Error::new(
                            "InvalidInstanceType",
                            format!("The following supplied instance types do not exist: [{name}]"),
                        )
                    })
                })
                .collect::<Result<_, _>>()?
        };
        let found = Filters::parse(form)?.keep(named, |filters, kind| {
            filters.admit(&TagMap::new(), |name| match name {
                "instance-type" => Some(vec![kind.name.clone()]),
                "vcpu-info.default-vcpus" => Some(vec![kind.vcpus.to_string()]),
                "memory-info.size-in-mib" => Some(vec![kind.memory_mib.to_string()]),
                "processor-info.supported-architecture" => Some(vec!["x86_64".to_owned()]),
                "current-generation" => Some(vec!["true".to_owned()]),
                _ => None,
            })
        })?;
        let numbered = found.into_iter().zip(1_u64..).collect();
        let page = page(numbered, form, |(_, number)| *number)?;
        Ok(Xml::of(|xml| {
            xml.set("instanceTypeSet", page.items, |xml, (kind, _)| {
                show_type(xml, kind);
            });
            xml.opt("nextToken", page.next);
        }))
    }

    pub(super) fn describe_instance_type_offerings(&mut self, form: &Form) -> Answer {
        let by_zone = form.text("LocationType") == Some("availability-zone");
        let locations: Vec<String> = if by_zone {
            let subnets = self.network.subnets().iter();
            subnets.map(|subnet| subnet.zone.clone()).collect()
        } else {
            vec![self.region.clone()]
        };
        let all = catalogue::all()
            .iter()
            .flat_map(|kind| locations.iter().map(move |location| (kind, location)));
        let found = Filters::parse(form)?.keep(all, |filters, (kind, location)| {
            filters.admit(&TagMap::new(), |name| match name {
                "instance-type" => Some(vec![kind.name.clone()]),
                "location" => Some(vec![(*location).clone()]),
                _ => None,
            })
        })?;
        let location_type = if by_zone {
            "availability-zone"
        } else {
            "region"
        };
        Ok(Xml::of(|xml| {
            xml.set("instanceTypeOfferingSet", found, |xml, (kind, location)| {
                xml.text("instanceType", &kind.name)
                    .text("locationType", location_type)
                    .text("location", location);
            });
        }))
    }

    #[expect(clippy::unused_self, reason = "all actions have one shape")]
    pub(super) fn get_instance_types_from_instance_requirements(&mut self, form: &Form) -> Answer {
        let wanted = form
            .get("InstanceRequirements")
            .ok_or_else(|| Ec2Error::missing("InstanceRequirements"))?;
        let intel = form.texts("ArchitectureType").contains(&"x86_64");
        let wanted = offers::requirements(wanted)?;
        let found: Vec<_> = wanted.matching().filter(|_| intel).collect();
        Ok(Xml::of(|xml| {
            xml.set("instanceTypeSet", found, |xml, kind| {
                xml.text("instanceType", &kind.name);
            });
        }))
    }

    pub(super) fn describe_spot_price_history(&mut self, form: &Form) -> Answer {
        let asked = form.texts("InstanceType");
        let limit = form.parsed("MaxResults")?.unwrap_or(1000);
        let now = time(clock::now());
        let subnets = self.network.subnets();
        let prices = catalogue::all()
            .iter()
            .filter(|kind| asked.is_empty() || asked.contains(&kind.name.as_str()))
            .flat_map(|kind| subnets.iter().map(move |subnet| (kind, &subnet.zone)))
            .take(limit);
        Ok(Xml::of(|xml| {
            xml.set("spotPriceHistorySet", prices, |xml, (kind, zone)| {
                // About a third of the price on demand.
                let price = f64::from(kind.price) / 100_000.0 / 3.0;
                xml.text("instanceType", &kind.name)
                    .text("productDescription", "Linux/UNIX")
                    .text("spotPrice", format!("{price:.6}"))
                    .text("timestamp", &now)
                    .text("availabilityZone", zone);
            });
        }))
    }

    pub(super) fn describe_images(&mut self, form: &Form) -> Answer {
        let asked = form.texts("ImageId");
        if let Some(id) = asked.iter().find(|id| !id.starts_with("ami-")) {
            return Err(Ec2Error::new(
                "InvalidAMIID.Malformed",
                format!("Invalid id: \"{id}\""),
            ));
        }
        let images: Vec<(&str, &str)> = if asked.is_empty() {
            IMAGES.to_vec()
        } else {
            asked.into_iter().map(|id| (id, "custom")).collect()
        };
        let found = Filters::parse(form)?.keep(images, |filters, (id, name)| {
            filters.admit(self.tags.of(id), |filter| match filter {
                "image-id" => Some(vec![(*id).to_owned()]),
                "name" => Some(vec![(*name).to_owned()]),
                "state" => Some(vec!["available".to_owned()]),
                "architecture" => Some(vec!["x86_64".to_owned()]),
                _ => None,
            })
        })?;
        Ok(Xml::of(|xml| {
            xml.set("imagesSet", found, |xml, (id, name)| {
                xml.text("imageId", id)
                    .text("name", name)
                    .text("imageState", "available")
                    .text("imageOwnerId", &self.account)
                    .text("architecture", "x86_64")
                    .text("imageType", "machine")
                    .text("rootDeviceName", "/dev/xvda")
                    .text("rootDeviceType", "ebs")
                    .text("virtualizationType", "hvm")
                    .set("blockDeviceMapping", [()], |xml, ()| {
                        xml.text("deviceName", "/dev/xvda").node("ebs", |xml| {
                            xml.text("snapshotId", "snap-0123456789abcdef0")
                                .text("volumeSize", 8)
                                .text("volumeType", "gp3")
                                .text("encrypted", false);
                        });
                    })
                    .text("creationDate", "2026-11-01T00:00:00.000Z");
                self.tags.show(id, xml);
            });
        }))
    }
}

fn show_type(xml: &mut Xml, kind: &InstanceType) {
    xml.text("instanceType", &kind.name)
        .text("currentGeneration", true)
        .set(
            "supportedUsageClasses",
            ["on-demand", "spot"],
            |xml, class| {
                xml.value(class);
            },
        )
        .text("bareMetal", false)
        .text("hypervisor", "nitro")
        .node("processorInfo", |xml| {
            xml.set("supportedArchitectures", ["x86_64"], |xml, name| {
                xml.value(name);
            });
        })
        .node("vCpuInfo", |xml| {
            xml.text("defaultVCpus", kind.vcpus)
                .text("defaultCores", kind.vcpus.div_ceil(2))
                .text("defaultThreadsPerCore", kind.vcpus.min(2));
        })
        .node("memoryInfo", |xml| {
            xml.text("sizeInMiB", kind.memory_mib);
        })
        .text("burstablePerformanceSupported", kind.name.starts_with('t'));
}
