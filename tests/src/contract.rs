//! Suites that every form of a port has to pass: what one form does, all do. What a stand-in cannot
//! do is named as a [`promise::Gap`]; a gap that closes fails the suite, too.

pub mod fleet;
pub mod pool;
pub mod promise;
pub mod table;
