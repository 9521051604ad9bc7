//! Answers of the metadata service: read or refused; who a machine says it is can be the key of its
//! record, and an end that is announced is an instant that the table can hold.
#![no_main]

use agent::imds::{read_identity, read_interruption};
use libfuzzer_sys::fuzz_target;
use proto::{
    ids::{Home, InstanceArn},
    time::Time,
};

fuzz_target!(|answer: &[u8]| {
    if let Ok(identity) = read_identity(answer) {
        let read = InstanceArn::try_from(identity.arn.to_string()).expect("its own ARN");
        assert_eq!(read, identity.arn);
        let home = Home::of_arn(identity.arn.as_str()).expect("its own ARN");
        assert_eq!(home.region, identity.region);
    }
    if let Ok(end) = read_interruption(answer) {
        let read: Time = end.to_string().parse().expect("its own text");
        assert_eq!(read, end);
    }
});
