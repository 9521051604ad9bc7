//! Which instances a fleet gets: pure, but for the capacity it uses up.

use super::super::capacity::Capacities;
use super::super::catalogue::InstanceType;
use super::network::Subnet;

/// One kind of instance that a fleet would take.
#[derive(Clone, Debug)]
pub(super) struct Pool {
    /// Which of the request's overrides offers it.
    pub(super) offer: usize,
    pub(super) kind: &'static InstanceType,
    pub(super) subnet: Subnet,
}

/// How many instances of one usage class a fleet wants.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Wish {
    pub(super) target: usize,
    pub(super) spot: bool,
    /// Fewer than this are none.
    pub(super) min: usize,
    pub(super) single_zone: bool,
    pub(super) single_type: bool,
}

/// Why a pool did not give what was asked of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shortage {
    Capacity,
    Quota,
}

impl Shortage {
    /// EC2's code and message for it.
    pub(super) fn explain(self, spot: bool, pool: &Pool) -> (&'static str, String) {
        let (kind, zone) = (&pool.kind.name, &pool.subnet.zone);
        match (self, spot) {
            (Self::Capacity, _) => (
                "InsufficientInstanceCapacity",
                format!(
                    "We currently do not have sufficient {kind} capacity in the Availability \
                     Zone you requested ({zone}). Our system will be working on provisioning \
                     additional capacity."
                ),
            ),
            (Self::Quota, false) => (
                "VcpuLimitExceeded",
                "You have requested more vCPU capacity than your current vCPU limit allows for \
                 the instance bucket that the specified instance type belongs to."
                    .to_owned(),
            ),
            (Self::Quota, true) => (
                "MaxSpotInstanceCountExceeded",
                "Max spot instance count exceeded".to_owned(),
            ),
        }
    }
}

/// What the pools give. Numbers are positions in the list of pools.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Placement {
    pub(super) placed: Vec<(usize, usize)>,
    pub(super) short: Vec<(usize, Shortage)>,
}

impl Placement {
    pub(super) fn total(&self) -> usize {
        self.placed.iter().map(|(_, count)| count).sum()
    }
}

/// Fills a wish from the cheapest pools, at most `quota` instances in all.
pub(super) fn place(
    pools: &[Pool],
    wish: &Wish,
    quota: usize,
    capacity: &mut Capacities,
) -> Placement {
    let mut order: Vec<usize> = (0..pools.len()).collect();
    order.sort_by_key(|at| pools[*at].kind.price);
    let mut best: Option<(Placement, Capacities)> = None;
    let mut short = Vec::new();
    for group in groups(pools, &order, wish) {
        let mut left = capacity.clone();
        let placement = fill(pools, &group, wish, quota, &mut left);
        short.extend(placement.short.iter().copied());
        let total = placement.total();
        if best.as_ref().is_none_or(|(best, _)| total > best.total()) {
            best = Some((placement, left));
        }
        if total == wish.target {
            break;
        }
    }
    match best {
        Some((placement, left)) if placement.total() >= wish.min => {
            *capacity = left;
            Placement { short, ..placement }
        }
        Some(_) | None => Placement {
            placed: Vec::new(),
            short,
        },
    }
}

/// The pools that one fleet may mix, in the order in which they are tried.
fn groups(pools: &[Pool], order: &[usize], wish: &Wish) -> Vec<Vec<usize>> {
    let key = |at: usize| {
        (
            wish.single_zone.then(|| pools[at].subnet.zone.as_str()),
            wish.single_type.then(|| pools[at].kind.name.as_str()),
        )
    };
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for &at in order {
        match groups.iter_mut().find(|group| key(group[0]) == key(at)) {
            Some(group) => group.push(at),
            None => groups.push(vec![at]),
        }
    }
    groups
}

fn fill(
    pools: &[Pool],
    group: &[usize],
    wish: &Wish,
    quota: usize,
    capacity: &mut Capacities,
) -> Placement {
    let mut placement = Placement::default();
    let mut placed = 0;
    for &at in group {
        let pool = &pools[at];
        let mut count = 0;
        while placed < wish.target {
            let shortage = if placed == quota {
                Shortage::Quota
            } else if capacity.take(&pool.kind.name, wish.spot, &pool.subnet.zone) {
                count += 1;
                placed += 1;
                continue;
            } else {
                Shortage::Capacity
            };
            placement.short.push((at, shortage));
            break;
        }
        if count > 0 {
            placement.placed.push((at, count));
        }
    }
    placement
}

#[cfg(test)]
mod tests {
    use super::super::super::catalogue;
    use super::super::network::Network;
    use super::*;

    fn pools(types: &[&str]) -> Vec<Pool> {
        let network = Network::new("us-east-1");
        types
            .iter()
            .flat_map(|name| {
                network.subnets().iter().map(|subnet| Pool {
                    offer: 0,
                    kind: catalogue::find(name).unwrap(),
                    subnet: subnet.clone(),
                })
            })
            .collect()
    }

    fn wish(target: usize) -> Wish {
        Wish {
            target,
            ..Wish::default()
        }
    }

    #[test]
    fn the_cheapest_pool_comes_first() {
        let pools = pools(&["m5.large", "c5.large"]);
        let placement = place(&pools, &wish(3), 10, &mut Capacities::default());
        assert_eq!(placement.placed, [(3, 3)]);
        assert!(placement.short.is_empty());
    }

    #[test]
    fn what_one_pool_lacks_the_next_gives() {
        let pools = pools(&["c5.large"]);
        let mut capacity = Capacities::default();
        capacity.set("c5.*", Some("us-east-1a"), Some(1));
        capacity.set("c5.*", Some("us-east-1b"), Some(1));
        let placement = place(&pools, &wish(3), 10, &mut capacity);
        assert_eq!(placement.placed, [(0, 1), (1, 1), (2, 1)]);
        assert_eq!(
            placement.short,
            [(0, Shortage::Capacity), (1, Shortage::Capacity)]
        );
    }

    #[test]
    fn a_minimum_in_a_single_zone_is_all_or_nothing() {
        let pools = pools(&["c5.large"]);
        let mut capacity = Capacities::default();
        capacity.set("*", Some("us-east-1a"), Some(1));
        capacity.set("*", Some("us-east-1b"), Some(2));
        capacity.set("*", Some("us-east-1c"), Some(1));
        let mut all = wish(3);
        (all.min, all.single_zone) = (3, true);
        let placement = place(&pools, &all, 10, &mut capacity);
        assert!(placement.placed.is_empty());
        assert_eq!(placement.short.len(), 3);
        (all.target, all.min) = (2, 2);
        assert_eq!(place(&pools, &all, 10, &mut capacity).placed, [(1, 2)]);
    }

    #[test]
    fn the_quota_ends_it() {
        let pools = pools(&["c5.large"]);
        let placement = place(&pools, &wish(3), 2, &mut Capacities::default());
        assert_eq!(placement.total(), 2);
        assert!(
            placement
                .short
                .iter()
                .all(|(_, why)| *why == Shortage::Quota)
        );
    }
}
