//! The pool's launch template at EC2.
//!
//! A version carries the hash of its content in its description (`paddock sha256 <hex>`), so that
//! a refresh can tell without reading the content back whether it is the wanted one.

use aws_sdk_ec2::{
    Client,
    types::{
        LaunchTemplateErrorCode, LaunchTemplateHttpTokensState,
        LaunchTemplateIamInstanceProfileSpecificationRequest,
        LaunchTemplateInstanceMetadataEndpointState, LaunchTemplateInstanceMetadataOptionsRequest,
        LaunchTemplateInstanceMetadataTagsState, LaunchTemplateTagSpecificationRequest,
        LaunchTemplateVersion, LaunchTemplatesMonitoringRequest, RequestLaunchTemplateData,
        ResourceType, ShutdownBehavior, TagSpecification,
    },
};

use super::{failed, fleet::tags, odd};
use crate::ports::{PortError, TemplateContent, TemplateState};

/// What stands before the hash in a version's description.
const DESCRIPTION: &str = "paddock sha256 ";
/// EC2 says so of a name that no template has.
const NO_TEMPLATE: &str = "InvalidLaunchTemplateName.NotFoundException";
/// `DeleteLaunchTemplateVersions` takes so many versions.
const DELETE_BATCH: usize = 200;
/// Characters of the hash that make a client token: EC2 allows 64 in all.
const TOKEN_HASH: usize = 32;

/// The template of that name, if there is one.
pub(super) async fn read(client: &Client, name: &str) -> Result<Option<TemplateState>, PortError> {
    let operation = format!("read the launch template {name}");
    let answer = client
        .describe_launch_templates()
        .launch_template_names(name)
        .send()
        .await
        .map_err(failed(&operation));
    let found = match answer {
        Ok(answer) => answer
            .launch_templates
            .unwrap_or_default()
            .into_iter()
            .next(),
        Err(error) if error.code.as_deref() == Some(NO_TEMPLATE) => None,
        Err(error) => return Err(error),
    };
    let Some(found) = found else {
        return Ok(None);
    };
    let (Some(id), Some(default)) = (found.launch_template_id, found.default_version_number) else {
        return Err(odd(operation, None, "EC2 gave no id or no default version"));
    };
    let versions = versions(client, &id).await?;
    let content_hash = versions
        .iter()
        .find(|version| version.version_number() == Some(default))
        .and_then(|version| version.version_description()?.strip_prefix(DESCRIPTION))
        .map(str::to_owned);
    Ok(Some(TemplateState {
        id,
        version: default,
        content_hash,
        versions: versions.len(),
    }))
}

/// Makes a version with this content the default one, and the template if there is none.
///
/// The client tokens are made from the content and the state it follows, so that a repeat after a
/// lost answer makes no second version.
pub(super) async fn put(
    client: &Client,
    name: &str,
    content: &TemplateContent,
    content_hash: &str,
) -> Result<TemplateState, PortError> {
    let description = format!("{DESCRIPTION}{content_hash}");
    let token: String = content_hash.chars().take(TOKEN_HASH).collect();
    let Some(present) = read(client, name).await? else {
        let operation = format!("create the launch template {name}");
        let created = client
            .create_launch_template()
            .launch_template_name(name)
            .version_description(description)
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
            content_hash: Some(content_hash.to_owned()),
            versions: 1,
        });
    };

    let operation = format!("create a version of the launch template {name}");
    let version = client
        .create_launch_template_version()
        .launch_template_id(&present.id)
        .client_token(format!("{token}.{}.{}", present.version, present.versions))
        .version_description(description)
        .launch_template_data(data(content))
        .send()
        .await
        .map_err(failed(&operation))?
        .launch_template_version
        .and_then(|version| version.version_number)
        .ok_or_else(|| odd(operation, None, "EC2 gave no version number"))?;
    client
        .modify_launch_template()
        .launch_template_id(&present.id)
        .default_version(version.to_string())
        .send()
        .await
        .map_err(failed(format!(
            "make version {version} of {name} the default"
        )))?;
    Ok(TemplateState {
        version,
        content_hash: Some(content_hash.to_owned()),
        versions: present.versions + 1,
        ..present
    })
}

/// Deletes all versions but the newest `keep` and the default one; how many it deleted.
pub(super) async fn prune(client: &Client, id: &str, keep: usize) -> Result<usize, PortError> {
    let operation = format!("delete old versions of the launch template {id}");
    let mut known = versions(client, id).await?;
    known.sort_by_key(|version| std::cmp::Reverse(version.version_number()));
    let old: Vec<String> = known
        .iter()
        .skip(keep)
        .filter(|version| version.default_version() != Some(true))
        .filter_map(LaunchTemplateVersion::version_number)
        .map(|number| number.to_string())
        .collect();
    for batch in old.chunks(DELETE_BATCH) {
        let answer = client
            .delete_launch_template_versions()
            .launch_template_id(id)
            .set_versions(Some(batch.to_vec()))
            .send()
            .await
            .map_err(failed(&operation))?;
        let refused = answer.unsuccessfully_deleted_launch_template_versions();
        if let Some(error) = refused.first().and_then(|item| item.response_error()) {
            let code = error.code().map(LaunchTemplateErrorCode::as_str);
            let words = error.message().unwrap_or("no reason given");
            return Err(odd(operation, code, words));
        }
    }
    Ok(old.len())
}

async fn versions(client: &Client, id: &str) -> Result<Vec<LaunchTemplateVersion>, PortError> {
    let mut pages = client
        .describe_launch_template_versions()
        .launch_template_id(id)
        .into_paginator()
        .send();
    let mut versions = Vec::new();
    while let Some(page) = pages.next().await {
        let page = page.map_err(failed(format!(
            "list the versions of the launch template {id}"
        )))?;
        versions.extend(page.launch_template_versions.unwrap_or_default());
    }
    Ok(versions)
}

/// The content as EC2 takes it. What is fixed here is part of what the hash stands for: whoever
/// changes it counts [`crate::refresh::TEMPLATE_FORM`] up.
fn data(content: &TemplateContent) -> RequestLaunchTemplateData {
    let profile = LaunchTemplateIamInstanceProfileSpecificationRequest::builder();
    let profile = if content.iam_instance_profile.starts_with("arn:") {
        profile.arn(&content.iam_instance_profile)
    } else {
        profile.name(&content.iam_instance_profile)
    };
    // Hop limit 1: a container cannot reach the instance role's credentials.
    let metadata = LaunchTemplateInstanceMetadataOptionsRequest::builder()
        .http_endpoint(LaunchTemplateInstanceMetadataEndpointState::Enabled)
        .http_tokens(LaunchTemplateHttpTokensState::Required)
        .http_put_response_hop_limit(1)
        .instance_metadata_tags(LaunchTemplateInstanceMetadataTagsState::Enabled);
    let mut data = RequestLaunchTemplateData::builder()
        .image_id(&content.ami)
        .iam_instance_profile(profile.build())
        .set_security_group_ids(Some(content.security_group_ids.clone()))
        .user_data(aws_smithy_types::base64::encode(&content.user_data))
        .instance_initiated_shutdown_behavior(ShutdownBehavior::Terminate)
        .metadata_options(metadata.build())
        .monitoring(
            LaunchTemplatesMonitoringRequest::builder()
                .enabled(false)
                .build(),
        );
    for kind in [ResourceType::Instance, ResourceType::Volume] {
        data = data.tag_specifications(
            LaunchTemplateTagSpecificationRequest::builder()
                .resource_type(kind)
                .set_tags(Some(tags(&content.tags)))
                .build(),
        );
    }
    data.build()
}
