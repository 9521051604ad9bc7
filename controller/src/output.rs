//! What people and later steps see: the step's log, its outputs, its summary.

use std::{
    error::Error,
    fmt::{Display, Write as _},
    fs::OpenOptions,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use proto::time::human;
use serde_json::json;

use crate::provision::Provisioned;

/// The step's log and GitHub's files.
#[derive(Debug, Default)]
pub struct Console {
    outputs: Option<PathBuf>,
    summary: Option<PathBuf>,
}

impl Console {
    /// With the files that `GITHUB_OUTPUT` and `GITHUB_STEP_SUMMARY` name, where given.
    pub fn new(outputs: Option<&str>, summary: Option<&str>) -> Self {
        let path = |text: Option<&str>| text.filter(|text| !text.is_empty()).map(PathBuf::from);
        Self {
            outputs: path(outputs),
            summary: path(summary),
        }
    }

    /// A line in the log.
    pub fn say(&self, line: impl Display) {
        print(&line.to_string());
    }

    /// Has GitHub hide a text in all later lines.
    pub fn mask(&self, secret: &str) {
        // Outside of GitHub nobody would hide it: there the line itself would tell.
        if self.outputs.is_some() {
            print(&format!("::add-mask::{secret}"));
        }
    }

    /// The one annotation of a step that failed: the error with its causes, in one line.
    pub fn fail(&self, error: &dyn Error) {
        let text = chain(error);
        // GitHub reads one line; `%0A` is its line break.
        let line = text
            .replace('%', "%25")
            .replace('\r', "%0D")
            .replace('\n', "%0A");
        if self.outputs.is_some() {
            print(&format!("::error::{line}"));
        } else {
            let _ = writeln!(io::stderr(), "error: {text}");
        }
        self.summarise(&format!(
            "### Paddock: failed\n\n```\n{}\n```\n",
            text.replace("```", "'''")
        ));
    }

    /// Outputs and summary of a provision.
    pub fn provisioned(&self, provisioned: &Provisioned) {
        let Provisioned {
            label,
            machines,
            took,
            phases,
        } = provisioned;
        let reused = machines.iter().filter(|ready| ready.reused).count();
        let ids: Vec<&str> = machines.iter().map(|ready| ready.id.as_str()).collect();
        self.set(&[
            ("label", label.to_string()),
            ("instance-ids", json!(ids).to_string()),
            ("reused", reused.to_string()),
            ("created", (machines.len() - reused).to_string()),
            ("seconds", format!("{:.2}", took.as_secs_f64())),
        ]);
        let mut text = format!(
            "### Paddock: {} machines for `{label}` in {} ({reused} reused)\n\n\
             | machine | type | zone | from | ready after |\n|---|---|---|---|---|\n",
            machines.len(),
            human(*took),
        );
        for ready in machines {
            let from = if ready.reused { "pool" } else { "new" };
            let _ = writeln!(
                text,
                "| `{}` | {} | {} | {from} | {} |",
                ready.id,
                ready.instance_type,
                ready.zone,
                human(ready.after)
            );
        }
        let times: Vec<String> = phases
            .iter()
            .map(|(phase, time)| format!("{phase} {}", human(*time)))
            .collect();
        let _ = writeln!(text, "\nWhere the time went: {}", times.join(", "));
        self.summarise(&text);
        self.say(format!("label: {label}"));
        for ready in machines {
            let from = if ready.reused { "reused" } else { "new" };
            self.say(format!(
                "  {} {} {from} {}",
                ready.id,
                ready.instance_type,
                human(ready.after)
            ));
        }
    }

    fn set(&self, outputs: &[(&str, String)]) {
        let Some(path) = &self.outputs else { return };
        let text: String = outputs
            .iter()
            .flat_map(|(name, value)| [name, "=", value, "\n"])
            .collect();
        append(path, &text);
    }

    fn summarise(&self, text: &str) {
        if let Some(path) = &self.summary {
            append(path, text);
        }
    }
}

/// An error and its causes, `a: b: c`.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        // Transparent errors, and the SDK's, say the same thing twice.
        if !text.ends_with(&cause_text) {
            let _ = write!(text, ": {cause_text}");
        }
        source = cause.source();
    }
    text
}

fn print(line: &str) {
    // A closed pipe must not take the roll-back down.
    let _ = writeln!(io::stdout().lock(), "{line}");
}

fn append(path: &Path, text: &str) {
    let written = OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()));
    if let Err(error) = written {
        tracing::warn!("cannot write {}: {error}", path.display());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot do this")]
    struct Outer(#[source] io::Error);

    #[test]
    fn a_chain_has_each_cause_once() {
        assert_eq!(
            chain(&Outer(io::Error::other("full"))),
            "cannot do this: full"
        );
    }
}
