//! What tells one launch template version from another.

use std::fmt::Write as _;

use serde_json::json;
use sha2::{Digest, Sha256};

use crate::ports::TemplateContent;

/// The version of what the adapter adds to the content by itself (metadata options, shutdown
/// behaviour …). Counted up with every change to it, so that pools get a new template version.
pub const TEMPLATE_FORM: u32 = 2;

/// SHA-256 over the content as canonical JSON, hexadecimal. The order of security groups and of
/// tags means nothing.
pub fn content_hash(content: &TemplateContent) -> String {
    let TemplateContent {
        image,
        root_volume,
        key_name,
        iam_instance_profile,
        security_group_ids,
        user_data,
        tags,
    } = content;
    let mut groups = security_group_ids.clone();
    groups.sort();
    let mut tags = tags.clone();
    tags.sort();
    let canonical = json!({
        "ami": image.id,
        "form": TEMPLATE_FORM,
        "iamInstanceProfile": iam_instance_profile,
        "keyName": key_name,
        "rootDevice": image.root_device,
        "rootVolume": [json!(root_volume.size_gib), json!(root_volume.kind)],
        "securityGroupIds": groups,
        "tags": tags,
        "userData": hex(&Sha256::digest(user_data)),
    });
    hex(&Sha256::digest(canonical.to_string()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use proto::config::Image;

    use super::*;
    use crate::ports::RootVolume;

    fn content() -> TemplateContent {
        TemplateContent {
            image: Image {
                id: "ami-1".into(),
                root_device: "/dev/xvda".into(),
                root_gib: 8,
            },
            root_volume: RootVolume {
                size_gib: None,
                kind: "gp3".into(),
            },
            key_name: None,
            iam_instance_profile: "paddock".into(),
            security_group_ids: vec!["sg-1".into(), "sg-2".into()],
            user_data: b"#!/bin/sh".to_vec(),
            tags: vec![("a".into(), "b".into())],
        }
    }

    #[test]
    fn order_means_nothing_and_content_everything() {
        let mut other = content();
        other.security_group_ids.reverse();
        assert_eq!(content_hash(&other), content_hash(&content()));
        assert_eq!(content_hash(&other).len(), 64);
        let changes: [fn(&mut TemplateContent); 6] = [
            |content| content.user_data.push(b'\n'),
            |content| content.image.id.push('0'),
            |content| content.root_volume.size_gib = Some(8),
            |content| content.root_volume.kind = "gp2".into(),
            |content| content.key_name = Some("ops".into()),
            |content| content.tags[0].1.push('c'),
        ];
        for change in changes {
            let mut other = content();
            change(&mut other);
            assert_ne!(content_hash(&other), content_hash(&content()), "{other:?}");
        }
    }
}
