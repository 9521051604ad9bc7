//! Where the agent's lines go: under systemd to the journal, each with the machine, the label and
//! the generation it was said in; else to standard error.
//!
//! ```text
//! journalctl -u paddock-agent LABEL=4711        # what one run's machine did for it
//! ```

use std::sync::OnceLock;

use proto::{ids::InstanceId, instance::InstanceRecord};
use tracing_journald::Layer;
use tracing_subscriber::{
    Registry,
    filter::{LevelFilter, Targets},
    layer::SubscriberExt,
    reload,
    util::SubscriberInitExt,
};

/// systemd sets it for programs whose output goes to the journal.
const TO_JOURNAL: &str = "JOURNAL_STREAM";
const IDENTIFIER: &str = "paddock-agent";

static JOURNAL: OnceLock<reload::Handle<Layer, Registry>> = OnceLock::new();

/// Sets up where the program's lines go.
pub(crate) fn begin() {
    let chosen = std::env::var("RUST_LOG").ok();
    let filter = chosen
        .and_then(|text| text.parse::<Targets>().ok())
        .unwrap_or_else(|| {
            Targets::new()
                .with_default(LevelFilter::INFO)
                .with_target("aws_config", LevelFilter::WARN)
                .with_target("aws_smithy_runtime", LevelFilter::WARN)
        });
    let journal = std::env::var_os(TO_JOURNAL).and_then(|_| layer(&[]));
    if let Some(journal) = journal {
        let (layer, handle) = reload::Layer::new(journal);
        let _ = JOURNAL.set(handle);
        tracing_subscriber::registry()
            .with(layer)
            .with(filter)
            .init();
    } else {
        let lines = tracing_subscriber::fmt::layer()
            .with_writer(std::io::stderr)
            .with_ansi(false)
            .with_target(false);
        tracing_subscriber::registry()
            .with(lines)
            .with(filter)
            .init();
    }
}

/// Whose machine this is, as every line in the journal tells it.
#[derive(Debug)]
pub(crate) struct Names {
    instance: InstanceId,
    told: (String, String),
}

impl Names {
    /// From now on every line carries the machine.
    pub(crate) fn new(instance: &InstanceId) -> Self {
        let names = Self {
            instance: instance.clone(),
            told: Default::default(),
        };
        names.tell();
        names
    }

    /// From now on every line carries what this record says.
    pub(crate) fn see(&mut self, record: Option<&InstanceRecord>) {
        let label = record.and_then(|record| record.label.as_ref());
        let now = (
            label.map(ToString::to_string).unwrap_or_default(),
            record.map_or(String::new(), |record| record.generation.to_string()),
        );
        if now != self.told {
            self.told = now;
            self.tell();
        }
    }

    fn tell(&self) {
        let Some(journal) = JOURNAL.get() else {
            return;
        };
        let (label, generation) = &self.told;
        let fields = [
            ("INSTANCE", self.instance.as_str()),
            ("LABEL", label),
            ("GENERATION", generation),
        ];
        if let Some(layer) = layer(&fields) {
            // Fails when the program is about to end.
            let _ = journal.reload(layer);
        }
    }
}

/// None when the journal cannot be reached.
fn layer(fields: &[(&str, &str)]) -> Option<Layer> {
    let layer = Layer::new().ok()?;
    Some(
        layer
            .with_syslog_identifier(IDENTIFIER.to_owned())
            .with_custom_fields(fields.iter().map(|(name, text)| (*name, text))),
    )
}
