//! One default VPC with a subnet in each of three zones, and security groups.

use super::super::form::Form;
use super::super::xml::Xml;
use super::error::Ec2Error;
use super::filter::Filters;
use super::{Answer, State, new_id};

const VPC: &str = "vpc-0a";

/// A subnet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Subnet {
    pub(super) id: String,
    pub(super) zone: String,
    cidr: String,
}

#[derive(Clone, Debug)]
struct SecurityGroup {
    id: String,
    name: String,
    description: String,
}

/// What instances are attached to.
#[derive(Debug)]
pub(super) struct Network {
    subnets: Vec<Subnet>,
    groups: Vec<SecurityGroup>,
}

impl Network {
    pub(super) fn new(region: &str) -> Self {
        let subnets = ["a", "b", "c"]
            .iter()
            .enumerate()
            .map(|(n, letter)| Subnet {
                id: format!("subnet-0{letter}"),
                zone: format!("{region}{letter}"),
                cidr: format!("172.31.{}.0/20", n * 16),
            })
            .collect();
        let group = |id: &str, name: &str| SecurityGroup {
            id: id.to_owned(),
            name: name.to_owned(),
            description: name.to_owned(),
        };
        Self {
            subnets,
            groups: vec![group("sg-0", "default"), group("sg-1", "runners")],
        }
    }

    pub(super) fn subnets(&self) -> &[Subnet] {
        &self.subnets
    }

    pub(super) fn subnet(&self, id: &str) -> Result<&Subnet, Ec2Error> {
        self.subnets
            .iter()
            .find(|subnet| subnet.id == id)
            .ok_or_else(|| {
                Ec2Error::new(
                    "InvalidSubnetID.NotFound",
                    format!("The subnet ID '{id}' does not exist"),
                )
            })
    }

    /// The name of a security group.
    pub(super) fn group(&self, id: &str) -> Result<&str, Ec2Error> {
        self.groups
            .iter()
            .find(|group| group.id == id)
            .map(|group| group.name.as_str())
            .ok_or_else(|| no_group(id))
    }
}

fn no_group(id: &str) -> Ec2Error {
    Ec2Error::new(
        "InvalidGroup.NotFound",
        format!("The security group '{id}' does not exist"),
    )
}

fn check_vpc(id: &str) -> Result<(), Ec2Error> {
    if id == VPC {
        Ok(())
    } else {
        Err(Ec2Error::new(
            "InvalidVpcID.NotFound",
            format!("The vpc ID '{id}' does not exist"),
        ))
    }
}

impl State {
    pub(super) fn describe_vpcs(&mut self, form: &Form) -> Answer {
        for id in form.texts("VpcId") {
            check_vpc(id)?;
        }
        let shown = Filters::parse(form)?.admit(self.tags.of(VPC), |name| match name {
            "is-default" | "isDefault" => Some(vec!["true".to_owned()]),
            "vpc-id" => Some(vec![VPC.to_owned()]),
            "state" => Some(vec!["available".to_owned()]),
            _ => None,
        })?;
        Ok(Xml::of(|xml| {
            xml.set("vpcSet", shown.then_some(VPC), |xml, id| {
                xml.text("vpcId", id)
                    .text("ownerId", &self.account)
                    .text("state", "available")
                    .text("cidrBlock", "172.31.0.0/16")
                    .text("isDefault", true);
                self.tags.show(id, xml);
            });
        }))
    }

    pub(super) fn describe_subnets(&mut self, form: &Form) -> Answer {
        let asked = form.texts("SubnetId");
        for id in &asked {
            self.network.subnet(id)?;
        }
        let filters = Filters::parse(form)?;
        let chosen = self
            .network
            .subnets
            .iter()
            .filter(|subnet| asked.is_empty() || asked.contains(&subnet.id.as_str()));
        let found = filters.keep(chosen, |filters, subnet| {
            filters.admit(self.tags.of(&subnet.id), |name| match name {
                "vpc-id" => Some(vec![VPC.to_owned()]),
                "subnet-id" => Some(vec![subnet.id.clone()]),
                "availability-zone" | "availabilityZone" => Some(vec![subnet.zone.clone()]),
                "default-for-az" | "defaultForAz" => Some(vec!["true".to_owned()]),
                "state" => Some(vec!["available".to_owned()]),
                _ => None,
            })
        })?;
        Ok(Xml::of(|xml| {
            xml.set("subnetSet", found, |xml, subnet| {
                xml.text("subnetId", &subnet.id)
                    .text("subnetArn", self.arn("subnet", &subnet.id))
                    .text("state", "available")
                    .text("vpcId", VPC)
                    .text("cidrBlock", &subnet.cidr)
                    .text("availableIpAddressCount", 4091)
                    .text("availabilityZone", &subnet.zone)
                    .text("defaultForAz", true)
                    .text("ownerId", &self.account);
                self.tags.show(&subnet.id, xml);
            });
        }))
    }

    pub(super) fn create_security_group(&mut self, form: &Form) -> Answer {
        let name = form
            .text("GroupName")
            .ok_or_else(|| Ec2Error::missing("GroupName"))?;
        if let Some(vpc) = form.text("VpcId") {
            check_vpc(vpc)?;
        }
        if self.network.groups.iter().any(|group| group.name == name) {
            return Err(Ec2Error::new(
                "InvalidGroup.Duplicate",
                format!("The security group '{name}' already exists for VPC '{VPC}'"),
            ));
        }
        let id = new_id("sg");
        self.network.groups.push(SecurityGroup {
            id: id.clone(),
            name: name.to_owned(),
            description: form.text("GroupDescription").unwrap_or_default().to_owned(),
        });
        Ok(Xml::of(|xml| {
            xml.text("return", true).text("groupId", id);
        }))
    }

    pub(super) fn describe_security_groups(&mut self, form: &Form) -> Answer {
        let asked = form.texts("GroupId");
        for id in &asked {
            self.network.group(id)?;
        }
        let chosen = self
            .network
            .groups
            .iter()
            .filter(|group| asked.is_empty() || asked.contains(&group.id.as_str()));
        let found = Filters::parse(form)?.keep(chosen, |filters, group| {
            filters.admit(self.tags.of(&group.id), |name| match name {
                "group-id" => Some(vec![group.id.clone()]),
                "group-name" => Some(vec![group.name.clone()]),
                "vpc-id" => Some(vec![VPC.to_owned()]),
                _ => None,
            })
        })?;
        Ok(Xml::of(|xml| {
            xml.set("securityGroupInfo", found, |xml, group| {
                xml.text("ownerId", &self.account)
                    .text("groupId", &group.id)
                    .text("groupName", &group.name)
                    .text("groupDescription", &group.description)
                    .text("vpcId", VPC);
                self.tags.show(&group.id, xml);
            });
        }))
    }
}
