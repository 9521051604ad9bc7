//! `cargo demo`: the pool from its first refresh to its last machine, played before your eyes.

use std::{
    io::{IsTerminal, Write},
    process::ExitCode,
    time::{Duration, Instant},
};

use proto::time::human;
use tests::{
    binaries::Binaries,
    story::{self, Stage, Teller},
    yard::{Settings, Yard, kill_world},
};
use tokio::signal::unix::{SignalKind, signal};

/// A machine's boot in the demo; a real one takes 20 to 60 s.
const BOOT: Duration = Duration::from_secs(2);
/// `configure` and `remove` in the demo; the real ones take 2 to 6 s.
const REGISTRATION: Duration = Duration::from_secs(1);

struct Timeline {
    began: Instant,
    bold: bool,
}

impl Teller for Timeline {
    fn chapter(&mut self, title: &str) {
        let (on, off) = if self.bold {
            ("\x1b[1m", "\x1b[0m")
        } else {
            ("", "")
        };
        line(&format!("\n{on}{title}{off}"));
    }

    fn event(&mut self, text: &str, took: Option<Duration>) {
        let at = self.began.elapsed().as_secs_f64();
        let took = took.map_or_else(String::new, |took| format!("took {}", human(took)));
        line(&format!("  {at:6.1}s  {took:<12}  {text}"));
    }
}

fn line(text: &str) {
    // A closed pipe must not leave the yard's processes behind.
    let _ = writeln!(std::io::stdout(), "{text}");
}

#[tokio::main]
async fn main() -> ExitCode {
    line("Building controller, agent and the stand-in runner …");
    let binaries = match Binaries::build() {
        Ok(binaries) => binaries,
        Err(error) => {
            line(&format!("cannot build: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let settings = Settings {
        boot: BOOT,
        configure: REGISTRATION,
        deregister: REGISTRATION,
        ..Settings::new(&binaries.agent, &binaries.runner)
    };
    let yard = match Yard::start(settings).await {
        Ok(yard) => yard,
        Err(error) => {
            line(&format!("cannot start the yard: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let bold = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let mut timeline = Timeline {
        began: Instant::now(),
        bold,
    };
    line(&format!(
        "The yard plays AWS, GitHub and the machines on this computer (boot {}, registration {}).",
        human(BOOT),
        human(REGISTRATION)
    ));
    let world = yard.id().to_owned();
    let stage = Stage::new(&yard, &binaries, "subnet-0a subnet-0b");
    let played = tokio::select! {
        played = story::play(&stage, &mut timeline) => played,
        () = interrupted() => Err("interrupted".into()),
    };
    yard.stop().await;
    kill_world(&world);
    match played {
        Ok(()) => {
            line(&format!(
                "\nAll as it must be, in {}.",
                human(timeline.began.elapsed())
            ));
            ExitCode::SUCCESS
        }
        Err(wrong) => {
            line(&format!("\nNot as it must be: {wrong}"));
            ExitCode::FAILURE
        }
    }
}

/// Ctrl-C, or a polite kill.
async fn interrupted() {
    match (
        signal(SignalKind::interrupt()),
        signal(SignalKind::terminate()),
    ) {
        (Ok(mut interrupt), Ok(mut terminate)) => {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        }
        (Err(_), _) | (_, Err(_)) => std::future::pending().await,
    }
}
