//! Under which user the runner and its jobs run, and what of the agent's environment they see.

use std::{
    ffi::OsString,
    io,
    ops::RangeInclusive,
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

/// Who may become whom in a namespace of its own.
const SUBORDINATE: &str = "/etc/subuid";
/// All users of the system, and nobody, are below.
const FIRST_SUBORDINATE: u32 = 65_536;

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
    /// The other users that it may become in a namespace of its own.
    pub(crate) subordinate: Vec<RangeInclusive<u32>>,
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
    #[error("cannot read which other users `{0}` may become, in {SUBORDINATE}")]
    Subordinate(String, #[source] io::Error),
    #[error(
        "{SUBORDINATE} lets `{0}` become the users {begin} to {end}, some of which are the system's: give it \
         none below {FIRST_SUBORDINATE}",
        begin = .1.start(),
        end = .1.end()
    )]
    System(String, RangeInclusive<u32>),
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
        let subordinate = match std::fs::read_to_string(SUBORDINATE) {
            Ok(text) => subordinate(&text, &user.name, user.uid.as_raw())?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(NoAccount::Subordinate(user.name, error)),
        };
        Ok(Self::Other(Box::new(Person {
            name: user.name,
            user: user.uid.as_raw(),
            group: user.gid.as_raw(),
            home: user.dir,
            subordinate,
        })))
    }

    /// The user that only jobs have.
    pub(crate) fn person(&self) -> Option<&Person> {
        match self {
            Self::Own => None,
            Self::Other(person) => Some(person),
        }
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

/// The ranges of a user in such a file's lines: `name or number:first:count`.
fn subordinate(text: &str, name: &str, user: u32) -> Result<Vec<RangeInclusive<u32>>, NoAccount> {
    let range = |line: &str| {
        let mut fields = line.trim().split(':');
        let whose = fields.next()?;
        let first: u32 = fields.next()?.parse().ok()?;
        let count: u32 = fields.next()?.parse().ok()?;
        let theirs = whose == name || whose.parse() == Ok(user);
        (theirs && count > 0).then(|| first..=first.saturating_add(count - 1))
    };
    text.lines()
        .filter_map(range)
        .map(|range| match *range.start() {
            ..FIRST_SUBORDINATE => Err(NoAccount::System(name.to_owned(), range)),
            FIRST_SUBORDINATE.. => Ok(range),
        })
        .collect()
}

impl Person {
    /// Whether this user is the person, or one that the person may become.
    pub(crate) fn is(&self, user: u32) -> bool {
        user == self.user || self.subordinate.iter().any(|range| range.contains(&user))
    }

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

    #[test]
    fn the_users_that_a_user_may_become_are_its_own_and_never_the_systems() {
        let text = "other:100000:65536\nrunner:165536:10\n1001:300000:1\nrunner:x:1\nrunner:9:0\n";
        let ranges = subordinate(text, "runner", 1001).unwrap();
        assert_eq!(ranges, [165_536..=165_545, 300_000..=300_000]);
        let person = Person {
            name: "runner".into(),
            user: 1001,
            group: 1001,
            home: "/home/runner".into(),
            subordinate: ranges,
        };
        for (user, theirs) in [(1001, true), (165_545, true), (165_546, false), (0, false)] {
            assert_eq!(person.is(user), theirs, "{user}");
        }
        let error = subordinate("runner:1:999\n", "runner", 1001).unwrap_err();
        assert!(error.to_string().contains("the users 1 to 999"), "{error}");
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
