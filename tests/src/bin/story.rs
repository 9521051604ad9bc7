//! `cargo story`: plays the demo's story on the AWS that `AWS_ENDPOINT_URL` names, with the
//! environment's region and credentials, in a pool of its own that it takes down in every case.

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use controller::output::chain;
use proto::time::human;
use tests::{anywhere, binaries::Binaries, story::Teller};
use tokio::signal::unix::{SignalKind, signal};

struct Lines(Instant);

impl Teller for Lines {
    fn chapter(&mut self, title: &str) {
        println!("\n{title}");
    }

    fn event(&mut self, text: &str, took: Option<Duration>) {
        let took = took.map_or_else(String::new, |took| format!(" ({})", human(took)));
        println!("  {:6.1}s  {text}{took}", self.0.elapsed().as_secs_f64());
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    if std::env::var_os("AWS_ENDPOINT_URL").is_none() {
        eprintln!(
            "AWS_ENDPOINT_URL is not set: name an emulator of AWS, such as http://127.0.0.1:4566; \
             for an account of AWS's own there is the workflow `account`"
        );
        return ExitCode::from(2);
    }
    let sdk = proto::aws::sdk_config(None).await;
    let mut teller = Lines(Instant::now());
    let played = match Binaries::build() {
        Ok(binaries) => anywhere::play(&sdk, &binaries, &mut teller, interrupted()).await,
        Err(error) => Err(error.into()),
    };
    match played {
        Ok(()) => {
            println!("\nAll as it must be.");
            ExitCode::SUCCESS
        }
        Err(wrong) => {
            eprintln!("\nnot as it must be: {}", chain(&*wrong));
            ExitCode::FAILURE
        }
    }
}

/// Ctrl-C, or a polite kill; the taking down is not cut short by a second one.
async fn interrupted() {
    let kinds = [SignalKind::interrupt(), SignalKind::terminate()];
    let [Ok(mut interrupt), Ok(mut terminate)] = kinds.map(signal) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}
