//! What the runner prints, and its copy in `_diag`.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};

use crate::home::Home;
use tests::yard::clock;

/// Standard output and the diagnostic log.
pub(crate) struct Terminal {
    diagnostics: File,
}

impl Terminal {
    pub(crate) fn open(home: &Home) -> io::Result<Self> {
        let folder = home.path("_diag");
        fs::create_dir_all(&folder)?;
        let name = format!("Runner_{}-utc.log", clock::now().strftime("%Y%m%d-%H%M%S"));
        let diagnostics = OpenOptions::new()
            .append(true)
            .create(true)
            .open(folder.join(name))?;
        Ok(Self { diagnostics })
    }

    /// A line as it is.
    pub(crate) fn line(&self, text: &str) {
        self.write(&mut io::stdout().lock(), "INFO", text);
    }

    /// A line with the time in front.
    pub(crate) fn event(&self, text: &str) {
        self.line(&format!(
            "{}: {text}",
            clock::now().strftime("%Y-%m-%d %H:%M:%SZ")
        ));
    }

    pub(crate) fn error(&self, text: &str) {
        self.write(&mut io::stderr().lock(), "ERR ", text);
    }

    /// A closed terminal is no reason to drop a job, so failing to print is not an error.
    fn write(&self, stream: &mut impl Write, level: &str, text: &str) {
        let _ = writeln!(stream, "{text}").and_then(|()| stream.flush());
        let time = clock::now().strftime("%Y-%m-%d %H:%M:%SZ");
        let _ = writeln!(
            &self.diagnostics,
            "[{time} {level} Terminal] WRITE LINE: {text}"
        );
    }
}
