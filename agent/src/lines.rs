//! A growing file, read line by line.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    path::Path,
};

/// Bytes that are read at once: who writes faster is read in several goes.
const AT_ONCE: u64 = 1024 * 1024;
/// A line that is longer than this is taken in pieces.
const LONGEST: usize = 64 * 1024;

/// Where reading stopped.
#[derive(Debug)]
pub(crate) struct Lines {
    file: File,
    /// The end of the last whole line.
    offset: u64,
    rest: Vec<u8>,
}

impl Lines {
    /// Reads from `offset` on.
    pub(crate) fn open(path: &Path, offset: u64) -> io::Result<Self> {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(offset))?;
        Ok(Self {
            file,
            offset,
            rest: Vec::new(),
        })
    }

    /// The whole lines since the last time, each with the offset after it.
    pub(crate) fn news(&mut self) -> io::Result<Vec<(String, u64)>> {
        let mut news = Vec::new();
        while self.piece(&mut news)? {}
        Ok(news)
    }

    /// As [`Self::news`], but no more than can be read at once; answers whether there may be more.
    pub(crate) fn piece(&mut self, news: &mut Vec<(String, u64)>) -> io::Result<bool> {
        let read = (&mut self.file).take(AT_ONCE).read_to_end(&mut self.rest)?;
        let mut begin = 0;
        while let Some(length) = line_length(&self.rest[begin..]) {
            let line = &self.rest[begin..begin + length];
            begin += length;
            self.offset += length as u64;
            let text = String::from_utf8_lossy(line);
            news.push((text.trim_end_matches(['\r', '\n']).to_owned(), self.offset));
        }
        self.rest.drain(..begin);
        Ok(read as u64 == AT_ONCE)
    }
}

/// The first line's bytes, its end included, if it is whole.
fn line_length(bytes: &[u8]) -> Option<usize> {
    match bytes.iter().position(|byte| *byte == b'\n') {
        Some(end) => Some(end + 1),
        None => (bytes.len() >= LONGEST).then_some(LONGEST),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_growing_file_is_read_by_whole_lines_and_can_be_taken_up_again() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let mut lines = Lines::open(file.path(), 0).unwrap();
        write!(file, "one\r\ntw").unwrap();
        assert_eq!(lines.news().unwrap(), [("one".to_owned(), 5)]);
        writeln!(file, "o").unwrap();
        assert_eq!(lines.news().unwrap(), [("two".to_owned(), 9)]);
        assert_eq!(lines.news().unwrap(), []);
        let mut again = Lines::open(file.path(), 5).unwrap();
        assert_eq!(again.news().unwrap(), [("two".to_owned(), 9)]);
    }

    #[test]
    fn a_line_without_end_fills_no_memory() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let mut lines = Lines::open(file.path(), 0).unwrap();
        file.write_all(&vec![b'x'; 3 * 1024 * 1024 + 7]).unwrap();
        let news = lines.news().unwrap();
        assert!(news.iter().all(|(line, _)| line.len() == LONGEST));
        assert_eq!((news.len(), lines.rest.len()), (48, 7));
    }
}
