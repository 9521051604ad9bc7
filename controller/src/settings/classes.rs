//! The resource classes: named sizes of machines.

use std::collections::BTreeMap;

use proto::ids::ClassName;
use serde::Deserialize;

use super::BadInput;
pub use crate::refresh::ClassSpec;

const INPUT: &str = "resource-class-config";
const FORM: &str = r#"give JSON such as {"large": {"cpu": 2, "mmem": 4096}}"#;

/// Name, vCPU and minimum MiB of the classes that a pool has by default.
const DEFAULTS: [(&str, u32, u32); 7] = [
    ("large", 2, 4_096),
    ("xlarge", 4, 8_192),
    ("2xlarge", 8, 16_384),
    ("4xlarge", 16, 32_768),
    ("8xlarge", 32, 65_536),
    ("12xlarge", 48, 98_304),
    ("16xlarge", 64, 131_072),
];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Size {
    cpu: u32,
    mmem: u32,
}

/// Reads the classes from JSON, or takes the default ones; by growing size.
///
/// Two classes of the same vCPU could not be told apart by what EC2 launches for them, and memory
/// that does not grow with vCPU is a slip of the pen: both are refused.
pub fn parse(json: Option<&str>) -> Result<Vec<ClassSpec>, BadInput> {
    let mut classes = match json {
        None => DEFAULTS
            .into_iter()
            .map(|(name, cpu, mmem)| class(name, &Size { cpu, mmem }))
            .collect::<Result<Vec<_>, _>>()?,
        Some(json) => serde_json::from_str::<BTreeMap<String, Size>>(json)
            .map_err(|error| BadInput::new(INPUT, format!("it cannot be read: {error}"), FORM))?
            .iter()
            .map(|(name, size)| class(name, size))
            .collect::<Result<Vec<_>, _>>()?,
    };
    if classes.is_empty() {
        return Err(BadInput::new(INPUT, "it has no class", FORM));
    }
    classes.sort_by_key(|class| (class.cpu, class.mmem));
    for pair in classes.windows(2) {
        let (small, big) = (&pair[0], &pair[1]);
        if small.cpu == big.cpu {
            let wrong = format!(
                "`{}` and `{}` both have {} vCPU",
                small.name, big.name, big.cpu
            );
            return Err(BadInput::new(
                INPUT,
                wrong,
                "give each class a cpu of its own",
            ));
        }
        if small.mmem >= big.mmem {
            let wrong = format!(
                "`{}` has more vCPU than `{}` but no more memory ({} against {} MiB)",
                big.name, small.name, big.mmem, small.mmem
            );
            return Err(BadInput::new(INPUT, wrong, "let mmem grow with cpu"));
        }
    }
    Ok(classes)
}

fn class(name: &str, size: &Size) -> Result<ClassSpec, BadInput> {
    let name: ClassName = name
        .parse()
        .map_err(|error| BadInput::new(INPUT, format!("{error}"), FORM))?;
    if size.cpu == 0 || size.mmem == 0 {
        let wrong = format!("`{name}` has a cpu or mmem of 0");
        return Err(BadInput::new(INPUT, wrong, "give numbers from 1 up"));
    }
    Ok(ClassSpec {
        name,
        cpu: size.cpu,
        mmem: size.mmem,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(json: &str) -> String {
        parse(Some(json)).unwrap_err().to_string()
    }

    #[test]
    fn the_default_classes_pass_their_own_checks() {
        assert_eq!(parse(None).unwrap().len(), 7);
    }

    #[test]
    fn classes_come_by_size() {
        let json = r#"{"b":{"cpu":4,"mmem":8192},"a":{"cpu":2,"mmem":4096}}"#;
        let names: Vec<String> = parse(Some(json))
            .unwrap()
            .iter()
            .map(|class| class.name.to_string())
            .collect();
        assert_eq!(names, ["a", "b"]);
    }

    #[test]
    fn what_cannot_be_is_named() {
        assert!(wrong("{").starts_with("input `resource-class-config`: it cannot be read"));
        assert!(wrong("{}").contains("it has no class"));
        assert!(wrong(r#"{"a":{"cpu":0,"mmem":1}}"#).contains("cpu or mmem of 0"));
        assert!(
            wrong(r#"{"a":{"cpu":2,"mmem":1},"b":{"cpu":2,"mmem":2}}"#)
                .contains("both have 2 vCPU")
        );
        assert!(
            wrong(r#"{"a":{"cpu":2,"mmem":4},"b":{"cpu":4,"mmem":4}}"#).contains("no more memory")
        );
        assert!(wrong(r#"{"a":{"cpu":2,"mmem":4,"disk":1}}"#).contains("unknown field"));
        assert!(wrong(r#"{"a b":{"cpu":2,"mmem":4}}"#).contains("`a b`"));
    }
}
