//! Brings instances into being and announces their machines.

use super::super::form::Form;
use super::super::{Launch, MachineEvent};
use super::State;
use super::error::Ec2Error;
use super::instances::Blueprint;
use super::offers::Offer;
use super::placement::Pool;
use super::tags::{self, TagMap};
use super::templates::user_data;

/// Everything that the instances of one group have in common.
#[derive(Clone, Debug)]
pub(super) struct Order {
    pub(super) blueprint: Blueprint,
    pub(super) tags: TagMap,
}

impl State {
    /// What an offer makes of an instance. `given` are the tags of the request,
    /// which win over those of the template.
    pub(super) fn order(&self, offer: &Offer, given: TagMap) -> Result<Order, Ec2Error> {
        let mut all = tags::specified(&offer.data, "instance")?;
        all.extend(given);
        let from = [
            ("aws:ec2launchtemplate:id", offer.template_id.clone()),
            ("aws:ec2launchtemplate:version", offer.version.to_string()),
        ];
        all.extend(from.map(|(key, value)| (key.to_owned(), value)));
        Ok(Order {
            blueprint: Blueprint {
                client_token: None,
                ..self.blueprint(&offer.data.overlaid(&offer.overrides))?
            },
            tags: all,
        })
    }

    /// Reads what a template's data or a request says of an instance.
    pub(super) fn blueprint(&self, data: &Form) -> Result<Blueprint, Ec2Error> {
        let image = data
            .text("ImageId")
            .ok_or_else(|| Ec2Error::missing("ImageId"))?;
        if !image.starts_with("ami-") {
            return Err(Ec2Error::new(
                "InvalidAMIID.Malformed",
                format!("Invalid id: \"{image}\""),
            ));
        }
        let interfaces = data.list("NetworkInterface");
        let groups = match interfaces.first() {
            Some(interface) => interface.texts("SecurityGroupId"),
            None => data.texts("SecurityGroupId"),
        };
        let groups = if groups.is_empty() {
            vec!["sg-0"]
        } else {
            groups
        };
        Ok(Blueprint {
            image: image.to_owned(),
            user_data: data
                .text("UserData")
                .map(user_data)
                .transpose()?
                .unwrap_or_default(),
            profile: data
                .text("IamInstanceProfile.Name")
                .or_else(|| data.text("IamInstanceProfile.Arn"))
                .map(str::to_owned),
            groups: groups
                .into_iter()
                .map(|id| Ok((id.to_owned(), self.network.group(id)?.to_owned())))
                .collect::<Result<_, Ec2Error>>()?,
            key_name: data.text("KeyName").map(str::to_owned),
            client_token: data.text("ClientToken").map(str::to_owned),
        })
    }

    /// Launches `count` instances of a pool and returns their ids.
    pub(super) fn launch(
        &mut self,
        order: &Order,
        pool: &Pool,
        spot: bool,
        count: usize,
    ) -> Vec<String> {
        let reservation = super::new_id("r");
        (0..count)
            .map(|_| {
                let instance = self.instances.add(
                    pool.kind,
                    pool.subnet.clone(),
                    spot,
                    order.blueprint.clone(),
                    &reservation,
                    self.lag,
                );
                let id = instance.id.clone();
                self.tags.add(&id, order.tags.clone());
                self.announce(&id, order, pool, spot);
                id
            })
            .collect()
    }

    fn announce(&self, id: &str, order: &Order, pool: &Pool, spot: bool) {
        let launch = Launch {
            id: id.to_owned(),
            arn: self.arn("instance", id),
            region: self.region.clone(),
            account: self.account.clone(),
            zone: pool.subnet.zone.clone(),
            instance_type: pool.kind.name.clone(),
            image_id: order.blueprint.image.clone(),
            spot,
            user_data: order.blueprint.user_data.clone(),
            tags: order.tags.clone(),
            instance_profile: order.blueprint.profile.clone(),
        };
        self.tell(MachineEvent::Launched(launch));
    }

    /// Tells the machines half; when nobody listens, instances stay pending.
    pub(super) fn tell(&self, event: MachineEvent) {
        if self.events.send(event).is_err() {
            tracing::debug!("nobody runs machines for this EC2");
        }
    }
}
