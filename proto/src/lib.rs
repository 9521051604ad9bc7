//! What Paddock's two programs agree on.
//!
//! The `controller` (a step inside a workflow) and the `agent` (a daemon on each machine) never
//! talk to each other: they meet in one DynamoDB table. This crate is that meeting place.
//!
//! ```text
//!   controller ──claims, releases──▶ ┌──────────────┐ ◀──beats, signals── agent
//!        │                           │ InstanceRecord│                     ▲
//!        └──leases, sends──▶ SQS     └──────────────┘                      │
//!                        (PoolMessage)      launch template: AgentConfig ──┘
//! ```
//!
//! Read in this order: [`state`] (the five states and the one function that moves between them),
//! [`instance`] (the record), [`change`] (a conditional write as data), [`table`] (where it
//! is applied), [`provision`] (the journal of one provision), [`config`], [`message`].
//!
//! Nothing here reads a clock, draws a random number or decides when to act. The only I/O is in
//! [`table::dynamo`] and [`aws`].

pub mod agent_config;
pub mod aws;
pub mod change;
pub mod config;
pub mod ids;
pub mod instance;
pub mod message;
pub mod provision;
pub mod signal;
pub mod state;
pub mod table;
pub mod time;
