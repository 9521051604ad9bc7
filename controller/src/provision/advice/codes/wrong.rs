//! What is wrong with what was asked, or with who asks.

use super::{super::Kind::Wrong, Advice};

pub(super) const WRONG: [Advice; 24] = [
    (
        Wrong,
        &["InvalidSubnet.Conflict", "SubnetConflict"],
        "subnet and security groups do not fit: give refresh `subnet-ids` and `security-group-ids` of one VPC",
    ),
    (
        Wrong,
        &[
            "InvalidSubnet*",
            "InvalidAvailabilityZone",
            "InvalidZone.NotFound",
            "ZonesMismatched",
            "DefaultVpcDoesNotExist",
            "VPCIdNotSpecified",
            "VPCResourceNotSpecified",
        ],
        "the subnet is gone or in another region: run refresh with `subnet-ids` that exist",
    ),
    (
        Wrong,
        &[
            "IdempotentParameterMismatch*",
            "IdempotentInstanceTerminated",
            "InvalidClientToken",
        ],
        "the request was repeated after its machines had ended, or with other contents: run the step again",
    ),
    (
        Wrong,
        &[
            "InvalidFleetConfig*",
            "InvalidSpotFleetRequestConfig",
            "InvalidInstanceRequirements",
        ],
        "no instance type has this size among those allowed: widen `allowed-instance-types`, or choose another `resource-class`",
    ),
    (
        Wrong,
        &["InvalidTargetCapacitySpecification"],
        "EC2 refuses the number of machines: lower `instance-count`",
    ),
    (
        Wrong,
        &["RequestResourceCountExceeded", "ResourceCountExceeded"],
        "the request names too much at once: lower `instance-count`, or give refresh fewer `subnet-ids`",
    ),
    (
        Wrong,
        &[
            "UnauthorizedOperation",
            "AccessDenied*",
            "OperationNotPermitted",
        ],
        "the step's credentials lack a permission: allow ec2:CreateFleet, ec2:RunInstances, ec2:CreateTags and iam:PassRole for the machines' role",
    ),
    (
        Wrong,
        &["AuthFailure.ServiceLinkedRoleCreationNotPermitted"],
        "the account has never launched spot machines: have an administrator run `aws iam create-service-linked-role --aws-service-name spot.amazonaws.com` once",
    ),
    (
        Wrong,
        &[
            "AuthFailure",
            "MissingAuthenticationToken",
            "IncompleteSignature",
            "ExpiredToken*",
            "RequestExpired",
            "InvalidSecurity.RequestHasExpired",
            "InvalidClientTokenId",
            "SignatureDoesNotMatch",
            "UnrecognizedClientException",
        ],
        "the step's credentials are no good: configure them (again) in an earlier step",
    ),
    (
        Wrong,
        &[
            "OptInRequired",
            "PendingVerification",
            "Blocked",
            "AccountDisabled",
        ],
        "the account may not launch such machines yet: see AWS's message, and its support",
    ),
    (
        Wrong,
        &[
            "SecurityGroupsPerIn*",
            "SecurityGroupLimitExceeded",
            "AttachmentLimitExceeded",
        ],
        "a machine cannot have so many security groups: give refresh fewer `security-group-ids`",
    ),
    (
        Wrong,
        &["InvalidSecurityGroup*", "InvalidGroup*"],
        "a security group is gone or in another VPC: run refresh with other `security-group-ids`",
    ),
    (
        Wrong,
        &[
            "Unsupported",
            "UnsupportedOperation",
            "UnsupportedException",
            "UnsupportedHostConfiguration",
            "UnsupportedInstanceTypeOnHost",
            "UnsupportedTenancy",
            "InvalidTenancy",
            "EncryptedVolumesNotSupported",
        ],
        "the zone or the type does not offer this: narrow `allowed-instance-types`, or give refresh subnets in other zones",
    ),
    (
        Wrong,
        &[
            "InvalidInstanceType",
            "InstanceTypeNotSupported",
            "InvalidInstanceFamily",
            "InvalidInstanceAttributeValue",
        ],
        "there is no such instance type here: correct `allowed-instance-types`",
    ),
    (
        Wrong,
        &["SpotInstanceTypeNotSupported"],
        "these types are not sold as spot: widen `allowed-instance-types`, or use `usage-class: on-demand`",
    ),
    (
        Wrong,
        &["InvalidSpotPrice", "InvalidPrice"],
        "`max-price` is no price: give USD an hour, such as 0.05",
    ),
    (
        Wrong,
        &[
            "InvalidAMIID*",
            "InvalidManifest",
            "InvalidKernelId.Malformed",
            "InvalidRamDiskId.Malformed",
            "InvalidBlockDeviceMapping",
            "InvalidSnapshot*",
        ],
        "the machine image is gone, broken, not shared with this account, or in another region: run refresh with another `ami`",
    ),
    (
        Wrong,
        &[
            "BootForVolumeTypeUnsupported",
            "UnknownVolumeType",
            "VolumeTypeNotAvailableInZone",
        ],
        "the machines cannot boot from such a volume here: run refresh with another `root-volume-type`",
    ),
    (
        Wrong,
        &[
            "KMSKeyNotAccessibleFault",
            "InvalidKmsKeyId",
            "Client.InvalidKMSKey.InvalidState",
            "CustomerKeyHasBeenRevoked",
        ],
        "the key of the image's volumes cannot be used: let the role use it, or run refresh with another `ami`",
    ),
    (
        Wrong,
        &["InvalidKeyPair*"],
        "the launch template names a key pair that is gone: run refresh with another `key-name`",
    ),
    (
        Wrong,
        &["InvalidIamInstanceProfile*"],
        "the instance profile is gone: run refresh with another `iam-instance-profile`",
    ),
    (
        Wrong,
        &[
            "InvalidLaunchTemplate*",
            "InvalidUserData.Malformed",
            "UnsupportedHibernationConfiguration",
            "InvalidPlacementGroup.Unknown",
        ],
        "the launch template is gone, changed or broken: run `controller refresh`",
    ),
    (
        Wrong,
        &[
            "TagLimitExceeded",
            "InvalidTag*",
            "TagPolicyViolation",
            "InvalidID",
        ],
        "the account refuses the tags `paddock:…`: allow them in its tag policy",
    ),
    (
        Wrong,
        &[
            "InvalidParameter*",
            "MissingParameter",
            "UnknownParameter",
            "ValidationError",
            "InvalidInput",
            "MissingInput",
            "InvalidRequest",
            "InvalidCharacter",
            "InvalidQueryParameter",
            "MalformedQueryString",
            "InvalidInterface.IpAddressLimitExceeded",
        ],
        "EC2 cannot use one of the inputs: check `allowed-instance-types`, `max-price`, and what refresh was given",
    ),
];
