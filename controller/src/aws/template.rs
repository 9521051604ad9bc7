//! The pool's launch template at EC2.
//!
//! A version carries the hash of its content in its description (`paddock sha256 <hex>`), so that
//! a refresh can tell without reading the content back whether it is the wanted one.

mod content;

use aws_sdk_ec2::{
    Client,
    types::{LaunchTemplateErrorCode, LaunchTemplateVersion, ResourceType, TagSpecification},
};

use proto::config::Image;

use self::content::{data, present};
use super::{failed, fleet::tags, odd};
use crate::ports::{PortError, TemplateContent, TemplateState};

/// What stands before the hash in a version's description.
const DESCRIPTION: &str = "paddock sha256 ";
/// EC2's code for an image that is not there.
const NO_IMAGE: &str = "InvalidAMIID.NotFound";
/// `DeleteLaunchTemplateVersions` takes so many versions.
const DELETE_BATCH: usize = 200;
/// Characters of the hash that make a client token: EC2 allows 64 in all.
const TOKEN_HASH: usize = 32;

/// The image of that id; none if there is no such image here.
pub(super) async fn image(client: &Client, id: &str) -> Result<Option<Image>, PortError> {
    let operation = format!("look at the image {id}");
    let answer = client
        .describe_images()
        .image_ids(id)
        .send()
        .await
        .map_err(failed(&operation));
    let found = match answer {
        Ok(answer) => answer.images.unwrap_or_default().into_iter().next(),
        Err(error) if error.code.as_deref() == Some(NO_IMAGE) => None,
        Err(error) => return Err(error),
    };
    let Some(found) = found else {
        return Ok(None);
    };
    // An image whose root is no EBS volume has none to encrypt.
    let mappings = found.block_device_mappings.unwrap_or_default();
    let root = found.root_device_name.unwrap_or_default();
    let size = mappings
        .iter()
        .find(|mapping| mapping.device_name() == Some(&root))
        .and_then(|mapping| mapping.ebs()?.volume_size())
        .and_then(|size| u32::try_from(size).ok());
    match size {
        Some(root_gib) => Ok(Some(Image {
            id: id.to_owned(),
            root_device: root,
            root_gib,
        })),
        None => Err(odd(operation, None, "its root device is no EBS volume")),
    }
}

/// The template of that name, if there is one.
pub(super) async fn read(client: &Client, name: &str) -> Result<Option<TemplateState>, PortError> {
    let operation = format!("read the launch template {name}");
    let mut pages = client
        .describe_launch_template_versions()
        .launch_template_name(name)
        .into_paginator()
        .send();
    let mut found = Vec::new();
    while let Some(page) = pages.next().await {
        match page.map_err(failed(&operation)) {
            Ok(page) => found.extend(page.launch_template_versions.unwrap_or_default()),
            Err(error) if is_unknown(&error) => return Ok(None),
            Err(error) => return Err(error),
        }
    }
    let default = found
        .iter()
        .find(|version| version.default_version() == Some(true));
    let Some((id, version, content)) = default.and_then(|it| {
        let content = present(it.launch_template_data()?);
        Some((it.launch_template_id()?, it.version_number()?, content))
    }) else {
        return Err(odd(operation, None, "EC2 gave no id or no default version"));
    };
    Ok(Some(TemplateState {
        id: id.to_owned(),
        version,
        content,
        versions: found
            .iter()
            .filter_map(|version| Some((version.version_number()?, hash_of(version))))
            .collect(),
    }))
}

/// Whether there is no such template: EC2 has a code for ids and one for names, and stand-ins take
/// the one for the other.
fn is_unknown(error: &PortError) -> bool {
    let code = error.code.as_deref().unwrap_or_default();
    code.starts_with("InvalidLaunchTemplate") && code.contains(".NotFound")
}

fn hash_of(version: &LaunchTemplateVersion) -> Option<String> {
    let hash = version.version_description()?.strip_prefix(DESCRIPTION)?;
    Some(hash.to_owned())
}

/// Makes a version with this content the default one, and the template if there is none.
///
/// A version that has this content already is taken up again: one that an earlier refresh made
/// before it died, or one that the pool goes back to. The client token is made from the content
/// and the versions that it follows, so that a repeat after a lost answer makes no second version.
pub(super) async fn put(
    client: &Client,
    name: &str,
    content: &TemplateContent,
    content_hash: &str,
) -> Result<TemplateState, PortError> {
    let hash = Some(content_hash.to_owned());
    let Some(mut present) = read(client, name).await? else {
        let operation = format!("create the launch template {name}");
        let created = client
            .create_launch_template()
            .launch_template_name(name)
            .version_description(format!("{DESCRIPTION}{content_hash}"))
            .launch_template_data(data(content))
            .tag_specifications(
                TagSpecification::builder()
                    .resource_type(ResourceType::LaunchTemplate)
                    .set_tags(Some(tags(&content.tags)))
                    .build(),
            )
            .send()
            .await
            .map_err(failed(&operation))?
            .launch_template;
        let id = created
            .and_then(|template| template.launch_template_id)
            .ok_or_else(|| odd(operation, None, "EC2 gave no id"))?;
        return Ok(TemplateState {
            id,
            version: 1,
            content: content.with_image(content.image.id.clone()),
            versions: [(1, hash)].into(),
        });
    };

    let version = match present.version_with(content_hash) {
        Some(version) => version,
        None => add_version(client, name, &present, content, content_hash).await?,
    };
    client
        .modify_launch_template()
        .launch_template_id(&present.id)
        .default_version(version.to_string())
        .send()
        .await
        .map_err(failed(format!(
            "make version {version} of {name} the default"
        )))?;
    present.version = version;
    present.content = content.with_image(content.image.id.clone());
    present.versions.insert(version, hash);
    Ok(present)
}

async fn add_version(
    client: &Client,
    name: &str,
    present: &TemplateState,
    content: &TemplateContent,
    content_hash: &str,
) -> Result<i64, PortError> {
    let operation = format!("create a version of the launch template {name}");
    let token: String = content_hash.chars().take(TOKEN_HASH).collect();
    let newest = present.versions.keys().next_back().unwrap_or(&0);
    client
        .create_launch_template_version()
        .launch_template_id(&present.id)
        .client_token(format!("{token}.{newest}"))
        .version_description(format!("{DESCRIPTION}{content_hash}"))
        .launch_template_data(data(content))
        .send()
        .await
        .map_err(failed(&operation))?
        .launch_template_version
        .and_then(|version| version.version_number)
        .ok_or_else(|| odd(operation, None, "EC2 gave no version number"))
}

/// Deletes versions; those that are gone are no error.
pub(super) async fn delete_versions(
    client: &Client,
    id: &str,
    versions: &[i64],
) -> Result<(), PortError> {
    let operation = format!("delete old versions of the launch template {id}");
    for batch in versions.chunks(DELETE_BATCH) {
        let answer = client
            .delete_launch_template_versions()
            .launch_template_id(id)
            .set_versions(Some(batch.iter().map(ToString::to_string).collect()))
            .send()
            .await
            .map_err(failed(&operation))?;
        let refused = answer.unsuccessfully_deleted_launch_template_versions();
        let mut errors = refused.iter().filter_map(|item| item.response_error());
        let gone = LaunchTemplateErrorCode::LaunchTemplateVersionDoesNotExist;
        if let Some(error) = errors.find(|error| error.code() != Some(&gone)) {
            let code = error.code().map(LaunchTemplateErrorCode::as_str);
            let words = error.message().unwrap_or("no reason given");
            return Err(odd(operation, code, words));
        }
    }
    Ok(())
}
