//! Paddock's daemon on each machine.
//!
//! It boots the machine, keeps its record in the pool's table fresh, and registers and
//! deregisters the runner as that record says.
//!
//! ```text
//!   metadata ──▶ start ──▶ run ◀──Event── effects ──▶ table, host, power
//!                           │               ▲
//!                           └─▶ machine ─Effect┘
//! ```
//!
//! Read in this order: [`machine`] (every decision, without I/O), [`run`] (the one loop),
//! `effects`, [`ports`] (what the agent needs of the world), then who provides it: [`host`] with
//! `boot`, `runner`, `listen` and `clean`; [`imds`], which `watch` asks; [`power`]. [`status`] is for
//! people.

mod account;
mod apart;
mod boot;
mod cage;
mod clean;
pub mod cli;
mod command;
mod contact;
mod discover;
mod docker;
mod drain;
mod effects;
mod examine;
mod fence;
mod fetch;
mod files;
mod folder;
mod home;
mod hooks;
pub mod host;
pub mod imds;
mod journal;
mod keyring;
mod later;
mod lines;
mod listen;
pub mod listener;
pub mod machine;
mod manifest;
mod mounts;
pub mod ports;
pub mod power;
mod process;
mod protect;
mod registration;
pub mod run;
mod runner;
mod saved;
pub mod start;
pub mod status;
mod supervisor;
mod watch;
