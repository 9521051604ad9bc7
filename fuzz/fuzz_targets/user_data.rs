//! What a machine finds as its user data: read or refused, and what is read is written back as it
//! was.
#![no_main]

use std::{io::Write, sync::LazyLock};

use flate2::{Compression, write::GzEncoder};
use libfuzzer_sys::fuzz_target;
use proto::agent_config::AgentConfig;

const CONFIG: &str = r#"{"v":1,"pool":"p","table":"t","region":"r","githubUrl":"u"}"#;

/// The user data before and after its configuration.
static FRAME: LazyLock<(Vec<u8>, Vec<u8>)> = LazyLock::new(|| {
    let config: AgentConfig = serde_json::from_str(CONFIG).expect("a configuration");
    let json = serde_json::to_string(&config).expect("it has a form");
    let text = String::from_utf8(userdata::render(&config, None).expect("it fits")).expect("text");
    let (before, after) = text.split_once(&json).expect("it is in there");
    (before.into(), after.into())
});

fuzz_target!(|data: &[u8]| {
    check(data);
    let framed = [&FRAME.0, data, &FRAME.1].concat();
    check(&framed);
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(&framed).expect("in memory");
    let folded = userdata::parse(&gzip.finish().expect("in memory"));
    assert_eq!(folded.ok(), userdata::parse(&framed).ok());
});

fn check(user_data: &[u8]) {
    let Ok(config) = userdata::parse(user_data) else {
        return;
    };
    // What came in compressed may be too long to be written.
    if let Ok(written) = userdata::render(&config, None) {
        assert_eq!(userdata::parse(&written).expect("our own"), config);
    }
}
