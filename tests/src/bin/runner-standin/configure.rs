//! `configure`: registers the runner and writes its files.

use std::io;
use std::time::Duration;

use reqwest::StatusCode;
use tests::yard::github::wire::{RUNNER_VERSION, Register};

use crate::exit::Exit;
use crate::home::{Home, Registration};
use crate::inputs::Inputs;
use crate::server::{Address, Failure, Server};
use crate::terminal::Terminal;

const DEFAULT_LABELS: [&str; 3] = ["self-hosted", "Linux", "X64"];

/// Longest label that GitHub takes.
const LABEL_LIMIT: usize = 256;

pub(crate) async fn configure(
    home: &Home,
    terminal: &Terminal,
    inputs: &Inputs,
) -> io::Result<Exit> {
    if home.is_configured() {
        terminal.error(
            "Cannot configure the runner because it is already configured. To reconfigure the \
             runner, run 'config.cmd remove' or './config.sh remove' first.",
        );
        return Ok(Exit::Terminated);
    }
    let (register, address) = match request(inputs) {
        Ok(request) => request,
        Err(message) => {
            terminal.error(&message);
            return Ok(Exit::Terminated);
        }
    };
    simulated("PADDOCK_YARD_CONFIGURE_MS").await;
    terminal.line("\n# Authentication\n");
    let registered = match register_at(&address, &register).await {
        Ok(registered) => registered,
        Err(failure) if failure.is(StatusCode::CONFLICT) => {
            terminal.error(&format!(
                "A runner exists with the same name {}.",
                register.name
            ));
            return Ok(Exit::Terminated);
        }
        Err(failure) => {
            terminal.error(&failure.to_string());
            return Ok(Exit::Terminated);
        }
    };
    terminal.line("√ Connected to GitHub");
    terminal.line("\n# Runner Registration\n\n√ Runner successfully added");
    let registration = Registration {
        agent_id: registered.runner_id,
        agent_name: register.name.clone(),
        pool_id: 1,
        pool_name: inputs.option("runnergroup").unwrap_or("Default").to_owned(),
        ephemeral: register.ephemeral,
        disable_update: inputs.flag("disableupdate"),
        server_url: address.host.clone(),
        git_hub_url: format!("{}/{}", address.host, address.scope),
        work_folder: inputs.option("work").unwrap_or("_work").to_owned(),
    };
    home.save(&registration, &registered.credential)?;
    terminal.line("√ Runner connection is good");
    terminal.line("\n# Runner settings\n\n√ Settings Saved.\n");
    Ok(Exit::Success)
}

async fn register_at(
    address: &Address,
    register: &Register,
) -> Result<tests::yard::github::wire::Registered, Failure> {
    Server::new(&address.host)?.register(register).await
}

fn request(inputs: &Inputs) -> Result<(Register, Address), String> {
    let required = |name: &str| {
        inputs.option(name).ok_or_else(|| {
            format!(
                "Invalid configuration provided for {name}. Terminating unattended configuration."
            )
        })
    };
    let url = required("url")?;
    let address = Address::parse(url).ok_or_else(|| format!("Invalid URL '{url}'"))?;
    let own: Vec<String> = inputs
        .option("labels")
        .unwrap_or_default()
        .split(',')
        .map(|label| label.trim().to_owned())
        .filter(|label| !label.is_empty())
        .collect();
    if let Some(label) = own.iter().find(|label| label.len() > LABEL_LIMIT) {
        return Err(format!("Label '{label}' is too long"));
    }
    let mut labels = Vec::new();
    if !inputs.flag("no-default-labels") {
        labels.extend(DEFAULT_LABELS.map(str::to_owned));
    } else if own.is_empty() {
        return Err("'--no-default-labels' requires '--labels'".to_owned());
    }
    labels.extend(own);
    let register = Register {
        scope: address.scope.clone(),
        token: required("token")?.to_owned(),
        name: inputs.option("name").map_or_else(host_name, str::to_owned),
        labels,
        replace: inputs.flag("replace"),
        ephemeral: inputs.flag("ephemeral"),
        version: RUNNER_VERSION.to_owned(),
    };
    Ok((register, address))
}

fn host_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map_or_else(|_| "runner".to_owned(), |name| name.trim().to_owned())
}

/// Takes as long as the yard's setting says.
pub(crate) async fn simulated(variable: &str) {
    tokio::time::sleep(milliseconds(variable).unwrap_or_default()).await;
}

/// A duration from the environment.
pub(crate) fn milliseconds(variable: &str) -> Option<Duration> {
    let value = std::env::var(variable).ok()?.parse().ok()?;
    Some(Duration::from_millis(value))
}
