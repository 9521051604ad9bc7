//! Runners that are registered, and the runs that they work for.

use proto::ids::RunId;
use reqwest::Method;
use serde::Deserialize;

use super::{GithubForge, Scope, refusal::Refusal};
use crate::ports::{Deleted, ForgeRunner, RunState};

/// GitHub's largest page.
const PAGE: usize = 100;
/// GitHub registers at most 10,000 runners for one repository or organisation: as many pages.
const PAGES: usize = 100;
/// The permission that reading a run takes.
const READ_RUNS: &str = "`Actions: read` on the repository";

#[derive(Deserialize)]
struct RunnersAnswer {
    runners: Vec<RunnerAnswer>,
}

#[derive(Deserialize)]
struct RunnerAnswer {
    id: u64,
    name: String,
    status: String,
    #[serde(default)]
    busy: bool,
}

#[derive(Deserialize)]
struct RunAnswer {
    status: Option<String>,
}

impl GithubForge {
    pub(super) async fn list_runners(&self) -> Result<Vec<ForgeRunner>, Refusal> {
        let mut runners = Vec::new();
        for page in 1..=PAGES {
            let scope = self.scope.path();
            let path = format!("{scope}/actions/runners?per_page={PAGE}&page={page}");
            let response = self
                .send(Method::GET, path, self.scope.permission())
                .await?;
            let answer: RunnersAnswer = response.json().await.map_err(Refusal::Answer)?;
            let last = answer.runners.len() < PAGE;
            runners.extend(answer.runners.into_iter().map(|runner| ForgeRunner {
                id: runner.id,
                name: runner.name,
                online: runner.status == "online",
                busy: runner.busy,
            }));
            if last {
                break;
            }
        }
        Ok(runners)
    }

    pub(super) async fn delete(&self, id: u64) -> Result<Deleted, Refusal> {
        let path = format!("{}/actions/runners/{id}", self.scope.path());
        match self
            .send(Method::DELETE, path, self.scope.permission())
            .await
        {
            Ok(_) => Ok(Deleted::Yes),
            Err(refusal) if refusal.status() == Some(404) => Ok(Deleted::Yes),
            // GitHub deletes no runner that has a job: its only test of idleness that holds.
            Err(refusal) if refusal.status() == Some(422) => Ok(Deleted::Busy),
            Err(refusal) => Err(refusal),
        }
    }

    pub(super) async fn run_state(
        &self,
        repository: Option<&str>,
        run: &RunId,
    ) -> Result<RunState, Refusal> {
        let repository = match &self.scope {
            Scope::Repository { .. } => self.scope.to_string(),
            Scope::Organisation { owner } => {
                let own = |name: &&str| {
                    name.split_once('/')
                        .is_some_and(|(of, _)| of.eq_ignore_ascii_case(owner))
                };
                match repository.filter(own) {
                    Some(repository) => repository.to_owned(),
                    None => return Ok(RunState::Unknown),
                }
            }
        };
        let path = format!("repos/{repository}/actions/runs/{run}");
        let response = match self.send(Method::GET, path, READ_RUNS).await {
            Ok(response) => response,
            Err(refusal) if refusal.status() == Some(404) => return Ok(RunState::Unknown),
            Err(refusal) => return Err(refusal),
        };
        let answer: RunAnswer = response.json().await.map_err(Refusal::Answer)?;
        Ok(match answer.status.as_deref() {
            Some("completed") => RunState::Over,
            Some(_) => RunState::Active,
            None => RunState::Unknown,
        })
    }
}
