//! How a command ends that did not do its work.

use crate::{
    destroy::DestroyError,
    exit::Exit,
    github::release::LookupError,
    ports::PortError,
    provision::ProvisionError,
    refresh::{Refused, Report, table::TableTrouble},
    release,
    settings::BadInput,
};

/// Why a command did not get to its work, or did not finish it.
#[derive(Debug, thiserror::Error)]
pub(super) enum RunError {
    #[error(transparent)]
    Input(#[from] BadInput),
    #[error("pool {0} is not there: run `controller refresh` first, and check pool and region")]
    NoPool(String),
    #[error(transparent)]
    Refused(#[from] Refused),
    #[error(transparent)]
    Table(#[from] proto::table::TableError),
    #[error("cancelled")]
    Cancelled,
    #[error(transparent)]
    Provision {
        #[from]
        error: ProvisionError,
    },
    #[error("the provision failed, and not all of it could be taken back")]
    Unfinished {
        #[source]
        error: ProvisionError,
        left: Vec<String>,
    },
    #[error("the secret that proves who asks GitHub cannot be read")]
    Secret(#[source] PortError),
    #[error("it is not known which runner program the machines get")]
    Runner(#[source] LookupError),
    #[error("it is not known which image the machines get")]
    Image(#[source] PortError),
    #[error("the machines' agents cannot be asked")]
    Ask(#[source] PortError),
    #[error("{0} of the machines did not answer")]
    Unanswered(usize),
    #[error("some steps of refresh failed")]
    Steps { report: Report, left: Vec<String> },
    #[error(
        "machines of the pool are in use ({}): wait for their runs, or give --force",
        .0.join(", ")
    )]
    InUse(Vec<String>),
    #[error(transparent)]
    Destroy(#[from] DestroyError),
    #[error("the pool cannot work: {0} of the findings say why")]
    Ill(usize),
    #[error("not all of the pool could be taken down")]
    Standing,
    #[error(transparent)]
    Release(#[from] release::GiveBackError),
}

impl RunError {
    /// How the command ended.
    pub(super) fn exit(&self) -> Exit {
        match self {
            Self::Input(_)
            | Self::Refused(_)
            | Self::Destroy(DestroyError::Trouble(TableTrouble::Foreign { .. }))
            | Self::Provision {
                error: ProvisionError::Input(_),
            } => Exit::BadInput,
            Self::Cancelled
            | Self::Provision {
                error: ProvisionError::Cancelled | ProvisionError::CancelledFailing(_),
            } => Exit::Cancelled,
            Self::Unfinished { .. } | Self::Steps { .. } | Self::Standing | Self::Release(_) => {
                Exit::Unfinished
            }
            Self::NoPool(_)
            | Self::Table(_)
            | Self::Secret(_)
            | Self::Runner(_)
            | Self::Image(_)
            | Self::Ask(_)
            | Self::Unanswered(_)
            | Self::Ill(_)
            | Self::InUse(_)
            | Self::Destroy(_)
            | Self::Provision { .. } => Exit::Failed,
        }
    }

    /// What is left for refresh.
    pub(super) fn left(&self) -> Vec<String> {
        if let Self::Unfinished { left, .. } | Self::Steps { left, .. } = self {
            left.clone()
        } else if let Self::Release(_) = self {
            vec!["the machines of this run that are not back in the pool".to_owned()]
        } else {
            Vec::new()
        }
    }

    /// What was done all the same.
    pub(super) fn done(&self) -> Option<&Report> {
        if let Self::Steps { report, .. } = self {
            Some(report)
        } else {
            None
        }
    }

    /// What to change, where the words do not say so themselves.
    pub(super) fn remedy(&self) -> Option<String> {
        match self {
            Self::Input(_)
            | Self::NoPool(_)
            | Self::Refused(_)
            | Self::Destroy(DestroyError::Trouble(TableTrouble::Foreign { .. }))
            | Self::Ill(_)
            | Self::InUse(_)
            | Self::Cancelled => None,
            Self::Provision { error } | Self::Unfinished { error, .. } => error.remedy(),
            Self::Table(_) => {
                Some("check the credentials, their permissions, the region and the way to AWS".to_owned())
            }
            Self::Ask(_) => Some(
                "check that the document Paddock-AgentStatus is in this account and region, and \
                 that the role may send it"
                    .to_owned(),
            ),
            Self::Unanswered(_) => Some(
                "see their lines; a machine needs the SSM agent, a role that lets it in, and a way \
                 to Systems Manager"
                    .to_owned(),
            ),
            Self::Secret(_) | Self::Image(_) => Some(
                "check its name and region, and that the step's role may read it (and decrypt \
                 with its key)"
                    .to_owned(),
            ),
            Self::Runner(_) => Some(
                "run refresh again, or bake the runner program into the image and leave \
                 `actions-runner-version` out"
                    .to_owned(),
            ),
            Self::Steps { .. } => Some("see their lines above, then run refresh again".to_owned()),
            Self::Release(_) => {
                Some("run release again; what it cannot do, refresh will".to_owned())
            }
            Self::Standing => Some("see the lines above, then run destroy again".to_owned()),
            Self::Destroy(_) => Some(
                "nothing was touched; check the credentials, their permissions and the way to AWS".to_owned(),
            ),
        }
    }
}
