//! `CreateFleet` with `type=instant`, and what became of it.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::super::super::clock;
use super::super::form::Form;
use super::super::xml::Xml;
use super::error::Ec2Error;
use super::filter::{Filters, page};
use super::instances::lifecycle;
use super::launch::Order;
use super::offers::{self, Offer};
use super::placement::{Placement, Pool, place};
use super::tags;
use super::wishes::{default_class, wishes};
use super::{Answer, State, new_id, time};

/// A fleet, as long as anybody may ask for it.
#[derive(Clone, Debug)]
pub(super) struct Fleet {
    id: String,
    sequence: u64,
    created: Timestamp,
    target: usize,
    default_class: String,
    /// How it chose among types and subnets: the option's name, and what was asked for.
    strategies: Vec<(&'static str, String)>,
    /// `<fleetInstanceSet>` and `<errorSet>`.
    outcome: Xml,
    launched: usize,
}

/// All fleets, and the answers by client token.
#[derive(Debug, Default)]
pub(super) struct Fleets {
    all: Vec<Fleet>,
    remembered: BTreeMap<String, (Form, Xml)>,
}

/// Instances of one pool that a fleet got.
struct Group {
    pool: Pool,
    spot: bool,
    ids: Vec<String>,
}

/// Something that a fleet did not get.
struct Failure {
    offer: usize,
    pool: Option<Pool>,
    spot: bool,
    code: &'static str,
    message: String,
}

impl State {
    pub(super) fn create_fleet(&mut self, form: &Form) -> Answer {
        if let Some(token) = form.text("ClientToken")
            && let Some((before, answer)) = self.fleets.remembered.get(token)
        {
            return if before == form {
                Ok(answer.clone())
            } else {
                Err(Ec2Error::new(
                    "IdempotentParameterMismatch",
                    "The client token was used before with other parameters.",
                ))
            };
        }
        if form.text("Type") != Some("instant") {
            let message = "this yard has fleets of type instant only";
            return Err(Ec2Error::new("UnsupportedOperation", message));
        }
        let wishes = wishes(form)?;
        let offers = offers::read(form, &self.templates)?;
        let fleet_tags = tags::specified(form, "fleet")?;
        let instance_tags = tags::specified(form, "instance")?;

        let id = new_id("fleet");
        let mut given = instance_tags;
        given.insert("aws:ec2:fleet-id".to_owned(), id.clone());
        let (mut pools, mut orders, mut failures) = (Vec::new(), Vec::new(), Vec::new());
        for (at, offer) in offers.iter().enumerate() {
            let prepared = offer
                .check_price(&wishes, self.spot_price)
                .and_then(|()| self.order(offer, given.clone()))
                .and_then(|order| Ok((order, offer.pools(at, &self.network)?)));
            match prepared {
                Ok((order, opened)) => {
                    pools.extend(opened);
                    orders.push(Some(order));
                }
                Err(error) => {
                    orders.push(None);
                    failures.extend(wishes.iter().map(|wish| Failure {
                        offer: at,
                        pool: None,
                        spot: wish.spot,
                        code: error.code,
                        message: error.message.clone(),
                    }));
                }
            }
        }
        let mut groups = Vec::new();
        for wish in &wishes {
            let quota = self.quota.saturating_sub(self.instances.alive());
            let placement = place(&pools, wish, quota, &mut self.capacity);
            failures.extend(shortages(&placement, &pools, wish.spot));
            groups.extend(self.fulfil(&placement, &pools, &orders, wish.spot));
        }

        let outcome = Xml::of(|xml| {
            xml.set("errorSet", &failures, |xml, failure| {
                show_failure(xml, failure, &offers);
            });
            xml.set("fleetInstanceSet", &groups, |xml, group| {
                show_group(xml, group, &offers);
            });
        });
        self.tags.add(&id, fleet_tags);
        let answer = Xml::of(|xml| {
            xml.text("fleetId", &id).append(&outcome);
        });
        self.fleets.all.push(Fleet {
            id,
            sequence: self.fleets.all.len() as u64,
            created: clock::now(),
            target: wishes.iter().map(|wish| wish.target).sum(),
            default_class: default_class(form).to_owned(),
            strategies: strategies(form),
            outcome,
            launched: groups.iter().map(|group| group.ids.len()).sum(),
        });
        if let Some(token) = form.text("ClientToken") {
            let remembered = (form.clone(), answer.clone());
            self.fleets.remembered.insert(token.to_owned(), remembered);
        }
        Ok(answer)
    }

    fn fulfil(
        &mut self,
        placement: &Placement,
        pools: &[Pool],
        orders: &[Option<Order>],
        spot: bool,
    ) -> Vec<Group> {
        placement
            .placed
            .iter()
            .filter_map(|&(at, count)| {
                let pool = pools[at].clone();
                let order = orders[pool.offer].as_ref()?;
                let ids = self.launch(order, &pool, spot, count);
                Some(Group { pool, spot, ids })
            })
            .collect()
    }

    pub(super) fn describe_fleets(&mut self, form: &Form) -> Answer {
        let asked = form.texts("FleetId");
        for id in &asked {
            if !self.fleets.all.iter().any(|fleet| fleet.id == *id) {
                return Err(Ec2Error::new(
                    "InvalidFleetId.NotFound",
                    format!("The fleet ID '{id}' does not exist"),
                ));
            }
        }
        let all = self.fleets.all.iter();
        let chosen = all.filter(|fleet| asked.is_empty() || asked.contains(&fleet.id.as_str()));
        let found = Filters::parse(form)?.keep(chosen, |filters, fleet| {
            filters.admit(self.tags.of(&fleet.id), |name| match name {
                "fleet-state" => Some(vec!["active".to_owned()]),
                "type" => Some(vec!["instant".to_owned()]),
                _ => None,
            })
        })?;
        let page = page(found, form, |fleet| fleet.sequence)?;
        Ok(Xml::of(|xml| {
            xml.set("fleetSet", page.items, |xml, fleet| {
                xml.text("fleetId", &fleet.id)
                    .text("fleetState", "active")
                    .text("type", "instant")
                    .text("createTime", time(fleet.created))
                    .text("fulfilledCapacity", fleet.launched)
                    .node("targetCapacitySpecification", |xml| {
                        xml.text("totalTargetCapacity", fleet.target)
                            .text("defaultTargetCapacityType", &fleet.default_class);
                    })
                    .append(&fleet.outcome);
                for (options, strategy) in &fleet.strategies {
                    xml.node(options, |xml| {
                        xml.text("allocationStrategy", strategy);
                    });
                }
                self.tags.show(&fleet.id, xml);
            });
            xml.opt("nextToken", page.next);
        }))
    }
}

/// The allocation strategies that a request names, with EC2's names for the answer.
fn strategies(form: &Form) -> Vec<(&'static str, String)> {
    [
        ("OnDemandOptions", "onDemandOptions"),
        ("SpotOptions", "spotOptions"),
    ]
    .into_iter()
    .filter_map(|(asked, told)| {
        let strategy = form.text(&format!("{asked}.AllocationStrategy"))?;
        Some((told, strategy.to_owned()))
    })
    .collect()
}

fn shortages(placement: &Placement, pools: &[Pool], spot: bool) -> Vec<Failure> {
    placement
        .short
        .iter()
        .map(|&(at, shortage)| {
            let pool = pools[at].clone();
            let (code, message) = shortage.explain(spot, &pool);
            Failure {
                offer: pool.offer,
                pool: Some(pool),
                spot,
                code,
                message,
            }
        })
        .collect()
}

fn show_offer(xml: &mut Xml, offer: &Offer, pool: Option<&Pool>) {
    xml.node("launchTemplateAndOverrides", |xml| {
        xml.node("launchTemplateSpecification", |xml| {
            xml.text("launchTemplateId", &offer.template_id)
                .text("version", offer.version);
        });
        xml.node("overrides", |xml| {
            let over = &offer.overrides;
            let kind = pool.map(|pool| pool.kind.name.as_str());
            let subnet = pool.map(|pool| pool.subnet.id.as_str());
            xml.opt("instanceType", kind.or(over.text("InstanceType")))
                .opt("subnetId", subnet.or(over.text("SubnetId")))
                .opt("maxPrice", over.text("MaxPrice"))
                .opt("availabilityZone", pool.map(|pool| &pool.subnet.zone));
            if let Some(wanted) = over.get("InstanceRequirements") {
                xml.node("instanceRequirements", |xml| {
                    xml.echo(wanted);
                });
            }
        });
    });
}

fn show_group(xml: &mut Xml, group: &Group, offers: &[Offer]) {
    show_offer(xml, &offers[group.pool.offer], Some(&group.pool));
    xml.text("lifecycle", lifecycle(group.spot));
    xml.set("instanceIds", &group.ids, |xml, id| {
        xml.value(id);
    });
    xml.text("instanceType", &group.pool.kind.name);
}

fn show_failure(xml: &mut Xml, failure: &Failure, offers: &[Offer]) {
    show_offer(xml, &offers[failure.offer], failure.pool.as_ref());
    xml.text("lifecycle", lifecycle(failure.spot))
        .text("errorCode", failure.code)
        .text("errorMessage", &failure.message);
}
