//! The launch template: what it should hold, and what there is.

use std::collections::BTreeMap;

use proto::config::Image;

/// The root volume of new machines; it is always encrypted and goes with its machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RootVolume {
    /// GiB; none: as large as the image's.
    pub size_gib: Option<u32>,
    /// Such as `gp3`.
    pub kind: String,
}

/// What the launch template must hold. `I` is the image: as EC2 knows it, or as a user names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateContent<I = Image> {
    /// The image of new machines.
    pub image: I,
    /// Their root volume.
    pub root_volume: RootVolume,
    /// The name of the key pair that logs in to them, if any does.
    pub key_name: Option<String>,
    /// Name or ARN of the machines' instance profile.
    pub iam_instance_profile: String,
    /// `sg-…`
    pub security_group_ids: Vec<String>,
    /// User data, before base64.
    pub user_data: Vec<u8>,
    /// Tags of every machine made from it.
    pub tags: Vec<(String, String)>,
}

impl<I> TemplateContent<I> {
    /// The same with another image.
    pub fn with_image<J>(&self, image: J) -> TemplateContent<J> {
        TemplateContent {
            image,
            root_volume: self.root_volume.clone(),
            key_name: self.key_name.clone(),
            iam_instance_profile: self.iam_instance_profile.clone(),
            security_group_ids: self.security_group_ids.clone(),
            user_data: self.user_data.clone(),
            tags: self.tags.clone(),
        }
    }
}

/// The launch template as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateState {
    /// `lt-…`
    pub id: String,
    /// Its default version.
    pub version: i64,
    /// What that holds, with the id of its image.
    pub content: TemplateContent<String>,
    /// All versions, each with the content hash that it carries, if it carries one.
    pub versions: BTreeMap<i64, Option<String>>,
}

impl TemplateState {
    /// The hash that the default version carries.
    pub fn content_hash(&self) -> Option<&str> {
        self.versions.get(&self.version)?.as_deref()
    }

    /// The newest version with this content.
    pub fn version_with(&self, content_hash: &str) -> Option<i64> {
        let mut newest_first = self.versions.iter().rev();
        let found = newest_first.find(|(_, hash)| hash.as_deref() == Some(content_hash));
        found.map(|(version, _)| *version)
    }
}
