//! Where machines fetch the agent from.

use proto::agent_config::{Download, Downloads};

use crate::{
    inputs::RefreshInputs,
    settings::{BadInput, given},
};

/// Where an image without the agent fetches it, if it may.
pub(super) fn agent_download(inputs: &RefreshInputs) -> Result<Option<Downloads>, BadInput> {
    let (url, sums) = (
        given(inputs.agent_url.as_ref()),
        given(inputs.agent_sha256.as_ref()),
    );
    let (url, sums) = match (url, sums) {
        (None, None) => return Ok(None),
        (Some(url), Some(sums)) => (url, sums),
        (Some(_), None) => {
            return Err(BadInput::new(
                "agent-sha256",
                "it is missing",
                "agent-url needs it",
            ));
        }
        (None, Some(_)) => {
            return Err(BadInput::new(
                "agent-url",
                "it is missing",
                "agent-sha256 needs it",
            ));
        }
    };
    let is_address = url.starts_with("https://") || url.starts_with("http://");
    if !is_address || url.contains(|c: char| c.is_whitespace() || c == '\'') {
        let wrong = format!("`{url}` is no address");
        return Err(BadInput::new(
            "agent-url",
            wrong,
            "give one that starts with https://",
        ));
    }
    let is_sum = |sum: &str| sum.len() == 64 && sum.chars().all(|c| c.is_ascii_hexdigit());
    let download = |arch: &str, sum: &str| Download {
        url: url.replace("{arch}", arch),
        sha256: sum.to_ascii_lowercase(),
    };
    match sums.split_whitespace().collect::<Vec<_>>()[..] {
        [x86_64, aarch64] if is_sum(x86_64) && is_sum(aarch64) => Ok(Some(Downloads {
            x86_64: download("x86_64", x86_64),
            aarch64: download("aarch64", aarch64),
        })),
        _ => Err(BadInput::new(
            "agent-sha256",
            "is not two SHA-256 sums",
            "give those for x86_64 and for aarch64, 64 hexadecimal digits each",
        )),
    }
}
