//! The present. The yard plays the world outside of Paddock, and that has the real time.

use jiff::Timestamp;

/// The present instant.
#[expect(
    clippy::disallowed_methods,
    reason = "the yard is the world whose time the programs under test are handed"
)]
pub fn now() -> Timestamp {
    Timestamp::now()
}
