//! The instance types there are, with their sizes and rough prices.

use std::sync::LazyLock;

use wildmatch::WildMatch;

/// One instance type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct InstanceType {
    pub(super) name: String,
    pub(super) vcpus: u32,
    pub(super) memory_mib: u32,
    /// On demand, per hour, in hundred-thousandths of a dollar.
    pub(super) price: u32,
}

/// Family, MiB of memory per vCPU, price per vCPU.
const FAMILIES: [(&str, u32, u32); 6] = [
    ("c5", 2048, 4250),
    ("c6i", 2048, 4251),
    ("m5", 4096, 4800),
    ("m6i", 4096, 4801),
    ("r5", 8192, 6300),
    ("r6i", 8192, 6301),
];

const SIZES: [(&str, u32); 7] = [
    ("large", 2),
    ("xlarge", 4),
    ("2xlarge", 8),
    ("4xlarge", 16),
    ("8xlarge", 32),
    ("12xlarge", 48),
    ("16xlarge", 64),
];

static ALL: LazyLock<Vec<InstanceType>> = LazyLock::new(|| {
    let mut all: Vec<_> = FAMILIES
        .iter()
        .flat_map(|&(family, memory, price)| {
            SIZES.iter().map(move |&(size, vcpus)| InstanceType {
                name: format!("{family}.{size}"),
                vcpus,
                memory_mib: vcpus * memory,
                price: vcpus * price,
            })
        })
        // Types that are none of the offered families, for wildcards to miss.
        .chain([
            InstanceType {
                name: "t3.large".to_owned(),
                vcpus: 2,
                memory_mib: 8192,
                price: 8320,
            },
            InstanceType {
                name: "t2.micro".to_owned(),
                vcpus: 1,
                memory_mib: 1024,
                price: 1160,
            },
        ])
        .collect();
    all.sort_by_key(|kind| kind.price);
    all
});

/// The whole catalogue, cheapest first.
pub(super) fn all() -> &'static [InstanceType] {
    &ALL
}

/// The type of that name.
pub(super) fn find(name: &str) -> Option<&'static InstanceType> {
    ALL.iter().find(|kind| kind.name == name)
}

/// Attribute-based requirements, as far as the catalogue can tell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Requirements {
    pub(super) vcpus: Range,
    pub(super) memory_mib: Range,
    /// Empty allows every type.
    pub(super) allowed: Vec<String>,
    pub(super) excluded: Vec<String>,
    /// Only with this set may a type be burstable.
    pub(super) burstable: bool,
}

/// A range whose ends are included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) min: u32,
    pub(super) max: Option<u32>,
}

impl Range {
    fn holds(self, value: u32) -> bool {
        value >= self.min && self.max.is_none_or(|max| value <= max)
    }
}

impl Requirements {
    /// The types that satisfy them, cheapest first.
    pub(super) fn matching(&self) -> impl Iterator<Item = &'static InstanceType> {
        all().iter().filter(|kind| self.admit(kind))
    }

    fn admit(&self, kind: &InstanceType) -> bool {
        let named = |patterns: &[String]| {
            patterns
                .iter()
                .any(|pattern| WildMatch::new(pattern).matches(&kind.name))
        };
        self.vcpus.holds(kind.vcpus)
            && self.memory_mib.holds(kind.memory_mib)
            && (self.allowed.is_empty() || named(&self.allowed))
            && !named(&self.excluded)
            && (self.burstable || !kind.name.starts_with('t'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(requirements: &Requirements) -> Vec<&'static str> {
        requirements
            .matching()
            .map(|kind| kind.name.as_str())
            .collect()
    }

    #[test]
    fn requirements_choose_by_size_and_name() {
        let mut wanted = Requirements {
            vcpus: Range {
                min: 2,
                max: Some(2),
            },
            memory_mib: Range {
                min: 8192,
                max: None,
            },
            ..Requirements::default()
        };
        assert_eq!(
            names(&wanted),
            ["m5.large", "m6i.large", "r5.large", "r6i.large"]
        );
        wanted.allowed = vec!["m*".to_owned(), "r5.*".to_owned()];
        wanted.excluded = vec!["m5.*".to_owned()];
        assert_eq!(names(&wanted), ["m6i.large", "r5.large"]);
        wanted.vcpus.min = 999;
        assert!(names(&wanted).is_empty());
    }
}
