//! Which runner program a refresh gives the machines.

use proto::{agent_config::RunnerRelease, table::Table};

use super::RunError;
use crate::{
    github::release::{Found, LookupError, Releases, Wanted},
    output::{Console, chain},
    settings::BadInput,
};

/// The wanted release. While GitHub cannot be asked, the one that refresh recorded last stays.
pub(super) async fn release(
    wanted: Option<Wanted>,
    releases: &Releases,
    table: &dyn Table,
    console: &Console,
) -> Result<Option<RunnerRelease>, RunError> {
    let Some(wanted) = wanted else {
        return Ok(None);
    };
    match releases.find(wanted).await {
        Ok(Found { release, outdated }) => {
            if let Some(outdated) = outdated {
                console.warn(outdated);
            }
            Ok(Some(release))
        }
        Err(LookupError::NoRelease(none)) => Err(BadInput {
            input: "actions-runner-version",
            wrong: none.to_string(),
            allowed: "give latest, or one that is there".to_owned(),
        }
        .into()),
        Err(error @ LookupError::Port(_)) => match recorded(table).await {
            Some(release) => {
                let version = &release.version;
                console.warn(format_args!(
                    "the machines keep runner {version}: {}",
                    chain(&error)
                ));
                Ok(Some(release))
            }
            None => Err(RunError::Runner(error)),
        },
    }
}

/// What the last refresh recorded. Without a table there is nothing, and what is wrong with the
/// table refresh itself will say.
async fn recorded(table: &dyn Table) -> Option<RunnerRelease> {
    table.config().await.ok()?.launch_template?.runner
}
