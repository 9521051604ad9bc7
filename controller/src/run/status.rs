//! Status: inputs → the table → a table for people, or JSON.

use std::{
    env,
    io::{self, IsTerminal},
    time::Duration,
};

use proto::{
    config::{Config, Parameters, ResourceClass},
    table::{TableError, TableErrorKind},
};

use super::{RunError, cancelled_by_signals, open_pool};
use crate::{
    exit::Exit,
    inputs::StatusInputs,
    output::{Console, chain},
    settings::{BadInput, Common},
    status::{Known, Status, prices::Prices, table},
    world::World,
};

/// Between two looks of `--watch`.
const PAUSE: Duration = Duration::from_secs(2);
/// How old the last beat of a healthy machine may be, where refresh has not said it.
const HEALTHY_WITHIN: Duration = Duration::from_secs(15);
/// Clears a terminal and goes to its first line.
const CLEAR: &str = "\u{1b}[2J\u{1b}[H";

pub(super) async fn run(inputs: &StatusInputs, console: &Console) -> Result<Exit, RunError> {
    let common = Common::new(&inputs.common)?;
    let prices = inputs.price_file.as_deref().map(read_prices).transpose()?;
    let terminal = io::stdout().is_terminal();
    let no_colour = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let (world, config) = open_pool(&common, console).await?;
    let cancelled = cancelled_by_signals();
    loop {
        match look(&world, &config, prices.as_ref()).await {
            Ok(status) => {
                if inputs.watch && terminal && !inputs.json {
                    console.show(CLEAR);
                }
                console.status(&status, &table::text(&status, terminal && !no_colour));
            }
            // Whoever watches sees the next look.
            Err(error) if inputs.watch && error.kind == TableErrorKind::Unavailable => {
                console.warn(format_args!("{}; looking again", chain(&error)));
            }
            Err(error) => return Err(error.into()),
        }
        if !inputs.watch {
            return Ok(Exit::Done);
        }
        tokio::select! {
            () = tokio::time::sleep(PAUSE) => {}
            () = cancelled.cancelled() => return Ok(Exit::Done),
        }
    }
}

async fn look(
    world: &World,
    config: &Config,
    prices: Option<&Prices>,
) -> Result<Status, TableError> {
    let live = world.table.live().await?;
    let parameters = config.parameters.as_ref();
    let mut classes: Vec<&ResourceClass> = config.resource_classes.iter().collect();
    classes.sort_by_key(|class| (class.cpu, class.mmem));
    let known = Known {
        pool: &world.pool_name,
        github_url: config
            .schema
            .as_ref()
            .map_or("", |schema| &schema.github_url),
        classes: classes.iter().map(|class| &class.name).collect(),
        healthy_within: parameters.map_or(HEALTHY_WITHIN, Parameters::healthy_within),
    };
    Ok(Status::of(&known, live.instances, prices, world.now()))
}

fn read_prices(path: &str) -> Result<Prices, BadInput> {
    let bad = |wrong: String| BadInput {
        input: "price-file",
        wrong,
        allowed:
            "give a file such as {\"m6i.large\": {\"on-demand\": 0.096, \"spot\": 0.035}}, in \
                  USD an hour"
                .to_owned(),
    };
    let text = std::fs::read_to_string(path)
        .map_err(|error| bad(format!("`{path}` cannot be read ({error})")))?;
    Prices::parse(&text).map_err(|why| bad(format!("`{path}` is no price file ({why})")))
}
