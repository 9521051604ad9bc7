//! A message from the queue: read or refused, and what is read is written back as it was.
#![no_main]

use libfuzzer_sys::fuzz_target;
use proto::message::PoolMessage;

fuzz_target!(|body: &str| {
    if let Ok(message) = PoolMessage::parse(body) {
        assert_eq!(message.v, proto::message::VERSION);
        let again = PoolMessage::parse(&message.body()).expect("our own");
        assert_eq!(again, message);
    }
});
