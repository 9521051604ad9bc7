//! Where runners register: a repository or an organisation.

use std::fmt;

/// Where runners register.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// One repository: `owner/repo`.
    Repository {
        /// A user or an organisation.
        owner: String,
        /// The repository's name.
        repo: String,
    },
    /// All repositories of an organisation.
    Organisation {
        /// The organisation.
        owner: String,
    },
}

impl Scope {
    /// The part of GitHub's REST API that is about it.
    pub(super) fn path(&self) -> String {
        match self {
            Self::Repository { owner, repo } => format!("repos/{owner}/{repo}"),
            Self::Organisation { owner } => format!("orgs/{owner}"),
        }
    }

    /// The permission that a token needs here, in words.
    pub(super) fn permission(&self) -> &'static str {
        match self {
            Self::Repository { .. } => "`Administration: write` on the repository",
            Self::Organisation { .. } => "`Self-hosted runners: write` on the organisation",
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Repository { owner, repo } => write!(f, "{owner}/{repo}"),
            Self::Organisation { owner } => f.write_str(owner),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_says_its_path_and_the_permission_it_needs() {
        let owner = || "acme".to_owned();
        let repository = Scope::Repository {
            owner: owner(),
            repo: "web".into(),
        };
        assert_eq!(repository.path(), "repos/acme/web");
        assert!(repository.permission().contains("Administration"));
        let organisation = Scope::Organisation { owner: owner() };
        assert_eq!(organisation.path(), "orgs/acme");
        assert!(organisation.permission().contains("Self-hosted runners"));
    }
}
