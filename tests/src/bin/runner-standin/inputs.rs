//! The command line and its second form, `ACTIONS_RUNNER_INPUT_<NAME>`.

use std::collections::{BTreeMap, BTreeSet};

/// Prefix of options in the environment.
pub(crate) const ENVIRONMENT: &str = "ACTIONS_RUNNER_INPUT_";

const FLAGS: [&str; 6] = [
    "unattended",
    "replace",
    "ephemeral",
    "disableupdate",
    "no-default-labels",
    "local",
];

/// What the listener shall do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Configure,
    Run,
    Remove,
    Warmup,
    Version,
    Unknown(String),
}

/// A command with its options.
#[derive(Clone, Debug)]
pub(crate) struct Inputs {
    pub(crate) command: Command,
    options: BTreeMap<String, String>,
    flags: BTreeSet<String>,
}

impl Inputs {
    /// The command line wins over the environment.
    pub(crate) fn read(
        arguments: Vec<String>,
        environment: impl Iterator<Item = (String, String)>,
    ) -> Self {
        let mut inputs = Self {
            command: Command::Run,
            options: BTreeMap::new(),
            flags: BTreeSet::new(),
        };
        for (name, value) in environment {
            if let Some(name) = name.strip_prefix(ENVIRONMENT) {
                inputs.take_variable(&name.to_lowercase(), value);
            }
        }
        let mut arguments = arguments.into_iter().peekable();
        while let Some(argument) = arguments.next() {
            match argument.strip_prefix("--") {
                Some("version") => inputs.command = Command::Version,
                Some(flag) if FLAGS.contains(&flag) => {
                    inputs.flags.insert(flag.to_owned());
                }
                Some(option) => {
                    let value = arguments.next_if(|next| !next.starts_with("--"));
                    inputs
                        .options
                        .insert(option.to_owned(), value.unwrap_or_default());
                }
                None => inputs.command = Command::of(argument),
            }
        }
        inputs
    }

    fn take_variable(&mut self, name: &str, value: String) {
        if !FLAGS.contains(&name) {
            self.options.insert(name.to_owned(), value);
        } else if value.eq_ignore_ascii_case("true") || value == "1" {
            self.flags.insert(name.to_owned());
        }
    }

    pub(crate) fn option(&self, name: &str) -> Option<&str> {
        self.options
            .get(name)
            .map(String::as_str)
            .filter(|value| !value.is_empty())
    }

    pub(crate) fn flag(&self, name: &str) -> bool {
        self.flags.contains(name)
    }
}

impl Command {
    fn of(word: String) -> Self {
        match word.as_str() {
            "configure" => Self::Configure,
            "run" => Self::Run,
            "remove" => Self::Remove,
            "warmup" => Self::Warmup,
            _ => Self::Unknown(word),
        }
    }
}

/// The environment for everything that the listener starts: without inputs,
/// so that no job sees a token.
pub(crate) fn clean_environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars().filter(|(name, _)| !name.starts_with(ENVIRONMENT))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(arguments: &[&str], environment: &[(&str, &str)]) -> Inputs {
        Inputs::read(
            arguments.iter().map(ToString::to_string).collect(),
            environment
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
        )
    }

    #[test]
    fn the_command_line_wins_over_the_environment() {
        let inputs = read(
            &["configure", "--name", "a", "--replace"],
            &[
                ("ACTIONS_RUNNER_INPUT_NAME", "b"),
                ("ACTIONS_RUNNER_INPUT_TOKEN", "secret"),
                ("ACTIONS_RUNNER_INPUT_EPHEMERAL", "false"),
                ("PATH", "/bin"),
            ],
        );
        assert_eq!(inputs.command, Command::Configure);
        assert_eq!(inputs.option("name"), Some("a"));
        assert_eq!(inputs.option("token"), Some("secret"));
        assert!(inputs.flag("replace"));
        assert!(!inputs.flag("ephemeral"));
    }
}
