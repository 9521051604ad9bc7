//! Launch templates and their versions.

use jiff::Timestamp;

use super::super::super::clock;
use super::super::form::Form;
use super::error::Ec2Error;

/// Raw user data may be this long.
const MAX_USER_DATA: usize = 16 << 10;

/// A launch template.
#[derive(Clone, Debug)]
pub(super) struct Template {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) created: Timestamp,
    pub(super) default: u64,
    pub(super) latest: u64,
    /// In the order of their numbers, with gaps where some were deleted.
    pub(super) versions: Vec<Version>,
    /// Grows from template to template.
    pub(super) sequence: u64,
}

/// A version of a launch template.
#[derive(Clone, Debug)]
pub(super) struct Version {
    pub(super) number: u64,
    pub(super) description: Option<String>,
    pub(super) created: Timestamp,
    /// As it came in the request, after merging with its source.
    pub(super) data: Form,
}

impl Template {
    /// The version that a number, `$Latest` or `$Default` names.
    pub(super) fn version(&self, name: &str) -> Result<&Version, Ec2Error> {
        let number = match name {
            "$Latest" => self.latest,
            "$Default" => self.default,
            number => number.parse().map_err(|_| {
                Ec2Error::new(
                    "InvalidLaunchTemplateId.VersionNotFound",
                    format!("Could not find version {number} of the launch template"),
                )
            })?,
        };
        self.versions
            .iter()
            .find(|version| version.number == number)
            .ok_or_else(|| {
                Ec2Error::new(
                    "InvalidLaunchTemplateId.VersionNotFound",
                    format!(
                        "Could not find the specified version {number} for the launch template with ID {}.",
                        self.id
                    ),
                )
            })
    }

    /// Adds a version; what `data` leaves out comes from `source`.
    pub(super) fn add_version(
        &mut self,
        data: &Form,
        source: Option<&str>,
        description: Option<&str>,
    ) -> Result<&Version, Ec2Error> {
        let data = match source {
            Some(source) => self.version(source)?.data.overlaid(data),
            None => data.clone(),
        };
        check(&data)?;
        self.latest += 1;
        self.versions.push(Version {
            number: self.latest,
            description: description.map(str::to_owned),
            created: clock::now(),
            data,
        });
        self.version("$Latest")
    }
}

/// All launch templates.
#[derive(Debug, Default)]
pub(super) struct Templates {
    all: Vec<Template>,
    sequence: u64,
}

impl Templates {
    pub(super) fn create(
        &mut self,
        name: &str,
        data: &Form,
        description: Option<&str>,
    ) -> Result<&Template, Ec2Error> {
        if self.all.iter().any(|template| template.name == name) {
            return Err(Ec2Error::new(
                "InvalidLaunchTemplateName.AlreadyExistsException",
                "Launch template name already in use.",
            ));
        }
        let allowed = |c: char| c.is_ascii_alphanumeric() || "().-/_".contains(c);
        if !(3..=128).contains(&name.len()) || !name.chars().all(allowed) {
            return Err(Ec2Error::new(
                "InvalidLaunchTemplateName.MalformedException",
                "The launch template name must be 3-128 characters and may contain \
                 letters, numbers and the characters -, ( ) . / _",
            ));
        }
        let mut template = Template {
            id: super::new_id("lt"),
            name: name.to_owned(),
            created: clock::now(),
            default: 1,
            latest: 0,
            versions: Vec::new(),
            sequence: self.sequence,
        };
        template.add_version(data, None, description)?;
        self.sequence += 1;
        self.all.push(template);
        self.named(name)
    }

    pub(super) fn all(&self) -> &[Template] {
        &self.all
    }

    pub(super) fn named(&self, name: &str) -> Result<&Template, Ec2Error> {
        self.all
            .iter()
            .find(|template| template.name == name)
            .ok_or_else(|| {
                Ec2Error::new(
                    "InvalidLaunchTemplateName.NotFoundException",
                    "At least one of the launch templates specified in the request does not exist.",
                )
            })
    }

    pub(super) fn with_id(&self, id: &str) -> Result<&Template, Ec2Error> {
        self.all
            .iter()
            .find(|template| template.id == id)
            .ok_or_else(|| {
                Ec2Error::new(
                    "InvalidLaunchTemplateId.NotFound",
                    format!(
                        "The specified launch template, with template ID {id}, does not exist."
                    ),
                )
            })
    }

    /// The template that `LaunchTemplateId` or `LaunchTemplateName` names.
    pub(super) fn of(&self, form: &Form) -> Result<&Template, Ec2Error> {
        match (
            form.text("LaunchTemplateId"),
            form.text("LaunchTemplateName"),
        ) {
            (Some(id), None) => self.with_id(id),
            (None, Some(name)) => self.named(name),
            (None, None) => Err(Ec2Error::missing("LaunchTemplateId")),
            (Some(_), Some(_)) => Err(Ec2Error::new(
                "InvalidParameterCombination",
                "A launch template ID and a launch template name cannot both be given.",
            )),
        }
    }

    pub(super) fn of_mut(&mut self, form: &Form) -> Result<&mut Template, Ec2Error> {
        let id = self.of(form)?.id.clone();
        self.all
            .iter_mut()
            .find(|template| template.id == id)
            .ok_or_else(|| Ec2Error::missing("LaunchTemplateId"))
    }

    pub(super) fn remove(&mut self, form: &Form) -> Result<Template, Ec2Error> {
        let id = self.of(form)?.id.clone();
        let removed = self.all.iter().position(|template| template.id == id);
        removed
            .map(|at| self.all.remove(at))
            .ok_or_else(|| Ec2Error::missing("LaunchTemplateId"))
    }
}

fn check(data: &Form) -> Result<(), Ec2Error> {
    if let Some(text) = data.text("UserData") {
        user_data(text)?;
    }
    Ok(())
}

/// Decodes user data and checks its length.
pub(super) fn user_data(text: &str) -> Result<Vec<u8>, Ec2Error> {
    use base64::Engine as _;

    let decoded = base64::engine::general_purpose::STANDARD
        .decode(text)
        .map_err(|_| {
            Ec2Error::new(
                "InvalidUserData.Malformed",
                "Invalid BASE64 encoding of user data.",
            )
        })?;
    if decoded.len() > MAX_USER_DATA {
        return Err(Ec2Error::new(
            "InvalidUserData.Malformed",
            "User data is limited to 16384 bytes",
        ));
    }
    Ok(decoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_inherit_and_number() {
        let mut templates = Templates::default();
        let first = Form::parse(b"ImageId=ami-1&UserData=YQ==&KeyName=k").unwrap();
        templates.create("abc", &first, None).unwrap();
        assert!(templates.create("abc", &first, None).is_err());
        let by_name = Form::parse(b"LaunchTemplateName=abc").unwrap();
        let template = templates.of_mut(&by_name).unwrap();
        let second = Form::parse(b"UserData=Yg==").unwrap();
        let version = template.add_version(&second, Some("1"), None).unwrap();
        assert_eq!(version.number, 2);
        assert_eq!(version.data.text("ImageId"), Some("ami-1"));
        assert_eq!(version.data.text("UserData"), Some("Yg=="));
        let bare = template.add_version(&second, None, None).unwrap();
        assert_eq!(bare.data.text("ImageId"), None);
        assert_eq!(template.version("$Default").unwrap().number, 1);
        assert_eq!(template.version("$Latest").unwrap().number, 3);
        assert!(template.version("9").is_err());
        assert!(template.version("x").is_err());
    }

    #[test]
    fn user_data_has_a_limit() {
        use base64::Engine as _;
        let encode = |length| base64::engine::general_purpose::STANDARD.encode(vec![b'x'; length]);
        assert!(user_data(&encode(MAX_USER_DATA)).is_ok());
        assert!(user_data(&encode(MAX_USER_DATA + 1)).is_err());
        assert!(user_data("not base64!").is_err());
    }
}
