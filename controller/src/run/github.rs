//! GitHub for a command: its secret fetched, its login made, the runner program looked up.

use std::sync::Arc;

use aws_config::SdkConfig;
use proto::{agent_config::RunnerRelease, table::Table, time::SystemClock};

use super::RunError;
use crate::{
    aws::secrets,
    github::{
        GithubForge,
        release::{Found, LookupError, Releases, Wanted},
    },
    output::{Console, chain},
    settings::{BadInput, github::GithubSettings},
};

/// GitHub, and where the runner program is published.
pub(super) struct Github {
    pub(super) forge: GithubForge,
    releases: Releases,
    /// Whether both are the same GitHub, so that one login serves for both.
    same: bool,
}

impl Github {
    /// Reads the secret. GitHub's log will hide it, and what is had for it, from then on.
    pub(super) async fn open(
        settings: &GithubSettings,
        sdk: &SdkConfig,
        console: &Console,
    ) -> Result<Self, RunError> {
        let secret = secrets::read(settings.login.source(), sdk)
            .await
            .map_err(RunError::Secret)?;
        let masks = console.masks();
        masks.hide(&secret);
        let credentials = settings.login.with(secret)?;
        let clock = Arc::new(SystemClock);
        let scope = settings.scope.clone();
        Ok(Self {
            forge: GithubForge::new(&settings.api_url, scope, credentials, masks, clock.clone()),
            releases: Releases::new(&settings.releases_url, clock),
            same: settings.releases_url == settings.api_url,
        })
    }

    /// Why GitHub refuses this release, or soon will; its error in words.
    pub(super) async fn outdated(&self, wanted: Wanted) -> Result<Option<String>, String> {
        let bearer = if self.same {
            self.forge.bearer().await.ok()
        } else {
            None
        };
        match self.releases.find(wanted, bearer.as_ref()).await {
            Ok(found) => Ok(found.outdated.map(|outdated| outdated.to_string())),
            Err(error) => Err(chain(&error)),
        }
    }

    /// The wanted release. While GitHub cannot be asked, the one that refresh recorded last stays.
    pub(super) async fn runner(
        &self,
        wanted: Wanted,
        table: &dyn Table,
        console: &Console,
    ) -> Result<RunnerRelease, RunError> {
        // A login that fails is said by those who cannot do without.
        let bearer = if self.same {
            self.forge.bearer().await.ok()
        } else {
            None
        };
        match self.releases.find(wanted, bearer.as_ref()).await {
            Ok(Found { release, outdated }) => {
                if let Some(outdated) = outdated {
                    console.warn(outdated);
                }
                Ok(release)
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
                    Ok(release)
                }
                None => Err(RunError::Runner(error)),
            },
        }
    }
}

/// What the last refresh recorded. Without a table there is nothing, and what is wrong with the
/// table refresh itself will say.
pub(super) async fn recorded(table: &dyn Table) -> Option<RunnerRelease> {
    table.config().await.ok()?.launch_template?.runner
}
