//! From inputs to settings: what is allowed, and one clear line for what is not.

pub mod classes;
pub mod github;
mod idle;
pub mod refresh;
pub mod run;
mod scope;
pub mod source;

use std::fmt;

use proto::ids::{InstanceId, PoolName};

use crate::inputs::{AgentStatusInputs, CommonInputs};

/// An input that cannot be used. Nothing has been touched.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("input `{input}`: {wrong}; {allowed}")]
pub struct BadInput {
    /// The input's name, as in `action.yml`.
    pub input: &'static str,
    /// What was wrong.
    pub wrong: String,
    /// What is allowed.
    pub allowed: String,
}

impl BadInput {
    fn new(input: &'static str, wrong: impl Into<String>, allowed: impl fmt::Display) -> Self {
        Self {
            input,
            wrong: wrong.into(),
            allowed: allowed.to_string(),
        }
    }
}

/// What every mode needs to know.
#[derive(Clone, Debug)]
pub struct Common {
    /// The region to call.
    pub region: String,
    /// The pool.
    pub pool: PoolName,
}

impl Common {
    /// Checks what every mode takes.
    pub fn new(inputs: &CommonInputs) -> Result<Self, BadInput> {
        let region = given(inputs.aws_region.as_ref())
            .or_else(|| given(inputs.ambient_region.as_ref()))
            .or_else(|| given(inputs.ambient_default_region.as_ref()))
            .ok_or_else(|| {
                BadInput::new(
                    "aws-region",
                    "it is missing",
                    "give one such as eu-central-1, or set AWS_REGION",
                )
            })?;
        if !is_region(region) {
            let wrong = format!("`{region}` is no region");
            return Err(BadInput::new(
                "aws-region",
                wrong,
                "give one such as eu-central-1",
            ));
        }
        let allowed = "give letters, digits, `_` and `-`, at most 48 of them";
        let pool = match given(inputs.pool_name.as_ref()) {
            Some(name) => name.parse().map_err(|_| {
                BadInput::new("pool-name", format!("`{name}` is no pool name"), allowed)
            })?,
            None if given(inputs.github_repository.as_ref()).is_none() => {
                return Err(BadInput::new(
                    "pool-name",
                    "it is missing",
                    "give one, or set GITHUB_REPOSITORY to name the pool after the repository",
                ));
            }
            None => PoolName::default_of(&scope::scope(inputs)?.to_string())
                .map_err(|error| BadInput::new("pool-name", error.to_string(), allowed))?,
        };
        Ok(Self {
            region: region.to_owned(),
            pool,
        })
    }
}

/// Whether it looks like a region: `eu-central-1`, `us-gov-west-1`. One that there is not would only
/// be looked for in vain.
fn is_region(text: &str) -> bool {
    let mut parts = text.split('-').rev();
    let number = parts.next().unwrap_or_default();
    let words: Vec<&str> = parts.collect();
    let all = |part: &str, is: fn(&u8) -> bool| !part.is_empty() && part.bytes().all(|c| is(&c));
    all(number, u8::is_ascii_digit)
        && words.len() >= 2
        && words.iter().all(|word| all(word, u8::is_ascii_lowercase))
}

/// The machines that the input `instance` names, if it names any.
///
/// # Errors
///
/// When one of them cannot be a machine's id.
pub fn chosen_machines(inputs: &AgentStatusInputs) -> Result<Option<Vec<InstanceId>>, BadInput> {
    if given(inputs.instance.as_ref()).is_none() {
        return Ok(None);
    }
    let allowed = "give ids such as i-0123456789abcdef0, separated by spaces or commas";
    let valid = |id: &str| id.parse::<InstanceId>().is_ok();
    let ids = list("instance", inputs.instance.as_ref(), "", valid, allowed)?;
    Ok(Some(ids.iter().filter_map(|id| id.parse().ok()).collect()))
}

fn given(input: Option<&String>) -> Option<&str> {
    input
        .map(|text| text.trim())
        .filter(|text| !text.is_empty())
}

fn required<'a>(
    input: &'static str,
    text: Option<&'a String>,
    allowed: &str,
) -> Result<&'a str, BadInput> {
    given(text).ok_or_else(|| BadInput::new(input, "it is missing", allowed))
}

/// A whole number of units, from 1 up to `most`.
fn positive(
    input: &'static str,
    text: Option<&String>,
    default: u64,
    most: u64,
) -> Result<u64, BadInput> {
    let Some(text) = given(text) else {
        return Ok(default);
    };
    match text.parse::<u64>() {
        Ok(number) if (1..=most).contains(&number) => Ok(number),
        Ok(_) | Err(_) => Err(BadInput::new(
            input,
            format!("`{text}` is out of range or no number"),
            format!("give a whole number from 1 to {most}"),
        )),
    }
}

/// A yes or no, as workflows write it.
fn flag(input: &'static str, text: Option<&String>, default: bool) -> Result<bool, BadInput> {
    match given(text) {
        None => Ok(default),
        Some("true") => Ok(true),
        Some("false") => Ok(false),
        Some(text) => Err(BadInput::new(
            input,
            format!("`{text}` is neither"),
            "give true or false",
        )),
    }
}

/// A list separated by white space or commas, each item with `prefix`.
fn list(
    input: &'static str,
    text: Option<&String>,
    default: &str,
    valid: fn(&str) -> bool,
    allowed: &str,
) -> Result<Vec<String>, BadInput> {
    let items: Vec<String> = given(text)
        .unwrap_or(default)
        .split(|c: char| c.is_whitespace() || c == ',')
        .filter(|item| !item.is_empty())
        .map(str::to_owned)
        .collect();
    if items.is_empty() {
        return Err(BadInput::new(input, "it is empty", allowed));
    }
    match items.iter().find(|item| !valid(item)) {
        None => Ok(items),
        Some(odd) => Err(BadInput::new(
            input,
            format!("`{odd}` cannot be one"),
            allowed,
        )),
    }
}
