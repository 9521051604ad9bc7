//! What Paddock's launch template carries as user data: one text for both kinds of image.
//!
//! The text is a POSIX shell script that holds the agent's configuration, one line of JSON between
//! two marker lines.
//!
//! | image | who reads it | what happens |
//! |---|---|---|
//! | baked (agent inside) | the agent, from the metadata service | [`parse`] takes the JSON out of it; the script itself finds the agent there and does nothing |
//! | bare | cloud-init | the script fetches the agent, checks and starts it; then as above |
//!
//! EC2 takes at most [`LONGEST`] bytes: a longer text is compressed, which cloud-init and
//! [`parse`] understand.

use std::io::{self, Read, Write};

use flate2::{Compression, read::GzDecoder, write::GzEncoder};
use proto::agent_config::{AgentConfig, Downloads};

mod script;

/// Bytes of user data that EC2 takes, before base64.
pub const LONGEST: usize = 16 * 1024;

/// Bytes that compressed user data may unfold to. Far more than a script needs; it keeps a hostile
/// archive from filling the memory.
const LONGEST_UNFOLDED: u64 = 4 * 1024 * 1024;

/// The version of [`AgentConfig`] that this program reads.
const VERSION: u8 = 1;

/// The first two bytes of gzip.
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// The configuration does not fit into user data.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the user data has {plain} bytes, {compressed} compressed, and EC2 takes {LONGEST}: shorten the \
     pre-runner script, for instance by letting it fetch its larger part"
)]
pub struct TooLong {
    /// Bytes as they are.
    pub plain: usize,
    /// Bytes compressed.
    pub compressed: usize,
}

/// The user data holds no configuration that this agent can use.
#[derive(Debug, thiserror::Error)]
pub enum InvalidUserData {
    /// It is not Paddock's.
    #[error("the user data carries no Paddock configuration: this machine belongs to no pool")]
    Foreign,
    /// It ends before the configuration does.
    #[error("the user data's configuration has no end: it was cut; run `controller refresh`")]
    Cut,
    /// It looks compressed and cannot be unfolded.
    #[error("the user data is compressed and cannot be unfolded; run `controller refresh`")]
    Compression(#[source] io::Error),
    /// It is no text.
    #[error("the user data's configuration is no UTF-8 text; run `controller refresh`")]
    Text(#[source] std::str::Utf8Error),
    /// The JSON is not what the agent expects.
    #[error(
        "the user data's configuration cannot be read: let agent and controller be of one release"
    )]
    Json(#[source] serde_json::Error),
    /// It was made for another agent.
    #[error(
        "the user data's configuration has version {found}, this agent reads {VERSION}: let agent \
         and controller be of one release"
    )]
    Version {
        /// The version found.
        found: u8,
    },
}

/// The user data for a configuration, before base64. `agent` is where a bare image gets its agent
/// from; without it such an image can only say that it has none.
///
/// # Errors
///
/// [`TooLong`] when it does not fit, not even compressed.
pub fn render(config: &AgentConfig, agent: Option<&Downloads>) -> Result<Vec<u8>, TooLong> {
    // A configuration is strings and numbers, which JSON always has a form for.
    let json = serde_json::to_string(config).unwrap_or_default();
    let plain = script::text(&json, agent).into_bytes();
    if plain.len() <= LONGEST {
        return Ok(plain);
    }
    let compressed = compress(&plain).unwrap_or_else(|_| plain.clone());
    if compressed.len() <= LONGEST {
        Ok(compressed)
    } else {
        Err(TooLong {
            plain: plain.len(),
            compressed: compressed.len(),
        })
    }
}

/// The configuration in a machine's user data.
///
/// # Errors
///
/// [`InvalidUserData`] says what is wrong with it.
pub fn parse(user_data: &[u8]) -> Result<AgentConfig, InvalidUserData> {
    let unfolded;
    let text = if user_data.starts_with(&GZIP) {
        unfolded = unfold(user_data).map_err(InvalidUserData::Compression)?;
        unfolded.as_slice()
    } else {
        user_data
    };
    let mut lines = text.split(|byte| *byte == b'\n');
    if !lines.any(|line| line == script::BEGIN.as_bytes()) {
        return Err(InvalidUserData::Foreign);
    }
    let json = lines.next().ok_or(InvalidUserData::Cut)?;
    if !lines.any(|line| line == script::END.as_bytes()) {
        return Err(InvalidUserData::Cut);
    }
    let json = std::str::from_utf8(json).map_err(InvalidUserData::Text)?;
    let config: AgentConfig = serde_json::from_str(json).map_err(InvalidUserData::Json)?;
    if config.v == VERSION {
        Ok(config)
    } else {
        Err(InvalidUserData::Version { found: config.v })
    }
}

fn compress(plain: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(plain)?;
    encoder.finish()
}

fn unfold(compressed: &[u8]) -> io::Result<Vec<u8>> {
    let mut plain = Vec::new();
    GzDecoder::new(compressed)
        .take(LONGEST_UNFOLDED)
        .read_to_end(&mut plain)?;
    Ok(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(script: Option<&str>) -> AgentConfig {
        let text = r#"{"v":1,"pool":"p","table":"t","region":"r","githubUrl":"u"}"#;
        AgentConfig {
            pre_runner_script: script.map(str::to_owned),
            ..serde_json::from_str(text).unwrap()
        }
    }

    /// Text that no compression shortens much.
    fn noise(length: usize) -> String {
        let mut state = 1_u64;
        (0..length)
            .map(|_| {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                char::from(b'!' + u8::try_from((state >> 33) % 90).unwrap())
            })
            .collect()
    }

    #[test]
    fn what_is_rendered_is_parsed() {
        let hostile = format!(
            "echo 'a' \"b\" $HOME `id` \\\n{}\n{}\r\nrm -rf /\n{}",
            script::END,
            script::BEGIN,
            script::END
        );
        for script in [None, Some("true"), Some(hostile.as_str())] {
            let config = config(script);
            assert_eq!(parse(&render(&config, None).unwrap()).unwrap(), config);
        }
    }

    #[test]
    fn a_long_script_is_compressed() {
        let config = config(Some(&"echo hello\n".repeat(5000)));
        let rendered = render(&config, None).unwrap();
        assert!(rendered.len() <= LONGEST && rendered.starts_with(&GZIP));
        assert_eq!(parse(&rendered).unwrap(), config);
    }

    #[test]
    fn what_does_not_fit_is_refused_with_both_sizes() {
        let error = render(&config(Some(&noise(40_000))), None).unwrap_err();
        assert!(error.plain > 40_000 && error.compressed > LONGEST);
        let text = error.to_string();
        for number in [error.plain, error.compressed, LONGEST] {
            assert!(text.contains(&number.to_string()), "{text}");
        }
    }

    #[test]
    fn each_defect_has_its_name() {
        let good = String::from_utf8(render(&config(None), None).unwrap()).unwrap();
        assert!(matches!(
            parse(b"#!/bin/sh\ntrue\n"),
            Err(InvalidUserData::Foreign)
        ));
        let (head, _) = good.split_once(r#""githubUrl""#).unwrap();
        assert!(matches!(parse(head.as_bytes()), Err(InvalidUserData::Cut)));
        assert!(matches!(
            parse(good.replace(r#""pool""#, r#""pond""#).as_bytes()),
            Err(InvalidUserData::Json(_))
        ));
        assert!(matches!(
            parse(good.replace(r#""v":1"#, r#""v":2"#).as_bytes()),
            Err(InvalidUserData::Version { found: 2 })
        ));
        assert!(matches!(
            parse(&[0x1f, 0x8b, 1, 2]),
            Err(InvalidUserData::Compression(_))
        ));
    }
}
