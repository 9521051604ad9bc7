//! Which repository or organisation a pool serves.

use super::{BadInput, given, required};
use crate::{github::Scope, inputs::CommonInputs};

/// The repository that the step runs for, or its organisation.
pub(super) fn scope(inputs: &CommonInputs) -> Result<Scope, BadInput> {
    let repository = required(
        "GITHUB_REPOSITORY",
        inputs.github_repository.as_ref(),
        "run this inside a workflow, or set it to owner/name",
    )?;
    let Some((owner, repo)) = repository
        .split_once('/')
        .filter(|(owner, repo)| is_name(owner) && is_name(repo))
    else {
        let wrong = format!("`{repository}` names no repository");
        return Err(BadInput::new("GITHUB_REPOSITORY", wrong, "give owner/name"));
    };
    match given(inputs.github_scope.as_ref()) {
        None | Some("repository") => Ok(Scope::Repository {
            owner: owner.to_owned(),
            repo: repo.to_owned(),
        }),
        Some("organisation" | "organization") => Ok(Scope::Organisation {
            owner: owner.to_owned(),
        }),
        Some(odd) => Err(BadInput::new(
            "github-scope",
            format!("`{odd}` is unknown"),
            "allowed: repository, organisation",
        )),
    }
}

fn is_name(text: &str) -> bool {
    let valid = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    !text.is_empty() && text.chars().all(valid)
}
