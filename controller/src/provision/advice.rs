//! What EC2's refusals of a fleet request mean, and what to change about them.

mod codes;

use std::collections::{BTreeMap, BTreeSet};

use crate::ports::{FleetAnswer, FleetError, PortError};

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

/// Whether a call that failed may be repeated as it is: EC2 was busy, or did not answer.
pub(crate) fn is_for_later(error: &PortError) -> bool {
    let code = error.code.as_deref();
    code.is_none_or(|code| advice(code).0 == Kind::Later)
}

/// What a code calls for, and what to change, in one sentence.
pub(super) fn advice(code: &str) -> (Kind, &'static str) {
    let says = |pattern: &&str| match pattern.strip_suffix('*') {
        Some(start) => code.starts_with(start),
        None => code == *pattern,
    };
    codes::all()
        .find(|(_, codes, _)| codes.iter().any(says))
        .map_or(
            (Kind::Wrong, "see EC2's message and its list of error codes"),
            |(kind, _, what)| (*kind, *what),
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
            let message = message.trim_end_matches('.');
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

    /// EC2's API reference has these among its codes; a launch can meet them.
    #[test]
    fn no_documented_code_is_left_without_advice() {
        const DOCUMENTED: &str = "AuthFailure Blocked IdempotentParameterMismatch \
            IncompleteSignature InvalidCharacter InvalidClientTokenId InvalidParameter \
            InvalidParameterCombination InvalidParameterDependency InvalidParameterValue \
            InvalidQueryParameter MalformedQueryString MissingAuthenticationToken \
            MissingParameter OptInRequired PendingVerification RequestExpired \
            UnauthorizedOperation UnknownParameter UnsupportedOperation ValidationError \
            AddressLimitExceeded AttachmentLimitExceeded BootForVolumeTypeUnsupported \
            ConcurrentTagAccess CreditSpecificationUpdateInProgress CustomerKeyHasBeenRevoked \
            DefaultVpcDoesNotExist EncryptedVolumesNotSupported HostLimitExceeded \
            IdempotentInstanceTerminated IncompatibleHostRequirements InstanceLimitExceeded \
            InsufficientCapacityOnHost InsufficientFreeAddressesInSubnet \
            InsufficientReservedInstancesCapacity InvalidAMIID.Malformed InvalidAMIID.NotFound \
            InvalidAMIID.Unavailable InvalidAvailabilityZone InvalidBlockDeviceMapping \
            InvalidClientToken InvalidGroup.NotFound InvalidGroupId.Malformed \
            InvalidIamInstanceProfileArn.Malformed InvalidID InvalidInput \
            InvalidInstanceAttributeValue InvalidInstanceFamily InvalidInstanceType \
            InvalidInterface.IpAddressLimitExceeded InvalidKernelId.Malformed \
            InvalidKeyPair.NotFound InvalidLaunchTemplateId.Malformed \
            InvalidLaunchTemplateId.NotFound InvalidLaunchTemplateId.VersionNotFound \
            InvalidLaunchTemplateName.NotFoundException InvalidManifest \
            InvalidPlacementGroup.Unknown InvalidRamDiskId.Malformed InvalidRequest \
            InvalidSecurity.RequestHasExpired InvalidSecurityGroupId.Malformed \
            InvalidSecurityGroupID.NotFound InvalidSnapshot.NotFound InvalidSnapshotID.Malformed \
            InvalidSpotFleetRequestConfig InvalidSubnet InvalidSubnet.Conflict \
            InvalidSubnetID.Malformed InvalidSubnetID.NotFound InvalidTagKey.Malformed \
            InvalidTenancy InvalidZone.NotFound MaxIOPSLimitExceeded \
            MaxSpotFleetRequestCountExceeded MaxSpotInstanceCountExceeded MissingInput \
            NetworkInterfaceLimitExceeded OperationNotPermitted PrivateIpAddressLimitExceeded \
            RequestResourceCountExceeded ReservationCapacityExceeded ResourceCountExceeded \
            ResourceLimitExceeded SecurityGroupLimitExceeded \
            SecurityGroupsPerInstanceLimitExceeded SecurityGroupsPerInterfaceLimitExceeded \
            SignatureDoesNotMatch TagLimitExceeded TargetCapacityLimitExceededException \
            UnavailableHostRequirements UnknownVolumeType Unsupported UnsupportedException \
            UnsupportedHibernationConfiguration UnsupportedHostConfiguration \
            UnsupportedInstanceTypeOnHost UnsupportedTenancy VolumeIOPSLimit VolumeLimitExceeded \
            VolumeTypeNotAvailableInZone VPCIdNotSpecified VPCResourceNotSpecified \
            VcpuLimitExceeded ZonesMismatched InsufficientAddressCapacity InsufficientCapacity \
            InsufficientHostCapacity InsufficientInstanceCapacity \
            InsufficientReservedInstanceCapacity InsufficientVolumeCapacity InternalError \
            InternalFailure RequestLimitExceeded ServerInternal ServiceUnavailable Unavailable \
            UnfulfillableCapacity SpotMaxPriceTooLow MaxFleetCountExceeded";
        let fallback = advice("SomethingNew").1;
        for code in DOCUMENTED.split_whitespace() {
            assert_ne!(advice(code).1, fallback, "{code}");
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
