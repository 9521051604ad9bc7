//! EC2's error codes, and what to change about each: those of EC2's API reference that a launch can
//! meet, and those that it is known to meet beyond them.

mod wrong;

use self::wrong::WRONG;
use super::Kind::{self, Later, Scarce};

/// What some codes call for, and what to change, in one sentence. A code that ends in `*` stands for
/// all that begin so.
pub(super) type Advice = (Kind, &'static [&'static str], &'static str);

/// All of them; the first that has the code counts.
pub(super) fn all() -> impl Iterator<Item = &'static Advice> {
    ELSEWHERE.iter().chain(&WRONG)
}

/// What is up to AWS and the account.
const ELSEWHERE: [Advice; 12] = [
    (
        Scarce,
        &[
            "InsufficientInstanceCapacity",
            "UnfulfillableCapacity",
            "InsufficientCapacity",
            "InsufficientReservedInstance*",
            "ReservationCapacityExceeded",
        ],
        "EC2 has too few such machines now: allow more instance types (`allowed-instance-types`), give refresh subnets in more zones (`subnet-ids`), or try later",
    ),
    (
        Scarce,
        &["InsufficientVolumeCapacity"],
        "EC2 has no room for the machines' volumes now: give refresh subnets in more zones (`subnet-ids`), or try later",
    ),
    (
        Scarce,
        &[
            "InsufficientHostCapacity",
            "InsufficientCapacityOnHost",
            "IncompatibleHostRequirements",
            "UnavailableHostRequirements",
            "HostLimitExceeded",
        ],
        "the dedicated hosts are full: allocate more of them, or use shared tenancy",
    ),
    (
        Scarce,
        &[
            "InsufficientFreeAddressesInSubnet",
            "InsufficientAddressCapacity",
        ],
        "the subnet has no free addresses: give refresh larger or more subnets (`subnet-ids`)",
    ),
    (
        Scarce,
        &[
            "VcpuLimitExceeded",
            "InstanceLimitExceeded",
            "ResourceLimitExceeded",
        ],
        "the account's quota for these instance types is used up: ask for more at Service Quotas (EC2, `Running On-Demand` or `All Spot Instance Requests`), or use another usage class or fewer machines",
    ),
    (
        Scarce,
        &["MaxFleetCountExceeded"],
        "the account's quota for fleets is used up: ask for more at Service Quotas (EC2 Fleet), or delete fleets that nobody needs",
    ),
    (
        Scarce,
        &[
            "MaxSpotInstanceCountExceeded",
            "MaxSpotFleetRequestCountExceeded",
            "SpotInstanceRequestLimitExceeded",
            "TargetCapacityLimitExceeded*",
        ],
        "the account's spot quota is used up: ask for more at Service Quotas (EC2, `All Spot Instance Requests`), or set `fallback: on-demand`",
    ),
    (
        Scarce,
        &["SpotMaxPriceTooLow"],
        "spot machines cost more than `max-price` now: raise it, leave it out, or set `fallback: on-demand`",
    ),
    (
        Scarce,
        &[
            "MaxIOPSLimitExceeded",
            "VolumeIOPSLimit",
            "VolumeLimitExceeded",
            "MaxStorageLimitExceeded",
        ],
        "the account's quota for EBS volumes is used up: ask for more at Service Quotas (EBS), or make the machines' volumes smaller (`root-volume-size-gib`)",
    ),
    (
        Scarce,
        &[
            "NetworkInterfaceLimitExceeded",
            "PrivateIpAddressLimitExceeded",
            "AddressLimitExceeded",
        ],
        "the account's quota for network interfaces or addresses is used up: ask for more at Service Quotas (VPC)",
    ),
    (
        Later,
        &[
            "RequestLimitExceeded",
            "Throttling*",
            "TooManyRequests",
            "RequestThrottled*",
            "EC2ThrottledException",
        ],
        "the account makes too many EC2 calls: spread the workflows, or ask AWS for a higher rate of CreateFleet and RunInstances",
    ),
    (
        Later,
        &[
            "InternalError",
            "InternalFailure",
            "ServiceUnavailable",
            "Unavailable",
            "RequestTimeout",
            "ServerInternal",
            "ConcurrentTagAccess",
            "CreditSpecificationUpdateInProgress",
        ],
        "EC2 is in trouble: see AWS's health dashboard and try later",
    ),
];
