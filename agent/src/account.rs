//! Under which user the runner and its jobs run, and what of the agent's environment they see.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use nix::unistd::{Uid, User};
use tokio::process::Command;

/// What the runner's environment takes over from the agent's: what is meant for jobs too. Nothing
/// of the agent's own (`AWS_…`, `PADDOCK_…`) is.
const TAKEN_OVER: [&str; 12] = [
    "RUNNER_ALLOW_RUNASROOT",
    "TMPDIR",
    "LANG",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "ALL_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "all_proxy",
    "TZ",
];
/// A test yard marks processes by variables that begin so.
const YARD: &str = "PADDOCK_YARD_";
const USUAL_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Enters another user with all of that user's groups (docker's, for one).
const SETPRIV: &str = "/usr/bin/setpriv";

/// Who runs the jobs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Account {
    /// The agent's own user: for trials, not for strangers' jobs.
    Own,
    /// An account that only jobs have.
    Other(Box<Person>),
}

/// An entry of the user database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Person {
    pub(crate) name: String,
    pub(crate) user: u32,
    pub(crate) group: u32,
    pub(crate) home: PathBuf,
}

/// There is no such user.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoAccount {
    #[error("there is no user `{0}` to run jobs as: create it, or name another with --runner-user")]
    Unknown(String),
    #[error("cannot look up the user `{0}`")]
    Lookup(String, #[source] nix::Error),
    #[error("jobs must not run as root: create a user, and name it with --runner-user")]
    Root,
}

impl Account {
    /// The account of that name; the agent's own for the empty name.
    pub(crate) fn find(name: &str) -> Result<Self, NoAccount> {
        if name.is_empty() {
            return Ok(Self::Own);
        }
        let user = User::from_name(name)
            .map_err(|error| NoAccount::Lookup(name.to_owned(), error))?
            .ok_or_else(|| NoAccount::Unknown(name.to_owned()))?;
        if user.uid == Uid::effective() {
            return Ok(Self::Own);
        }
        if user.uid.is_root() {
            return Err(NoAccount::Root);
        }
        Ok(Self::Other(Box::new(Person {
            name: user.name,
            user: user.uid.as_raw(),
            group: user.gid.as_raw(),
            home: user.dir,
        })))
    }

    /// The user that only jobs have.
    pub(crate) fn person(&self) -> Option<&Person> {
        match self {
            Self::Own => None,
            Self::Other(person) => Some(person),
        }
    }

    /// To whom files in the runner's folder belong, if not to the agent's user.
    pub(crate) fn owner(&self) -> Option<(u32, u32)> {
        self.person().map(|person| (person.user, person.group))
    }

    /// A command of the runner, with an environment of its own.
    pub(crate) fn command(&self, program: &Path) -> Command {
        self.command_behind(Vec::new(), program)
    }

    /// The same behind another command, which runs as the agent's user.
    pub(crate) fn command_behind(&self, mut words: Vec<OsString>, program: &Path) -> Command {
        let path = std::env::var_os("PATH").unwrap_or_else(|| USUAL_PATH.into());
        let enters = Path::new(SETPRIV).exists();
        if let (Self::Other(person), true) = (self, enters) {
            words.extend(person.enter());
        }
        words.push(program.into());
        let mut words = words.into_iter();
        let mut command = Command::new(words.next().unwrap_or_default());
        command.args(words);
        if let (Self::Other(person), false) = (self, enters) {
            command.uid(person.user).gid(person.group);
        }
        command.env_clear().env("PATH", path).envs(taken_over());
        match self {
            Self::Own => {
                let inherited = ["HOME", "USER", "LOGNAME"]
                    .into_iter()
                    .filter_map(|name| Some((name, std::env::var_os(name)?)));
                command.envs(inherited);
                if Uid::effective().is_root() {
                    // Whoever chose the agent's own user chose this.
                    command.env("RUNNER_ALLOW_RUNASROOT", "1");
                }
            }
            Self::Other(person) => {
                command
                    .env("HOME", &person.home)
                    .env("USER", &person.name)
                    .env("LOGNAME", &person.name);
            }
        }
        command
    }
}

impl Person {
    /// What a command line begins with so that it is this user's.
    fn enter(&self) -> [OsString; 5] {
        [
            SETPRIV.into(),
            format!("--reuid={}", self.user).into(),
            format!("--regid={}", self.group).into(),
            "--init-groups".into(),
            "--".into(),
        ]
    }
}

fn taken_over() -> impl Iterator<Item = (OsString, OsString)> {
    std::env::vars_os().filter(|(name, _)| {
        name.to_str()
            .is_some_and(|name| TAKEN_OVER.contains(&name) || name.starts_with(YARD))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_that_is_not_there_is_named() {
        let error = Account::find("no-such-user").unwrap_err();
        assert!(error.to_string().contains("`no-such-user`"), "{error}");
        assert_eq!(Account::find("").unwrap(), Account::Own);
    }

    #[tokio::test]
    async fn nothing_of_the_agents_own_environment_reaches_jobs() {
        let output = Account::Own
            .command(Path::new("/usr/bin/env"))
            .output()
            .await
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.contains("PATH="), "{text}");
        assert!(!text.contains("CARGO"), "{text}");
    }
}
