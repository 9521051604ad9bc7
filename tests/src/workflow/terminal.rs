//! A terminal, at which somebody runs a command and answers what it asks.

use std::{
    fs::File,
    io::{self, Read, Write},
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use nix::{
    pty::openpty,
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::process::{Child, Command};

/// A terminal's end-of-file character, Ctrl-D.
const END_OF_INPUT: &str = "\u{4}";

/// A command at a real pseudo-terminal.
#[derive(Debug)]
pub struct Terminal {
    child: Child,
    keyboard: File,
    screen: Arc<Mutex<String>>,
    reader: thread::JoinHandle<()>,
}

impl Terminal {
    /// Starts a command with the terminal as its stdin, stdout and stderr.
    pub(super) fn start(mut command: Command) -> io::Result<Self> {
        let pty = openpty(None, None)?;
        let end = || pty.slave.try_clone();
        command.stdin(end()?).stdout(end()?).stderr(end()?);
        let child = command.spawn()?;
        // What reads to the end must not hold that end open itself.
        drop((command, pty.slave));
        let keyboard = File::from(pty.master);
        let mut output = keyboard.try_clone()?;
        let screen = Arc::<Mutex<String>>::default();
        let shown = screen.clone();
        let reader = thread::spawn(move || {
            let mut bytes = [0; 4096];
            // Once nobody has the terminal open, a read fails.
            while let Ok(count @ 1..) = output.read(&mut bytes) {
                let text = String::from_utf8_lossy(&bytes[..count]);
                let mut screen = shown.lock().unwrap_or_else(PoisonError::into_inner);
                screen.push_str(&text);
            }
        });
        Ok(Self {
            child,
            keyboard,
            screen,
            reader,
        })
    }

    /// What it shows so far.
    pub fn screen(&self) -> String {
        self.screen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Types a line.
    ///
    /// # Errors
    ///
    /// When the terminal is gone.
    pub fn type_line(&mut self, line: &str) -> io::Result<()> {
        self.keyboard.write_all(format!("{line}\n").as_bytes())
    }

    /// Ends the input.
    ///
    /// # Errors
    ///
    /// When the terminal is gone.
    pub fn end_input(&mut self) -> io::Result<()> {
        self.keyboard.write_all(END_OF_INPUT.as_bytes())
    }

    /// Interrupts the command, as Ctrl-C does.
    ///
    /// # Errors
    ///
    /// When it has ended already.
    pub fn interrupt(&self) -> io::Result<()> {
        let pid = self.child.id().ok_or(io::ErrorKind::NotFound)?;
        kill(Pid::from_raw(pid.cast_signed()), Signal::SIGINT)?;
        Ok(())
    }

    /// Waits for the command's end: its exit code, if it ended by itself, and all that was shown.
    ///
    /// # Errors
    ///
    /// When it cannot be waited for.
    pub async fn finish(mut self) -> io::Result<(Option<i32>, String)> {
        let status = self.child.wait().await?;
        // Its end of the terminal is closed with it.
        let read = tokio::task::spawn_blocking(|| self.reader.join()).await;
        read?.map_err(|_| io::Error::other("the screen could not be read"))?;
        let screen = self.screen.lock().unwrap_or_else(PoisonError::into_inner);
        Ok((status.code(), screen.clone()))
    }
}
