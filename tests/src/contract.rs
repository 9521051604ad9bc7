//! Suites that every form of a port has to pass: what one form does, all do.

pub mod table;
