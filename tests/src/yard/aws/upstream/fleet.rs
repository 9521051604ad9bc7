//! `CreateFleet` for a stand-in that knows neither requirements nor shortage.

use axum::body::Bytes;

use super::super::capacity::Capacities;
use super::super::ec2::requirements;
use super::super::form::{Form, Malformed};
use super::super::xml::Xml;
use super::client::Template;

/// Names the template of an instance.
pub(super) const TEMPLATE_TAG: &str = "yard:template";

/// Names the version of that template.
pub(super) const VERSION_TAG: &str = "yard:template-version";

/// What to send on, and what to add to the answer.
pub(super) struct Plan {
    pub(super) form: Form,
    /// How many instances to launch.
    pub(super) count: usize,
    short: usize,
    spot: bool,
    kind: String,
}

/// A request that goes no further.
pub(super) struct Refusal {
    pub(super) code: &'static str,
    pub(super) message: String,
}

/// Fills in instance types, marks the instances with their template and takes
/// off what the capacity does not allow.
pub(super) fn plan(
    form: Form,
    template: Option<&Template>,
    capacity: &mut Capacities,
) -> Result<Plan, Refusal> {
    let mut form = form;
    let kind = fill_types(&mut form)?;
    if let Some(template) = template {
        mark(&mut form, template)?;
    }
    let path = |name: &str| format!("TargetCapacitySpecification.{name}");
    let spot = form.text(&path("DefaultTargetCapacityType")) == Some("spot");
    let target: usize = form
        .parsed(&path("TotalTargetCapacity"))
        .map_err(malformed)?
        .unwrap_or(1);
    let options = if spot {
        "SpotOptions"
    } else {
        "OnDemandOptions"
    };
    let min: usize = form
        .parsed(&format!("{options}.MinTargetCapacity"))
        .map_err(malformed)?
        .unwrap_or(0);
    let mut left = capacity.clone();
    let mut count = (0..target)
        .take_while(|_| left.take(&kind, spot, ""))
        .count();
    if count < min {
        count = 0;
    } else {
        *capacity = left;
    }
    for name in [
        "TotalTargetCapacity",
        "OnDemandTargetCapacity",
        "SpotTargetCapacity",
    ] {
        let path = path(name);
        if form.text(&path).is_some_and(|text| text != "0") {
            set(&mut form, &path, &count.to_string())?;
        }
    }
    Ok(Plan {
        form,
        count,
        short: target - count,
        spot,
        kind,
    })
}

/// Gives every override an instance type; returns the first one's.
fn fill_types(form: &mut Form) -> Result<String, Refusal> {
    let mut chosen = Vec::new();
    for (c, config) in (1..).zip(form.list("LaunchTemplateConfigs")) {
        for (o, over) in (1..).zip(config.list("Overrides")) {
            let kind = match (over.text("InstanceType"), over.get("InstanceRequirements")) {
                (Some(kind), _) => kind.to_owned(),
                (None, Some(wanted)) => cheapest(wanted)?,
                (None, None) => continue,
            };
            let path = format!("LaunchTemplateConfigs.{c}.Overrides.{o}.InstanceType");
            chosen.push((path, kind));
        }
    }
    for (path, kind) in &chosen {
        set(form, path, kind)?;
    }
    Ok(chosen
        .into_iter()
        .next()
        .map_or_else(String::new, |(_, kind)| kind))
}

fn cheapest(wanted: &Form) -> Result<String, Refusal> {
    let wanted = requirements(wanted).map_err(|error| Refusal {
        code: "InvalidParameterValue",
        message: error,
    })?;
    let mut matching = wanted.matching();
    matching
        .next()
        .map(|kind| kind.name.clone())
        .ok_or(Refusal {
            code: "InvalidFleetConfig",
            message: "No instance types match the instance requirements.".to_owned(),
        })
}

/// Tags the instances with their template, as AWS does by itself; the names
/// that AWS uses for that are not for others to give.
fn mark(form: &mut Form, template: &Template) -> Result<(), Refusal> {
    let next = form.list("TagSpecification").len() + 1;
    let path = format!("TagSpecification.{next}");
    set(form, &format!("{path}.ResourceType"), "instance")?;
    let tags = [
        (TEMPLATE_TAG, &template.id),
        (VERSION_TAG, &template.version),
    ];
    for (n, (key, value)) in (1..).zip(tags) {
        set(form, &format!("{path}.Tag.{n}.Key"), key)?;
        set(form, &format!("{path}.Tag.{n}.Value"), value)?;
    }
    Ok(())
}

fn set(form: &mut Form, path: &str, value: &str) -> Result<(), Refusal> {
    form.insert(path, value.to_owned()).map_err(malformed)
}

fn malformed(Malformed { name, value }: Malformed) -> Refusal {
    Refusal {
        code: "InvalidParameterValue",
        message: format!("Invalid value '{value}' for {name}."),
    }
}

impl Plan {
    /// The answer when nothing at all can be launched.
    pub(super) fn nothing(&self) -> String {
        let namespace = "http://ec2.amazonaws.com/doc/2016-11-15/";
        Xml::document("CreateFleetResponse", namespace, |xml| {
            xml.text("fleetId", "fleet-none")
                .append(&self.errors())
                .node("fleetInstanceSet", |_| {});
        })
        .into_string()
    }

    /// The other stand-in's answer with the shortage added.
    pub(super) fn with_errors(&self, body: Bytes) -> Bytes {
        let end = "</CreateFleetResponse>";
        match std::str::from_utf8(&body) {
            Ok(text) if self.short > 0 && text.contains(end) => {
                let errors = self.errors().into_string();
                let bare = text.replace("<errorSet/>", "");
                Bytes::from(bare.replace(end, &format!("{errors}{end}")))
            }
            Ok(_) | Err(_) => body,
        }
    }

    fn errors(&self) -> Xml {
        let message = format!(
            "We currently do not have sufficient {} capacity in the Availability Zone you \
             requested.",
            self.kind
        );
        Xml::of(|xml| {
            xml.set("errorSet", [()], |xml, ()| {
                xml.node("launchTemplateAndOverrides", |xml| {
                    xml.node("overrides", |xml| {
                        xml.text("instanceType", &self.kind);
                    });
                })
                .text("lifecycle", if self.spot { "spot" } else { "on-demand" })
                .text("errorCode", "InsufficientInstanceCapacity")
                .text("errorMessage", &message);
            });
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLEET: &[u8] = b"LaunchTemplateConfigs.1.Overrides.1.SubnetId=subnet-1\
        &LaunchTemplateConfigs.1.Overrides.1.InstanceRequirements.VCpuCount.Min=2\
        &LaunchTemplateConfigs.1.Overrides.1.InstanceRequirements.MemoryMiB.Min=8000\
        &TargetCapacitySpecification.TotalTargetCapacity=3\
        &TargetCapacitySpecification.OnDemandTargetCapacity=3";

    #[test]
    fn types_are_filled_in_and_the_shortage_shows() {
        let mut capacity = Capacities::default();
        capacity.set("m5.*", None, Some(2));
        let Ok(plan) = plan(Form::parse(FLEET).unwrap(), None, &mut capacity) else {
            panic!("refused");
        };
        let kind = "LaunchTemplateConfigs.1.Overrides.1.InstanceType";
        assert_eq!(plan.form.text(kind), Some("m5.large"));
        assert_eq!((plan.count, plan.short), (2, 1));
        let total = "TargetCapacitySpecification.OnDemandTargetCapacity";
        assert_eq!(plan.form.text(total), Some("2"));
        let body = Bytes::from("<CreateFleetResponse><errorSet/></CreateFleetResponse>");
        let body = plan.with_errors(body);
        let text = std::str::from_utf8(&body).unwrap();
        assert_eq!(text.matches("<errorSet>").count(), 1);
        assert!(text.contains("InsufficientInstanceCapacity"));
    }
}
