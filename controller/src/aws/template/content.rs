//! What a launch template version holds: as EC2 takes it, and as EC2 tells it.

use aws_sdk_ec2::types::{
    LaunchTemplateBlockDeviceMappingRequest, LaunchTemplateEbsBlockDevice,
    LaunchTemplateEbsBlockDeviceRequest, LaunchTemplateHttpTokensState,
    LaunchTemplateIamInstanceProfileSpecificationRequest,
    LaunchTemplateInstanceMetadataEndpointState, LaunchTemplateInstanceMetadataOptionsRequest,
    LaunchTemplateInstanceMetadataTagsState, LaunchTemplateTagSpecificationRequest,
    LaunchTemplatesMonitoringRequest, RequestLaunchTemplateData, ResourceType,
    ResponseLaunchTemplateData, ShutdownBehavior, VolumeType,
};

use super::tags;
use crate::ports::{RootVolume, TemplateContent};

/// What a version holds of what Paddock sets; empty where it holds nothing.
pub(super) fn present(data: &ResponseLaunchTemplateData) -> TemplateContent<String> {
    let text = |value: Option<&str>| value.unwrap_or_default().to_owned();
    let root = data.block_device_mappings().first();
    let root = root.and_then(|mapping| mapping.ebs());
    let profile = data.iam_instance_profile();
    let mut tagged = data.tag_specifications().iter();
    let tagged = tagged.find(|it| it.resource_type() == Some(&ResourceType::Instance));
    let user_data = data.user_data().map(aws_smithy_types::base64::decode);
    TemplateContent {
        image: text(data.image_id()),
        root_volume: RootVolume {
            size_gib: root
                .and_then(LaunchTemplateEbsBlockDevice::volume_size)
                .and_then(|size| u32::try_from(size).ok()),
            kind: text(root.and_then(|root| Some(root.volume_type()?.as_str()))),
        },
        key_name: data.key_name().map(str::to_owned),
        iam_instance_profile: text(profile.and_then(|profile| profile.arn().or(profile.name()))),
        security_group_ids: data.security_group_ids().to_vec(),
        user_data: user_data.and_then(Result::ok).unwrap_or_default(),
        tags: tagged
            .map_or(&[][..], |tagged| tagged.tags())
            .iter()
            .map(|tag| (text(tag.key()), text(tag.value())))
            .collect(),
    }
}

/// The content as EC2 takes it. What is fixed here is part of what the hash stands for: whoever
/// changes it counts [`crate::refresh::TEMPLATE_FORM`] up.
pub(super) fn data(content: &TemplateContent) -> RequestLaunchTemplateData {
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
    let size = content.root_volume.size_gib;
    let root = LaunchTemplateEbsBlockDeviceRequest::builder()
        .encrypted(true)
        .delete_on_termination(true)
        .volume_type(VolumeType::from(content.root_volume.kind.as_str()))
        .set_volume_size(size.map(|size| i32::try_from(size).unwrap_or(i32::MAX)));
    let root = LaunchTemplateBlockDeviceMappingRequest::builder()
        .device_name(&content.image.root_device)
        .ebs(root.build());
    let mut data = RequestLaunchTemplateData::builder()
        .image_id(&content.image.id)
        .block_device_mappings(root.build())
        .set_key_name(content.key_name.clone())
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
