//! The yard's AWS alone, on a port of its own, for conformance probes and for
//! looking at it with the usual tools.

use std::time::Duration;

use clap::Parser;
use tests::yard::aws::{Aws, MachineEvent, Settings};
use tokio::sync::mpsc;

/// How long a pretended machine takes to boot.
const BOOT: Duration = Duration::from_millis(300);

#[derive(Parser)]
#[command(name = "yard-aws", about = "Serves the yard's AWS on a loopback port")]
struct Arguments {
    /// The port; 0 takes a free one.
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Forward everything to this other stand-in for AWS.
    #[arg(long)]
    upstream: Option<String>,
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();
    let arguments = Arguments::parse();
    let settings = Settings {
        port: arguments.port,
        upstream: arguments.upstream,
        ..Settings::default()
    };
    let (events, mut machines) = mpsc::unbounded_channel();
    let aws = Aws::start(settings, events).await?;
    println!("{}", aws.url());
    loop {
        tokio::select! {
            event = machines.recv() => match event {
                Some(event) => pretend(&aws, event),
                None => break,
            },
            interrupted = tokio::signal::ctrl_c() => {
                interrupted?;
                break;
            }
        }
    }
    aws.stop().await;
    Ok(())
}

/// A machine that boots and dies as told.
fn pretend(aws: &Aws, event: MachineEvent) {
    let aws = aws.clone();
    match event {
        MachineEvent::Launched(launch) => {
            tracing::info!(id = launch.id, "launched");
            tokio::spawn(async move {
                tokio::time::sleep(BOOT).await;
                aws.machine_running(&launch.id);
            });
        }
        MachineEvent::Terminated { id } => {
            tracing::info!(id, "terminated");
            aws.machine_stopped(&id);
        }
    }
}
