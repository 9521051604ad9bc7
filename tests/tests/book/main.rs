//! What the book in `docs/`, the README and CONTRIBUTING say is so.
//!
//! `PADDOCK_UPDATE=1 cargo test --workspace --test book made_from` makes the parts anew that are made
//! from something else.

mod commands;
mod examples;
mod links;
mod pages;
mod reference;
mod workflows;
