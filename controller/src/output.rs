//! What people and later steps see: the step's log, its outputs, its summary.

mod answer;
pub mod harmless;
mod masks;
mod summary;

use std::{
    error::Error,
    fmt::{Display, Write as _},
    fs::OpenOptions,
    io::{self, Write as _},
    path::{Path, PathBuf},
    pin::pin,
};

pub use self::masks::Masks;
pub(crate) use self::summary::count;
use proto::time::human;
use serde_json::{Value, json};

use crate::{
    backoff::PROGRESS, exit::Exit, provision::Provisioned, refresh::Report, release::GivenBack,
    status::Status,
};

/// The step's log and GitHub's files.
#[derive(Default)]
pub struct Console {
    outputs: Option<PathBuf>,
    summary: Option<PathBuf>,
    json: bool,
    listener: Option<Listener>,
}

/// Who takes the lines of the log in the place of stdout.
type Listener = Box<dyn Fn(&str) + Send + Sync>;

/// A step that failed, as it is told.
#[derive(Debug)]
pub struct Trouble<'a> {
    /// The error; its causes follow from it.
    pub error: &'a (dyn Error + 'static),
    /// What to change, unless the error says so.
    pub remedy: Option<String>,
    /// What is left for refresh.
    pub left: &'a [String],
    /// What refresh did all the same, if it was refresh.
    pub refresh: Option<&'a Report>,
    /// How the command ended.
    pub exit: Exit,
}

impl Trouble<'_> {
    /// All of it: the error, what is left, what to do, each on lines of its own.
    fn text(&self) -> String {
        let mut text = harmless::harmless(&chain(self.error));
        if !self.left.is_empty() {
            let left = harmless::harmless(&self.left.join("; "));
            let _ = write!(text, "\nleft for refresh: {left}");
        }
        if let Some(remedy) = &self.remedy {
            let _ = write!(text, "\nwhat to do: {remedy}");
        }
        text
    }
}

impl Console {
    /// With the files that `GITHUB_OUTPUT` and `GITHUB_STEP_SUMMARY` name, where given. With
    /// `json`, stdout takes one JSON object, and the log goes to stderr.
    pub fn new(outputs: Option<&str>, summary: Option<&str>, json: bool) -> Self {
        let path = |text: Option<&str>| text.filter(|text| !text.is_empty()).map(PathBuf::from);
        Self {
            outputs: path(outputs),
            summary: path(summary),
            json,
            listener: None,
        }
    }

    /// A log whose lines go to `listener` alone: for whoever runs a command as a part of a larger
    /// program, as the simulation does.
    pub fn heard_by(listener: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Self {
            listener: Some(Box::new(listener)),
            ..Self::default()
        }
    }

    /// A line in the log, whatever it quotes.
    pub fn say(&self, line: impl Display) {
        self.print(harmless::harmless(&line.to_string()));
    }

    fn print(&self, line: impl Display) {
        if let Some(listener) = &self.listener {
            return listener(&line.to_string());
        }
        // A closed pipe must not take the roll-back down.
        let _ = if self.json {
            writeln!(io::stderr().lock(), "{line}")
        } else {
            writeln!(io::stdout().lock(), "{line}")
        };
    }

    /// A line that GitHub acts upon; nobody else wants to see it.
    fn command(&self, line: impl Display) {
        if self.outputs.is_some() {
            self.print(line);
        }
    }

    /// Where to tell of secrets.
    pub fn masks(&self) -> Masks {
        match (&self.outputs, self.json) {
            (None, _) => Masks::Off,
            (Some(_), false) => Masks::Stdout,
            (Some(_), true) => Masks::Stderr,
        }
    }

    /// The lines that follow are details, which GitHub folds.
    pub fn group(&self, title: &str) {
        self.command(format_args!("::group::{title}"));
    }

    /// The end of the details.
    pub fn end_group(&self) {
        self.command("::endgroup::");
    }

    /// Does something that may take long, and says every ten seconds what is being waited for.
    pub async fn while_waiting<T>(&self, what: &str, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        loop {
            match tokio::time::timeout(PROGRESS, &mut work).await {
                Ok(done) => return done,
                Err(_) => self.say(format_args!("waiting for {what}")),
            }
        }
    }

    /// An annotation that fails nothing.
    pub fn warn(&self, text: impl Display) {
        let text = harmless::harmless(&text.to_string());
        if self.outputs.is_some() {
            self.command(format_args!("::warning title=Paddock::{}", one_line(&text)));
        } else {
            let _ = writeln!(io::stderr(), "warning: {text}");
        }
    }

    /// The one annotation of a step that failed: the error with its causes, and what to do.
    pub fn fail(&self, trouble: &Trouble<'_>) {
        let text = trouble.text();
        if self.outputs.is_some() {
            self.command(format_args!("::error title=Paddock::{}", one_line(&text)));
        } else {
            let _ = writeln!(io::stderr(), "error: {text}");
        }
        self.summarise(&summary::failure(trouble));
        self.answer(&answer::failure(trouble));
    }

    /// Outputs and summary of a provision.
    pub fn provisioned(&self, provisioned: &Provisioned) {
        let machines = &provisioned.machines;
        let (reused, created) = (provisioned.reused(), provisioned.created());
        let ids: Vec<&str> = machines.iter().map(|ready| ready.id.as_str()).collect();
        self.set(&[
            ("label", provisioned.label.to_string()),
            ("instance-ids", json!(ids).to_string()),
            ("reused", reused.to_string()),
            ("created", created.to_string()),
            ("seconds", format!("{:.2}", provisioned.took.as_secs_f64())),
        ]);
        self.summarise(&summary::success(provisioned));
        self.say(format_args!(
            "label {}: {} ready in {} ({reused} reused, {created} new)",
            provisioned.label,
            count(machines.len()),
            human(provisioned.took),
        ));
        let times: Vec<String> = provisioned
            .phases
            .iter()
            .map(|(phase, time)| format!("{phase} {}", human(*time)))
            .collect();
        if !times.is_empty() {
            self.say(format_args!("where the time went: {}", times.join(", ")));
        }
        self.answer(&answer::provisioned(provisioned));
    }

    /// The end of a release.
    pub fn released(&self, given: &GivenBack) {
        if given.is_empty() {
            self.say("nothing to release: this run has no machines here");
        } else {
            self.say(format_args!(
                "{} back in the pool, {} terminated, {} gone already",
                given.pooled.len(),
                given.terminated.len(),
                given.gone.len()
            ));
            self.summarise(&summary::released(given));
        }
        self.answer(&answer::released(given));
    }

    /// The end of a refresh; the answer of one that failed comes with its error.
    pub fn refreshed(&self, report: &Report) {
        for (step, error) in &report.failed {
            self.say(format_args!("failed: {step}: {}", chain(error.as_ref())));
        }
        if report.failed.is_empty() {
            self.answer(&answer::refreshed(report));
        }
    }

    /// A look at the pool: `text` as it is, or the JSON in its place.
    pub fn status(&self, status: &Status, text: &str) {
        if self.json {
            self.answer(&json!(status));
        } else {
            self.show(text);
        }
    }

    /// A text that was made fit for a terminal where it was made, on stdout.
    pub fn show(&self, text: &str) {
        let _ = io::stdout().lock().write_all(text.as_bytes());
    }

    /// The one JSON object on stdout, if that is what is wanted.
    fn answer(&self, value: &Value) {
        if self.json {
            // GitHub acts upon `##[` anywhere in a line; the escaped one is the same JSON.
            let text = value.to_string().replace("##[", "#\\u0023[");
            let _ = writeln!(io::stdout().lock(), "{text}");
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

/// As an annotation has it: GitHub reads one line, and `%0A` is its line break.
fn one_line(text: &str) -> String {
    text.replace('%', "%25")
        .replace('\r', "%0D")
        .replace('\n', "%0A")
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
