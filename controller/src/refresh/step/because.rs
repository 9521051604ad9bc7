//! Why a machine has to end.

use std::fmt;

use proto::{
    ids::ClassName,
    state::{State, Terminate},
    time::Time,
};

/// Why a machine with a live record is terminated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Because {
    /// It stayed in its state for too long.
    Expired {
        /// The state.
        state: State,
        /// When it should have left it.
        threshold: Time,
    },
    /// It is idle and its class is gone.
    ClassRetired {
        /// The class.
        class: ClassName,
        /// The record's generation.
        generation: u64,
    },
    /// It is idle and its class has another size by now.
    ClassResized {
        /// The class.
        class: ClassName,
        /// The record's generation.
        generation: u64,
    },
    /// It is idle and there are more than there may be.
    Surplus {
        /// How many there may be.
        most: usize,
        /// The record's generation.
        generation: u64,
    },
    /// It is idle for longer than it may, and not one of those that are kept.
    IdleForLong {
        /// Since when.
        since: Time,
        /// The record's generation.
        generation: u64,
    },
    /// It was launched for the floor and did not come up.
    Unready {
        /// What its agent says of it.
        why: String,
        /// The record's generation.
        generation: u64,
    },
    /// Its record has no threshold, which each live record has, and so no end.
    Endless {
        /// The record's generation.
        generation: u64,
    },
    /// It is idle and was made from another version of the launch template.
    OldTemplate {
        /// That version.
        version: i64,
        /// The record's generation.
        generation: u64,
    },
}

impl Because {
    /// What must still hold when the record is locked.
    pub(in crate::refresh) fn lock(&self) -> Terminate {
        match self {
            Self::Expired { .. } => Terminate::Expired,
            Self::ClassRetired { generation, .. }
            | Self::ClassResized { generation, .. }
            | Self::Surplus { generation, .. }
            | Self::IdleForLong { generation, .. }
            | Self::OldTemplate { generation, .. } => Terminate::Free(*generation),
            Self::Unready { generation, .. } | Self::Endless { generation } => {
                Terminate::Generation(*generation)
            }
        }
    }
}

impl fmt::Display for Because {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Expired { state, threshold } => write!(f, "{state} past {threshold}"),
            Self::ClassRetired { class, .. } => write!(f, "idle, class {class} is retired"),
            Self::ClassResized { class, .. } => {
                write!(f, "idle, class {class} has another size now")
            }
            Self::Surplus { most, .. } => write!(f, "idle, max-idle is {most}"),
            Self::IdleForLong { since, .. } => write!(f, "idle since {since}, and not needed"),
            Self::Unready { why, .. } => {
                write!(f, "launched for the floor, did not come up: {why}")
            }
            Self::Endless { .. } => {
                f.write_str("its record has no threshold, which Paddock always writes")
            }
            Self::OldTemplate { version, .. } => {
                write!(f, "idle, made from launch template version {version}")
            }
        }
    }
}

/// What the table says of a machine that no live record knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stray {
    /// Nothing.
    NoRecord,
    /// That it is terminated, which it is not.
    Terminated,
}

impl fmt::Display for Stray {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoRecord => "no record",
            Self::Terminated => "its record says terminated, EC2 shows it alive",
        })
    }
}
