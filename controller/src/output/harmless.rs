//! Text from elsewhere, made fit for a step's log.
//!
//! GitHub acts upon `::command::` at the start of a line and upon `##[command]` anywhere, on
//! stdout and on stderr. What a script printed, a job is called or a record says must not be able
//! to speak to it: only [`super::Console`] may.

use std::io::{self, Write};

/// The text without control characters, each further line set off, no line a command.
pub(super) fn harmless(text: &str) -> String {
    text.trim_end_matches('\n')
        .split('\n')
        .enumerate()
        .map(|(number, line)| {
            let line: String = line.chars().filter(|c| !c.is_control()).collect();
            let line = line.replace("##[", "## [");
            let is_command = line.trim_start().starts_with("::");
            if number > 0 || is_command {
                format!("  | {line}")
            } else {
                line
            }
        })
        .collect::<Vec<_>>()
        .join("\n")
}

/// Stderr for log lines: each event comes as one write.
#[derive(Debug)]
pub struct HarmlessStderr;

impl Write for HarmlessStderr {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        writeln!(
            io::stderr().lock(),
            "{}",
            harmless(&String::from_utf8_lossy(event))
        )?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ordinary_line_stays_as_it_is() {
        assert_eq!(
            harmless("i-1 reused (c5.large) :: 2 vCPU"),
            "i-1 reused (c5.large) :: 2 vCPU"
        );
    }

    #[test]
    fn nothing_in_it_is_a_command() {
        let hostile =
            "line 1\n::error::pwned\r\n  ::set-output name=label::evil\n::stop-commands::x";
        for line in harmless(hostile).lines() {
            assert!(!line.trim_start().starts_with("::"), "{line:?}");
        }
        assert_eq!(harmless("::add-mask::a"), "  | ::add-mask::a");
        assert_eq!(harmless("see ##[error]this"), "see ## [error]this");
        assert_eq!(harmless("\u{1b}[2Jgone\u{7}"), "[2Jgone");
    }
}
