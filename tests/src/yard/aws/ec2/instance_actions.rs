//! The actions on instances.

use super::super::MachineEvent;
use super::super::form::Form;
use super::super::xml::Xml;
use super::error::Ec2Error;
use super::filter::{Filters, page};
use super::instances::{Instance, InstanceState};
use super::launch::Order;
use super::offers::{self, Offer};
use super::placement::{Wish, place};
use super::tags;
use super::{Answer, State, time};

impl State {
    pub(super) fn describe_instances(&mut self, form: &Form) -> Answer {
        let found = self.chosen(form)?;
        let page = page(found, form, |instance| instance.sequence)?;
        let reservations = page
            .items
            .chunk_by(|one, next| one.reservation == next.reservation);
        Ok(Xml::of(|xml| {
            xml.set("reservationSet", reservations, |xml, instances| {
                xml.text("reservationId", &instances[0].reservation)
                    .text("ownerId", &self.account);
                xml.set("instancesSet", instances, |xml, instance| {
                    self.show_instance(xml, instance);
                });
            });
            xml.opt("nextToken", page.next);
        }))
    }

    pub(super) fn describe_instance_status(&mut self, form: &Form) -> Answer {
        let all = form.flag("IncludeAllInstances");
        let mut found = self.chosen(form)?;
        found.retain(|instance| all || instance.state == InstanceState::Running);
        let page = page(found, form, |instance| instance.sequence)?;
        Ok(Xml::of(|xml| {
            xml.set("instanceStatusSet", page.items, |xml, instance| {
                xml.text("instanceId", &instance.id)
                    .text("availabilityZone", &instance.subnet.zone);
                show_state(xml, "instanceState", instance.state);
                for name in ["systemStatus", "instanceStatus"] {
                    xml.node(name, |xml| {
                        xml.text("status", health(instance.state));
                    });
                }
            });
            xml.opt("nextToken", page.next);
        }))
    }

    /// The instances that a call names and filters.
    fn chosen(&self, form: &Form) -> Result<Vec<&Instance>, Ec2Error> {
        let asked = form.texts("InstanceId");
        if !asked.is_empty() && form.text("MaxResults").is_some() {
            return Err(Ec2Error::new(
                "InvalidParameterCombination",
                "The parameter instancesSet cannot be used with the parameter maxResults",
            ));
        }
        let visible: Vec<&Instance> = self.instances.visible().collect();
        let known = |id: &&str| visible.iter().any(|instance| instance.id == *id);
        let unknown: Vec<&str> = asked.iter().copied().filter(|id| !known(id)).collect();
        if !unknown.is_empty() {
            return Err(Ec2Error::no_instance(&unknown));
        }
        let named = visible
            .into_iter()
            .filter(|one| asked.is_empty() || asked.contains(&one.id.as_str()));
        Filters::parse(form)?.keep(named, |filters, instance| {
            filters.admit(self.tags.of(&instance.id), |name| attribute(instance, name))
        })
    }

    /// All or nothing: one unknown id and no instance is touched.
    pub(super) fn terminate_instances(&mut self, form: &Form) -> Answer {
        let ids = form.texts("InstanceId");
        if ids.is_empty() {
            return Err(Ec2Error::missing("InstanceId"));
        }
        if ids.len() > 1000 {
            let message = "Cannot terminate more than 1000 instances in one call.";
            return Err(Ec2Error::new("InvalidParameterValue", message));
        }
        if let Some(id) = ids.iter().find(|id| !well_formed(id)) {
            return Err(Ec2Error::new(
                "InvalidInstanceID.Malformed",
                format!("Invalid id: \"{id}\""),
            ));
        }
        let known = |id: &&str| self.instances.visible().any(|one| one.id == *id);
        let unknown: Vec<&str> = ids.iter().copied().filter(|id| !known(id)).collect();
        if !unknown.is_empty() {
            return Err(Ec2Error::no_instance(&unknown));
        }
        let mut changes = Vec::new();
        for id in ids {
            let Some(before) = self.instances.terminate(id) else {
                continue;
            };
            if before.is_alive() {
                self.tell(MachineEvent::Terminated { id: id.to_owned() });
            }
            let after = self.instances.find(id).map_or(before, |one| one.state);
            changes.push((id, before, after));
        }
        Ok(Xml::of(|xml| {
            xml.set("instancesSet", changes, |xml, (id, before, after)| {
                xml.text("instanceId", id);
                // A caller is told of the shutdown even when it took no time.
                let told = if before.is_alive() {
                    InstanceState::ShuttingDown
                } else {
                    after
                };
                show_state(xml, "currentState", told);
                show_state(xml, "previousState", before);
            });
        }))
    }

    pub(super) fn run_instances(&mut self, form: &Form) -> Answer {
        let count: usize = form
            .parsed("MaxCount")?
            .ok_or_else(|| Ec2Error::missing("MaxCount"))?;
        let min: usize = form
            .parsed("MinCount")?
            .ok_or_else(|| Ec2Error::missing("MinCount"))?;
        if min == 0 || min > count {
            return Err(Ec2Error::invalid("MinCount", &min.to_string()));
        }
        let given = tags::specified(form, "instance")?;
        let (offer, order) = self.requested(form, given)?;
        let spot = form.text("InstanceMarketOptions.MarketType") == Some("spot");
        let pools = offer.pools(0, &self.network)?;
        let wish = Wish {
            target: count,
            spot,
            min,
            // One call of RunInstances never spreads.
            single_zone: true,
            single_type: true,
        };
        let quota = self.quota.saturating_sub(self.instances.alive());
        let placement = place(&pools, &wish, quota, &mut self.capacity);
        let Some(&(at, count)) = placement.placed.first() else {
            let refused = placement.short.first().map(|&(at, shortage)| {
                let (code, message) = shortage.explain(spot, &pools[at]);
                Ec2Error::new(code, message)
            });
            return Err(refused.unwrap_or_else(|| Ec2Error::missing("SubnetId")));
        };
        let ids = self.launch(&order, &pools[at], spot, count);
        let launched: Vec<&Instance> = ids
            .iter()
            .filter_map(|id| self.instances.find(id))
            .collect();
        Ok(Xml::of(|xml| {
            xml.opt(
                "reservationId",
                launched.first().map(|one| &one.reservation),
            )
            .text("ownerId", &self.account)
            .set("instancesSet", launched, |xml, instance| {
                self.show_instance(xml, instance);
            });
        }))
    }

    /// What a `RunInstances` request asks for, with or without a template.
    fn requested(&self, form: &Form, given: tags::TagMap) -> Result<(Offer, Order), Ec2Error> {
        if let Some(named) = form.get("LaunchTemplate") {
            let template = self.templates.of(named)?;
            let version = named.text("Version").unwrap_or("$Default");
            let offer = offers::offer(template, version, form.clone())?;
            let order = self.order(&offer, given)?;
            return Ok((offer, order));
        }
        let offer = Offer {
            template_id: String::new(),
            version: 0,
            data: Form::default(),
            overrides: form.clone(),
        };
        let order = Order {
            blueprint: self.blueprint(form)?,
            tags: given,
        };
        Ok((offer, order))
    }

    fn show_instance(&self, xml: &mut Xml, instance: &Instance) {
        let blueprint = &instance.blueprint;
        xml.text("instanceId", &instance.id)
            .text("imageId", &blueprint.image);
        show_state(xml, "instanceState", instance.state);
        xml.opt("keyName", blueprint.key_name.as_deref())
            .text("instanceType", &instance.kind.name)
            .text("launchTime", time(instance.launched))
            .node("placement", |xml| {
                xml.text("availabilityZone", &instance.subnet.zone)
                    .text("tenancy", "default");
            })
            .text("subnetId", &instance.subnet.id)
            .text("vpcId", "vpc-0a")
            .text("architecture", "x86_64")
            .text("virtualizationType", "hvm")
            .opt("clientToken", blueprint.client_token.as_deref())
            .opt("instanceLifecycle", instance.spot.then_some("spot"));
        if let Some(profile) = &blueprint.profile {
            let arn = if profile.starts_with("arn:") {
                profile.clone()
            } else {
                format!("arn:aws:iam::{}:instance-profile/{profile}", self.account)
            };
            xml.node("iamInstanceProfile", |xml| {
                xml.text("arn", arn);
            });
        }
        if let Some(reason) = instance.reason {
            xml.node("stateReason", |xml| {
                xml.text("code", reason)
                    .text("message", format!("{reason}: {reason}"));
            });
        }
        xml.set("groupSet", &blueprint.groups, |xml, (id, name)| {
            xml.text("groupId", id).text("groupName", name);
        });
        self.tags.show(&instance.id, xml);
    }
}

fn show_state(xml: &mut Xml, name: &str, state: InstanceState) {
    xml.node(name, |xml| {
        xml.text("code", state.code()).text("name", state.name());
    });
}

fn health(state: InstanceState) -> &'static str {
    match state {
        InstanceState::Running => "ok",
        InstanceState::Pending => "initializing",
        InstanceState::ShuttingDown | InstanceState::Terminated => "not-applicable",
    }
}

fn well_formed(id: &str) -> bool {
    id.strip_prefix("i-")
        .is_some_and(|hex| hex.len() >= 8 && hex.chars().all(|c| c.is_ascii_hexdigit()))
}

/// What a filter of that name looks at.
fn attribute(instance: &Instance, name: &str) -> Option<Vec<String>> {
    let value = match name {
        "instance-id" => instance.id.clone(),
        "instance-state-name" => instance.state.name().to_owned(),
        "instance-state-code" => instance.state.code().to_string(),
        "instance-type" => instance.kind.name.clone(),
        "instance-lifecycle" => {
            // An on-demand instance has no lifecycle at all.
            return Some(
                instance
                    .spot
                    .then(|| "spot".to_owned())
                    .into_iter()
                    .collect(),
            );
        }
        "availability-zone" => instance.subnet.zone.clone(),
        "subnet-id" => instance.subnet.id.clone(),
        "vpc-id" => "vpc-0a".to_owned(),
        "image-id" => instance.blueprint.image.clone(),
        "reservation-id" => instance.reservation.clone(),
        "client-token" => instance.blueprint.client_token.clone().unwrap_or_default(),
        "instance.group-id" => {
            let groups = instance.blueprint.groups.iter();
            return Some(groups.map(|(id, _)| id.clone()).collect());
        }
        _ => return None,
    };
    Some(vec![value])
}
