//! The actions on launch templates.

use super::super::form::Form;
use super::super::xml::Xml;
use super::error::Ec2Error;
use super::filter::{Filters, page};
use super::tags;
use super::templates::{Template, Version};
use super::{Answer, State, time};

impl State {
    pub(super) fn create_launch_template(&mut self, form: &Form) -> Answer {
        let name = form
            .text("LaunchTemplateName")
            .ok_or_else(|| Ec2Error::missing("LaunchTemplateName"))?;
        let given = tags::specified(form, "launch-template")?;
        let template = self
            .templates
            .create(name, data(form)?, form.text("VersionDescription"))?
            .clone();
        self.tags.add(&template.id, given);
        Ok(Xml::of(|xml| {
            xml.node("launchTemplate", |xml| self.show_template(xml, &template));
        }))
    }

    pub(super) fn create_launch_template_version(&mut self, form: &Form) -> Answer {
        let data = data(form)?;
        let template = self.templates.of_mut(form)?;
        let version = template
            .add_version(
                data,
                form.text("SourceVersion"),
                form.text("VersionDescription"),
            )?
            .clone();
        let template = template.clone();
        Ok(Xml::of(|xml| {
            xml.node("launchTemplateVersion", |xml| {
                self.show_version(xml, &template, &version);
            });
        }))
    }

    pub(super) fn describe_launch_templates(&mut self, form: &Form) -> Answer {
        let (ids, names) = (
            form.texts("LaunchTemplateId"),
            form.texts("LaunchTemplateName"),
        );
        for id in &ids {
            self.templates.with_id(id)?;
        }
        for name in &names {
            self.templates.named(name)?;
        }
        let all = ids.is_empty() && names.is_empty();
        let chosen = self.templates.all().iter().filter(|template| {
            all || ids.contains(&template.id.as_str()) || names.contains(&template.name.as_str())
        });
        let found = Filters::parse(form)?.keep(chosen, |filters, template| {
            filters.admit(self.tags.of(&template.id), |name| match name {
                "launch-template-name" => Some(vec![template.name.clone()]),
                "create-time" => Some(vec![time(template.created)]),
                _ => None,
            })
        })?;
        let page = page(found, form, |template| template.sequence)?;
        Ok(Xml::of(|xml| {
            xml.set("launchTemplates", page.items, |xml, template| {
                self.show_template(xml, template);
            });
            xml.opt("nextToken", page.next);
        }))
    }

    pub(super) fn describe_launch_template_versions(&mut self, form: &Form) -> Answer {
        let template = self.templates.of(form)?;
        let asked = form.texts("LaunchTemplateVersion");
        let mut found: Vec<&Version> = if asked.is_empty() {
            template.versions.iter().collect()
        } else {
            asked
                .iter()
                .map(|name| template.version(name))
                .collect::<Result<_, _>>()?
        };
        let (least, most) = (form.parsed("MinVersion")?, form.parsed("MaxVersion")?);
        found.retain(|version| {
            least.is_none_or(|least: u64| version.number >= least)
                && most.is_none_or(|most: u64| version.number <= most)
        });
        found.sort_by_key(|version| version.number);
        found.dedup_by_key(|version| version.number);
        let page = page(found, form, |version| version.number)?;
        Ok(Xml::of(|xml| {
            xml.set("launchTemplateVersionSet", page.items, |xml, version| {
                self.show_version(xml, template, version);
            });
            xml.opt("nextToken", page.next);
        }))
    }

    pub(super) fn modify_launch_template(&mut self, form: &Form) -> Answer {
        let default = form
            .text("SetDefaultVersion")
            .ok_or_else(|| Ec2Error::missing("SetDefaultVersion"))?;
        let template = self.templates.of_mut(form)?;
        template.default = template.version(default)?.number;
        let template = template.clone();
        Ok(Xml::of(|xml| {
            xml.node("launchTemplate", |xml| self.show_template(xml, &template));
        }))
    }

    pub(super) fn delete_launch_template_versions(&mut self, form: &Form) -> Answer {
        let template = self.templates.of_mut(form)?;
        let (mut deleted, mut kept) = (Vec::new(), Vec::new());
        for asked in form.texts("LaunchTemplateVersion") {
            let number: u64 = asked
                .parse()
                .map_err(|_| Ec2Error::invalid("LaunchTemplateVersion", asked))?;
            if number == template.default {
                kept.push((
                    number,
                    "unexpectedError",
                    "the default version cannot be deleted",
                ));
            } else if template.version(asked).is_err() {
                kept.push((
                    number,
                    "launchTemplateVersionDoesNotExist",
                    "there is no such version",
                ));
            } else {
                template.versions.retain(|version| version.number != number);
                deleted.push(number);
            }
        }
        let template = &*template;
        let head = |xml: &mut Xml, number: u64| {
            xml.text("launchTemplateId", &template.id)
                .text("launchTemplateName", &template.name)
                .text("versionNumber", number);
        };
        Ok(Xml::of(|xml| {
            let name = "successfullyDeletedLaunchTemplateVersionSet";
            xml.set(name, deleted, |xml, number| head(xml, number));
            let name = "unsuccessfullyDeletedLaunchTemplateVersionSet";
            xml.set(name, kept, |xml, (number, code, message)| {
                head(xml, number);
                xml.node("responseError", |xml| {
                    xml.text("code", code).text("message", message);
                });
            });
        }))
    }

    pub(super) fn delete_launch_template(&mut self, form: &Form) -> Answer {
        let template = self.templates.remove(form)?;
        let answer = Xml::of(|xml| {
            xml.node("launchTemplate", |xml| self.show_template(xml, &template));
        });
        self.tags.forget(&template.id);
        Ok(answer)
    }

    fn show_template(&self, xml: &mut Xml, template: &Template) {
        xml.text("launchTemplateId", &template.id)
            .text("launchTemplateName", &template.name)
            .text("createTime", time(template.created))
            .text("createdBy", self.owner())
            .text("defaultVersionNumber", template.default)
            .text("latestVersionNumber", template.latest);
        self.tags.show(&template.id, xml);
    }

    fn show_version(&self, xml: &mut Xml, template: &Template, version: &Version) {
        xml.text("launchTemplateId", &template.id)
            .text("launchTemplateName", &template.name)
            .text("versionNumber", version.number)
            .opt("versionDescription", version.description.as_deref())
            .text("createTime", time(version.created))
            .text("createdBy", self.owner())
            .text("defaultVersion", version.number == template.default)
            .node("launchTemplateData", |xml| {
                xml.echo(&version.data);
            });
    }

    fn owner(&self) -> String {
        format!("arn:aws:iam::{}:user/yard", self.account)
    }
}

fn data(form: &Form) -> Result<&Form, Ec2Error> {
    form.get("LaunchTemplateData")
        .ok_or_else(|| Ec2Error::missing("LaunchTemplateData"))
}
