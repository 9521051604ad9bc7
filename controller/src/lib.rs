//! Paddock's control plane: a CLI that runs as a step inside workflows.
//!
//! `inputs → settings → run → provision | release | refresh`. The commands know the ports alone
//! ([`ports`] and `proto`'s table); [`run`] is the wiring that knows the adapters.

pub mod agent_status;
#[cfg(feature = "aws")]
pub mod aws;
pub mod backoff;
pub mod destroy;
pub mod doctor;
pub mod exit;
pub mod github;
pub mod inputs;
pub mod journal;
pub mod metrics;
pub mod output;
pub mod ports;
pub mod provision;
pub mod refresh;
pub mod release;
#[cfg(feature = "aws")]
pub mod run;
pub mod settings;
pub mod status;
pub mod world;
