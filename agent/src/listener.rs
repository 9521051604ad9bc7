//! The listener's output, which tells what the runner is doing.
//!
//! It goes to a file, not to a pipe: so the listener does not depend on the agent, and the next
//! agent reads on where this one stopped.

use std::{io, path::Path};

use crate::{lines::Lines, machine::Said};

/// Reads what the listener says.
#[derive(Debug)]
pub struct Follow(Lines);

impl Follow {
    /// Reads the file from `offset` on, in bytes.
    ///
    /// # Errors
    ///
    /// When the file cannot be opened.
    pub fn open(path: &Path, offset: u64) -> io::Result<Self> {
        Lines::open(path, offset).map(Self)
    }

    /// What was said since the last time, each with the offset after it.
    ///
    /// # Errors
    ///
    /// When the file cannot be read.
    pub fn news(&mut self) -> io::Result<Vec<(Said, u64)>> {
        let lines = self.0.news()?;
        Ok(lines
            .into_iter()
            .filter_map(|(line, offset)| Some((understand(&line)?, offset)))
            .collect())
    }
}

/// What a line means: `2026-11-21 04:05:06Z: Running job: build`.
fn understand(line: &str) -> Option<Said> {
    let (stamp, text) = line.split_once("Z: ")?;
    if !is_time(stamp) {
        return None;
    }
    if text == "Listening for Jobs" {
        return Some(Said::Listening);
    }
    if let Some(name) = text.strip_prefix("Running job: ") {
        return Some(Said::JobStarted(name.to_owned()));
    }
    (text.starts_with("Job ") && text.contains(" completed with result: "))
        .then_some(Said::JobEnded)
}

/// Whether this is `2026-11-21 04:05:06`: only the listener itself says the time.
fn is_time(text: &str) -> bool {
    let shape = b"0000-00-00 00:00:00";
    text.len() == shape.len()
        && text
            .bytes()
            .zip(shape)
            .all(|(byte, like)| byte == *like || (*like == b'0' && byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn lines_are_understood() {
        let cases = [
            (
                "2026-11-21 04:05:06Z: Listening for Jobs",
                Some(Said::Listening),
            ),
            (
                "2026-11-21 04:05:06Z: Running job: build (a, Z: b)",
                Some(Said::JobStarted("build (a, Z: b)".into())),
            ),
            (
                "2026-11-21 04:05:06Z: Job build completed with result: Succeeded",
                Some(Said::JobEnded),
            ),
            ("√ Connected to GitHub", None),
            ("Listening for Jobs", None),
            ("x 2026-11-21 04:05:06Z: Listening for Jobs", None),
            ("2026-11-21 04:05:0aZ: Running job: x", None),
            ("Current runner version: '2.336.0'", None),
        ];
        for (line, said) in cases {
            assert_eq!(understand(line), said, "{line}");
        }
    }

    #[test]
    fn a_growing_file_is_read_by_whole_lines_and_can_be_taken_up_again() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let mut follow = Follow::open(file.path(), 0).unwrap();
        let time = "2026-11-21 04:05:06Z: ";
        write!(file, "{time}Listening for Jobs\n{time}Running jo").unwrap();
        assert_eq!(follow.news().unwrap(), [(Said::Listening, 41)]);
        writeln!(file, "b: x").unwrap();
        let started = Said::JobStarted("x".into());
        assert_eq!(follow.news().unwrap(), [(started.clone(), 78)]);
        let mut again = Follow::open(file.path(), 41).unwrap();
        assert_eq!(again.news().unwrap(), [(started, 78)]);
    }
}
