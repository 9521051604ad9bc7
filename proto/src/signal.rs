//! What the agent reports.

use serde::{Deserialize, Serialize};

use crate::time::Time;

/// What an agent says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Signal {
    /// Boot is done: the script ran and the runner program is there.
    #[serde(rename = "UD_OK")]
    Ok,
    /// Boot failed; the detail has the exit code and the script's last lines.
    #[serde(rename = "UD_FAILED")]
    Failed,
    /// The runner is registered under the record's label and listens for jobs.
    #[serde(rename = "UD_REG_OK")]
    RegOk,
    /// The runner could not be registered; the detail says why.
    #[serde(rename = "UD_REG_FAILED")]
    RegFailed,
    /// The runner is deregistered and the machine is clean.
    #[serde(rename = "UD_REMOVE_REG_OK")]
    RemoveRegOk,
    /// The runner could not be deregistered or the machine not be cleaned.
    #[serde(rename = "UD_REMOVE_REG_FAILED")]
    RemoveRegFailed,
    /// EC2 takes the machine away (spot).
    #[serde(rename = "UD_INTERRUPTED")]
    Interrupted,
}

/// A signal with what makes it fresh: a report counts only for the generation it names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// What is reported.
    pub signal: Signal,
    /// The generation of the record that the agent had seen when it began what it reports.
    pub generation: u64,
    /// When, by the machine's clock.
    pub at: Time,
    /// Cause of a failure, for people; at most [`Report::LONGEST_DETAIL`] bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

impl Report {
    /// Bytes of detail that keep the record well inside what a beat may cost.
    pub const LONGEST_DETAIL: usize = 2048;

    /// Bytes of the first line that are kept whatever follows.
    const LONGEST_FIRST_LINE: usize = 256;
    /// Stands for what was left out.
    const CUT: &str = "\n…\n";

    /// Keeps the first line, which says what failed and how, and the end of a detail that is too
    /// long: the cause stands in the last lines.
    pub fn cut_detail(detail: &str) -> String {
        if detail.len() <= Self::LONGEST_DETAIL {
            return detail.to_owned();
        }
        let first = detail.lines().next().unwrap_or_default();
        let mut to = first.len().min(Self::LONGEST_FIRST_LINE);
        while !detail.is_char_boundary(to) {
            to -= 1;
        }
        let mut from = detail.len() + to + Self::CUT.len() - Self::LONGEST_DETAIL;
        while !detail.is_char_boundary(from) {
            from += 1;
        }
        format!("{}{}{}", &detail[..to], Self::CUT, &detail[from..])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_the_names_of_the_protocol() {
        let names = [
            (Signal::Ok, "UD_OK"),
            (Signal::Failed, "UD_FAILED"),
            (Signal::RegOk, "UD_REG_OK"),
            (Signal::RegFailed, "UD_REG_FAILED"),
            (Signal::RemoveRegOk, "UD_REMOVE_REG_OK"),
            (Signal::RemoveRegFailed, "UD_REMOVE_REG_FAILED"),
            (Signal::Interrupted, "UD_INTERRUPTED"),
        ];
        for (signal, name) in names {
            assert_eq!(serde_json::to_value(signal).unwrap(), name);
        }
    }

    #[test]
    fn a_long_detail_keeps_its_first_line_and_its_end() {
        assert_eq!(Report::cut_detail("short"), "short");
        for middle in ["ä", "ab", "äöü\n"] {
            let detail = format!("ended with exit code 3\n{}the cause", middle.repeat(2000));
            let cut = Report::cut_detail(&detail);
            assert!(cut.len() <= Report::LONGEST_DETAIL, "{}", cut.len());
            assert!(cut.starts_with("ended with exit code 3\n…\n"), "{cut}");
            assert!(cut.ends_with("the cause"), "{cut}");
        }
        let one_line = Report::cut_detail(&"ä".repeat(5000));
        assert!(one_line.len() <= Report::LONGEST_DETAIL && one_line.contains('…'));
    }
}
