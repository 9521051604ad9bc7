//! `remove`: deregisters, then deletes the files.

use std::io;

use reqwest::StatusCode;
use tests::yard::github::wire::Remove;

use crate::configure::simulated;
use crate::exit::Exit;
use crate::home::{Home, Registration};
use crate::inputs::Inputs;
use crate::server::{Address, Failure, Server};
use crate::terminal::Terminal;

pub(crate) async fn remove(home: &Home, terminal: &Terminal, inputs: &Inputs) -> io::Result<Exit> {
    terminal.line("\n# Runner removal\n");
    if home.path(".service").exists() {
        terminal.error("Uninstall service first");
        return Ok(Exit::Terminated);
    }
    if !inputs.flag("local")
        && let Some(registration) = home.registration()?
    {
        let Some(token) = inputs.option("token") else {
            terminal.error(
                "Invalid configuration provided for token. Terminating unattended configuration.",
            );
            return Ok(Exit::Terminated);
        };
        simulated("PADDOCK_YARD_REMOVE_MS").await;
        match deregister(&registration, token).await {
            Ok(()) => terminal.line("√ Runner removed successfully"),
            Err(failure) if failure.is(StatusCode::NOT_FOUND) => {
                terminal.line("Does not exist. Skipping Removing runner from the server");
            }
            Err(failure) => {
                terminal.error(&format!(
                    "Failed: Removing runner from the server\n{failure}"
                ));
                return Ok(Exit::Terminated);
            }
        }
    }
    for file in home.forget()? {
        terminal.line(&format!("√ Removed {file}"));
    }
    Ok(Exit::Success)
}

async fn deregister(registration: &Registration, token: &str) -> Result<(), Failure> {
    let address = Address::parse(&registration.git_hub_url)
        .ok_or_else(|| Failure::Trouble("the configured URL is none".to_owned()))?;
    let request = Remove {
        scope: address.scope,
        token: token.to_owned(),
        runner_id: registration.agent_id,
    };
    Server::new(&address.host)?.remove(&request).await
}
