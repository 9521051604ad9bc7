//! What EC2's refusals of a fleet request mean, and what to change about them.

use std::collections::{BTreeMap, BTreeSet};

use crate::ports::{FleetAnswer, FleetError};

/// What a refusal calls for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// EC2 has no such machines now, or the account may have no more: asking the same again is of
    /// no use, asking for another usage class may be.
    Scarce,
    /// Too many calls, or trouble inside EC2: ask again after a pause.
    Later,
    /// Somebody has to change something first.
    Wrong,
}

/// What a code calls for, and what to change, in one sentence.
pub(super) fn advice(code: &str) -> (Kind, &'static str) {
    if let Some(what) = scarce(code) {
        (Kind::Scarce, what)
    } else if let Some(what) = later(code) {
        (Kind::Later, what)
    } else {
        (Kind::Wrong, wrong(code).unwrap_or_else(|| by_family(code)))
    }
}

fn scarce(code: &str) -> Option<&'static str> {
    Some(match code {
        "InsufficientInstanceCapacity" | "UnfulfillableCapacity" | "InsufficientCapacity" => {
            "EC2 has too few such machines now: allow more instance types (`allowed-instance-types`), give refresh subnets in more zones (`subnet-ids`), or try later"
        }
        "InsufficientHostCapacity" => {
            "the dedicated hosts are full: allocate more of them, or use shared tenancy in the launch template"
        }
        "InsufficientFreeAddressesInSubnet" => {
            "the subnet has no free addresses: give refresh larger or more subnets (`subnet-ids`)"
        }
        "VcpuLimitExceeded" | "InstanceLimitExceeded" => {
            "the account's quota for these instance types is used up: ask for more at Service Quotas (EC2, `Running On-Demand` or `All Spot Instance Requests`), or use another usage class or fewer machines"
        }
        "MaxFleetCountExceeded" => {
            "the account's quota for fleets is used up: ask for more at Service Quotas (EC2 Fleet), or delete fleets that nobody needs"
        }
        "MaxSpotInstanceCountExceeded" | "MaxSpotFleetRequestCountExceeded" => {
            "the account's spot quota is used up: ask for more at Service Quotas (EC2, `All Spot Instance Requests`), or set `fallback: on-demand`"
        }
        "SpotMaxPriceTooLow" => {
            "spot machines cost more than `max-price` now: raise it, leave it out, or set `fallback: on-demand`"
        }
        "MaxIOPSLimitExceeded" | "VolumeLimitExceeded" | "MaxStorageLimitExceeded" => {
            "the account's quota for EBS volumes is used up: ask for more at Service Quotas (EBS), or make the image's volumes smaller"
        }
        "NetworkInterfaceLimitExceeded" | "PrivateIpAddressLimitExceeded" => {
            "the account's quota for network interfaces is used up: ask for more at Service Quotas (VPC)"
        }
        _ => return None,
    })
}

fn later(code: &str) -> Option<&'static str> {
    Some(match code {
        "RequestLimitExceeded"
        | "Throttling"
        | "ThrottlingException"
        | "TooManyRequests"
        | "RequestThrottled"
        | "EC2ThrottledException" => {
            "the account makes too many EC2 calls: spread the workflows, or ask AWS for a higher rate of CreateFleet and RunInstances"
        }
        "InternalError" | "InternalFailure" | "ServiceUnavailable" | "Unavailable"
        | "RequestTimeout" | "ServerInternal" => {
            "EC2 is in trouble: see AWS's health dashboard and try later"
        }
        _ => return None,
    })
}

fn wrong(code: &str) -> Option<&'static str> {
    Some(match code {
        "InvalidSubnetID.NotFound" | "InvalidSubnetId.NotFound" | "InvalidSubnet" => {
            "the subnet is gone or in another region: run refresh with `subnet-ids` that exist"
        }
        "InvalidSubnet.Conflict" | "SubnetConflict" => {
            "subnet and security groups do not fit: give refresh `subnet-ids` and `security-group-ids` of one VPC"
        }
        "IdempotentParameterMismatch" | "IdempotentParameterMismatchException" => {
            "the request was repeated with other contents: run the step again"
        }
        "InvalidParameterValue"
        | "InvalidParameter"
        | "InvalidParameterCombination"
        | "InvalidParameterDependency"
        | "MissingParameter"
        | "UnknownParameter"
        | "ValidationError" => {
            "EC2 cannot use one of the inputs: check `allowed-instance-types`, `max-price`, and what refresh was given"
        }
        "InvalidFleetConfig" | "InvalidFleetConfiguration" | "InvalidInstanceRequirements" => {
            "no instance type has this size among those allowed: widen `allowed-instance-types`, or choose another `resource-class`"
        }
        "InvalidTargetCapacitySpecification" => {
            "EC2 refuses the number of machines: lower `instance-count`"
        }
        "UnauthorizedOperation" | "AccessDenied" | "AccessDeniedException" => {
            "the step's credentials lack a permission: allow ec2:CreateFleet, ec2:RunInstances, ec2:CreateTags and iam:PassRole for the machines' role"
        }
        "AuthFailure.ServiceLinkedRoleCreationNotPermitted" => {
            "the account has never launched spot machines: have an administrator run `aws iam create-service-linked-role --aws-service-name spot.amazonaws.com` once"
        }
        "RequestResourceCountExceeded" => {
            "the request names too much at once: lower `instance-count`, or give refresh fewer `subnet-ids`"
        }
        "SecurityGroupsPerInstanceLimitExceeded" | "SecurityGroupsPerInterfaceLimitExceeded" => {
            "a machine cannot have so many security groups: give refresh fewer `security-group-ids`"
        }
        "AuthFailure"
        | "MissingAuthenticationToken"
        | "IncompleteSignature"
        | "ExpiredToken"
        | "ExpiredTokenException"
        | "RequestExpired"
        | "InvalidClientTokenId"
        | "SignatureDoesNotMatch"
        | "UnrecognizedClientException" => {
            "the step's credentials are no good: configure them (again) in an earlier step"
        }
        "OptInRequired" | "PendingVerification" | "Blocked" | "AccountDisabled" => {
            "the account may not launch such machines yet: see AWS's message, and its support"
        }
        "Unsupported" | "UnsupportedOperation" | "UnsupportedHostConfiguration" => {
            "the zone does not offer this: narrow `allowed-instance-types`, or give refresh subnets in other zones"
        }
        "InvalidKeyPair.NotFound" => {
            "the launch template names a key pair that is gone: run refresh"
        }
        "InvalidInstanceType" | "InstanceTypeNotSupported" => {
            "there is no such instance type here: correct `allowed-instance-types`"
        }
        "SpotInstanceTypeNotSupported" => {
            "these types are not sold as spot: widen `allowed-instance-types`, or use `usage-class: on-demand`"
        }
        "InvalidSpotPrice" | "InvalidPrice" => {
            "`max-price` is no price: give USD an hour, such as 0.05"
        }
        "InvalidBlockDeviceMapping" | "InvalidSnapshot.NotFound" => {
            "the machine image's volumes cannot be made: run refresh with another `ami`"
        }
        "InvalidUserData.Malformed" => {
            "the launch template's user data is broken: run refresh again"
        }
        "TagLimitExceeded" | "InvalidTag" | "TagPolicyViolation" => {
            "the account refuses the tags `paddock:…`: allow them in its tag policy"
        }
        "KMSKeyNotAccessibleFault" | "InvalidKmsKeyId" | "Client.InvalidKMSKey.InvalidState" => {
            "the key of the image's volumes cannot be used: let the role use it, or run refresh with another `ami`"
        }
        _ => return None,
    })
}

/// Codes that come in many variants, such as `InvalidAMIID.Malformed` and `InvalidAMIID.NotFound`.
fn by_family(code: &str) -> &'static str {
    const FAMILIES: [(&str, &str); 5] = [
        (
            "InvalidLaunchTemplate",
            "the launch template is gone or changed: run `controller refresh`",
        ),
        (
            "InvalidAMIID",
            "the machine image is gone, not shared with this account, or in another region: run refresh with another `ami`",
        ),
        (
            "InvalidSecurityGroup",
            "a security group is gone or in another VPC: run refresh with other `security-group-ids`",
        ),
        (
            "InvalidGroup",
            "a security group is gone or in another VPC: run refresh with other `security-group-ids`",
        ),
        (
            "InvalidIamInstanceProfile",
            "the instance profile is gone: run refresh with another `iam-instance-profile`",
        ),
    ];
    FAMILIES
        .iter()
        .find(|(prefix, _)| code.starts_with(prefix))
        .map_or(
            "see EC2's message and its list of error codes",
            |(_, what)| *what,
        )
}

/// Whether EC2 did nothing but throttle: another request may do better, after a pause.
pub(super) fn only_later(answer: &FleetAnswer) -> bool {
    answer.launched.is_empty()
        && !answer.errors.is_empty()
        && answer
            .errors
            .iter()
            .all(|error| advice(&error.code).0 == Kind::Later)
}

/// EC2's reasons, each code once, with the subnets that it was said of.
pub(super) fn causes(errors: &[FleetError]) -> String {
    let mut by_code: BTreeMap<&str, (&str, BTreeSet<&str>)> = BTreeMap::new();
    for error in errors {
        let (_, subnets) = by_code
            .entry(&error.code)
            .or_insert_with(|| (&error.message, BTreeSet::new()));
        subnets.extend(error.subnet_id.as_deref());
    }
    if by_code.is_empty() {
        return "it gave no reason".to_owned();
    }
    let causes: Vec<String> = by_code
        .into_iter()
        .map(|(code, (message, subnets))| {
            let subnets: Vec<&str> = subnets.into_iter().collect();
            match subnets.as_slice() {
                [] => format!("{code}: {message}"),
                subnets => format!("{code} in {}: {message}", subnets.join(", ")),
            }
        })
        .collect();
    causes.join("; ")
}

/// What to change about these reasons, each sentence once.
pub(super) fn remedies(errors: &[FleetError]) -> String {
    let remedies: BTreeSet<&str> = errors.iter().map(|error| advice(&error.code).1).collect();
    if remedies.is_empty() {
        return "allow more instance types or subnets".to_owned();
    }
    remedies.into_iter().collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(code: &str, subnet: Option<&str>) -> FleetError {
        FleetError {
            code: code.into(),
            message: "words".into(),
            subnet_id: subnet.map(str::to_owned),
        }
    }

    #[test]
    fn every_code_says_what_to_change() {
        let says = [
            (
                "InsufficientInstanceCapacity",
                Kind::Scarce,
                "`allowed-instance-types`",
            ),
            ("UnfulfillableCapacity", Kind::Scarce, "`subnet-ids`"),
            ("InsufficientHostCapacity", Kind::Scarce, "hosts"),
            ("InsufficientFreeAddressesInSubnet", Kind::Scarce, "subnets"),
            ("VcpuLimitExceeded", Kind::Scarce, "Service Quotas"),
            ("InstanceLimitExceeded", Kind::Scarce, "Service Quotas"),
            ("MaxSpotInstanceCountExceeded", Kind::Scarce, "fallback"),
            ("SpotMaxPriceTooLow", Kind::Scarce, "`max-price`"),
            ("RequestLimitExceeded", Kind::Later, "calls"),
            ("InvalidSubnetID.NotFound", Kind::Wrong, "`subnet-ids`"),
            ("InvalidLaunchTemplateId.NotFound", Kind::Wrong, "refresh"),
            (
                "InvalidLaunchTemplateId.VersionNotFound",
                Kind::Wrong,
                "refresh",
            ),
            ("InvalidParameterValue", Kind::Wrong, "inputs"),
            ("UnauthorizedOperation", Kind::Wrong, "iam:PassRole"),
            ("InvalidFleetConfig", Kind::Wrong, "`resource-class`"),
            ("Unsupported", Kind::Wrong, "zones"),
            ("MaxFleetCountExceeded", Kind::Scarce, "Service Quotas"),
            (
                "AuthFailure.ServiceLinkedRoleCreationNotPermitted",
                Kind::Wrong,
                "administrator",
            ),
            ("InvalidAMIID.NotFound", Kind::Wrong, "`ami`"),
            (
                "InvalidSecurityGroupID.NotFound",
                Kind::Wrong,
                "`security-group-ids`",
            ),
            ("InvalidGroup.NotFound", Kind::Wrong, "`security-group-ids`"),
            (
                "InvalidIamInstanceProfile.Name",
                Kind::Wrong,
                "`iam-instance-profile`",
            ),
            ("SomethingNew", Kind::Wrong, "EC2's message"),
        ];
        for (code, kind, word) in says {
            let (got, words) = advice(code);
            assert_eq!(got, kind, "{code}");
            assert!(words.contains(word), "{code}: {words}");
        }
    }

    #[test]
    fn each_code_is_said_once_with_its_subnets() {
        let errors = [
            error("A", Some("subnet-2")),
            error("A", Some("subnet-1")),
            error("B", None),
            error("A", Some("subnet-1")),
        ];
        assert_eq!(causes(&errors), "A in subnet-1, subnet-2: words; B: words");
        assert_eq!(causes(&[]), "it gave no reason");
    }

    #[test]
    fn throttling_alone_is_worth_another_request() {
        let answer = |codes: &[&str]| FleetAnswer {
            launched: Vec::new(),
            errors: codes.iter().map(|code| error(code, None)).collect(),
        };
        assert!(only_later(&answer(&["RequestLimitExceeded"])));
        assert!(!only_later(&answer(&[
            "RequestLimitExceeded",
            "VcpuLimitExceeded"
        ])));
        assert!(!only_later(&answer(&[])));
    }
}
