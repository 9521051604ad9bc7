//! The yard, held against what the real GitHub, runner and machines do.

mod github;
mod kit;
mod machines;
mod runner;
mod whole;
