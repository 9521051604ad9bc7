//! What programs print, jobs are called and GitHub answers is foreign text: it must not steer the
//! terminal of whoever reads it.

/// Characters of a name or of a short cause that are kept.
const LONGEST_NAME: usize = 200;

/// Without control characters, line ends aside.
pub(crate) fn printable(text: &str) -> String {
    text.chars()
        .filter(|letter| *letter == '\n' || !letter.is_control())
        .collect()
}

/// A name on one line, of bearable length.
pub(super) fn name(text: &str) -> String {
    text.chars()
        .filter(|letter| !letter.is_control())
        .take(LONGEST_NAME)
        .collect()
}

/// Enough of a cause for a field that is written with every change of health.
pub(super) fn first_line(text: &str) -> String {
    name(text.lines().next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_text_steers_no_terminal() {
        let hostile = "\u{1b}]0;owned\u{7}build\r\nnext";
        assert_eq!(printable(hostile), "]0;ownedbuild\nnext");
        assert_eq!(name(hostile), "]0;ownedbuildnext");
        assert_eq!(first_line(hostile), "]0;ownedbuild");
        assert_eq!(name(&"ä".repeat(300)).chars().count(), 200);
    }
}
