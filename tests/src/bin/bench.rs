//! `cargo bench-pool`: how long provision and release take, and where the time goes.

use std::{
    io::Write,
    process::{Command, ExitCode},
    time::Duration,
};

use clap::Parser;
use tests::{
    bench::{PROFILE, Wrong, agent, race::Race, refresh, round, table},
    binaries::Binaries,
    yard::clock,
};

/// Measures Paddock's controller against the yard: zero boot, configure and deregistration times.
#[derive(Debug, Parser)]
struct Arguments {
    /// How often everything is measured.
    #[arg(long, default_value_t = 5)]
    repetitions: u32,
    /// Added to each AWS call, in milliseconds.
    #[arg(long, default_value_t = 20)]
    latency: u64,
    /// Instead: provisions that race for idle machines, once for enough and once for too few.
    #[arg(long)]
    contention: bool,
    /// Instead: refreshes of pools of 100, 1,000 and 5,000 records.
    #[arg(long)]
    refresh: bool,
    /// Instead: one agent, what it costs its machine and how soon it notices. Takes four minutes.
    #[arg(long)]
    agent: bool,
    /// The agent to measure, such as the static one [default: the one just built].
    #[arg(long)]
    agent_binary: Option<std::path::PathBuf>,
    /// How many provisions race.
    #[arg(long, default_value_t = 50)]
    provisions: u32,
}

fn line(text: &str) {
    // A closed pipe must not leave the yard's processes behind.
    let _ = writeln!(std::io::stdout(), "{text}");
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(wrong) => {
            line(&format!("no figures: {wrong}"));
            ExitCode::FAILURE
        }
    }
}

/// Whether all was as it must be. Figures that miss their target are no failure: they are figures.
async fn run(arguments: &Arguments) -> Result<bool, Wrong> {
    let binaries = Binaries::build()?;
    let latency = Duration::from_millis(arguments.latency);
    line(&format!(
        "{}, commit {}, {PROFILE} profile, {} processors, {} ms added to each AWS call\n",
        clock::now().strftime("%Y-%m-%d"),
        commit(),
        std::thread::available_parallelism()?,
        // The agent is alone with its table.
        if arguments.agent {
            0
        } else {
            arguments.latency
        },
    ));
    if arguments.agent {
        let program = arguments.agent_binary.as_ref().unwrap_or(&binaries.agent);
        line(&agent::play(program).await?);
        return Ok(true);
    }
    if arguments.refresh {
        line(&refresh::play(&binaries, latency).await?);
        return Ok(true);
    }
    if arguments.contention {
        return contend(&binaries, latency, arguments.provisions).await;
    }
    let mut samples = Vec::new();
    for repetition in 1..=arguments.repetitions {
        eprintln!("repetition {repetition} of {}", arguments.repetitions);
        samples.extend(round::play(&binaries, latency).await?);
    }
    line(&table::render(&samples));
    Ok(true)
}

async fn contend(binaries: &Binaries, latency: Duration, provisions: u32) -> Result<bool, Wrong> {
    let mut well = true;
    for race in [Race::for_all(provisions), Race::for_too_few(provisions)] {
        let finish = race.run(binaries, latency).await?;
        line(&format!("- {finish}"));
        for wrong in finish.wrongs() {
            line(&format!("  - **wrong**: {wrong}"));
            well = false;
        }
    }
    Ok(well)
}

/// What was measured, as git calls it; with a `+` when files differ from that.
fn commit() -> String {
    let git = |arguments: &[&str]| {
        let output = Command::new("git")
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .args(arguments)
            .output();
        let text = output.map(|output| output.stdout).unwrap_or_default();
        String::from_utf8_lossy(&text).trim().to_owned()
    };
    let differs = !git(&["status", "--porcelain"]).is_empty();
    git(&["rev-parse", "--short", "HEAD"]) + if differs { "+" } else { "" }
}
