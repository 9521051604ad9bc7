//! The world that Paddock's end-to-end tests run in, and the stories that they play there.

pub mod anywhere;
pub mod bench;
pub mod binaries;
pub mod clients;
pub mod contract;
pub mod lone;
pub mod pool;
pub mod sim;
pub mod stand_in;
pub mod story;
pub mod tools;
pub mod truth;
pub mod workflow;
pub mod yard;
