//! Bad input, as a user meets it: one clear line, exit code 2, nothing touched.

use std::process::{Command, Output};

/// A controller in an empty environment, whose AWS is a port where nobody listens: whoever
/// touches it fails differently.
fn controller(args: &[&str], env: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_controller"))
        .args(args)
        .env_clear()
        .env("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
        .env("AWS_ACCESS_KEY_ID", "test")
        .env("AWS_SECRET_ACCESS_KEY", "test")
        .env("AWS_REGION", "us-east-1")
        .env("GITHUB_REPOSITORY", "acme/web")
        .env("GITHUB_RUN_ID", "7")
        .envs(env.iter().copied())
        .output()
        .expect("the controller runs")
}

const REFRESH: [(&str, &str); 6] = [
    ("INPUT_MODE", "refresh"),
    ("INPUT_AMI", "ami-1"),
    ("INPUT_GITHUB-TOKEN", "hush-hush"),
    ("INPUT_IAM-INSTANCE-PROFILE", "profile"),
    ("INPUT_SECURITY-GROUP-IDS", "sg-1"),
    ("INPUT_SUBNET-IDS", "subnet-1"),
];

#[track_caller]
fn refused(mode: &str, input: &str, value: &str, words: &[&str]) {
    let mut env = REFRESH.to_vec();
    env.extend([("INPUT_MODE", mode)]);
    let name = format!("INPUT_{}", input.to_uppercase());
    env.push((&name, value));
    let output = controller(&[], &env);
    let error = String::from_utf8_lossy(&output.stderr);
    let value: String = value.chars().take(80).collect();
    assert_eq!(output.status.code(), Some(2), "{input}={value}: {error}");
    assert_eq!(error.lines().count(), 1, "{input}={value}: {error}");
    assert!(
        error.contains(&format!("input `{input}`")),
        "{input}={value}: {error}"
    );
    assert!(
        words.iter().all(|word| error.contains(word)),
        "{input}={value}: {error}"
    );
    assert!(!error.contains("hush-hush"), "{error}");
}

#[test]
fn what_provision_cannot_use_is_named() {
    for odd in ["0", "-1", "two", "1.5", "99999"] {
        refused(
            "provision",
            "instance-count",
            odd,
            &[odd, "whole number from 1 to"],
        );
    }
    refused(
        "provision",
        "usage-class",
        "cheap",
        &["`cheap`", "on-demand, spot"],
    );
    refused(
        "provision",
        "resource-class",
        "very large",
        &["`very large`"],
    );
    refused("provision", "allowed-instance-types", ",", &["is empty"]);
    refused(
        "provision",
        "allowed-instance-types",
        "c* $(x)",
        &["`$(x)`"],
    );
    refused("provision", "max-runtime-min", "0", &["`0`"]);
    refused("provision", "name", "a,b", &["`a,b`"]);
    refused("provision", "fallback", "on-demand", &["usage-class: spot"]);
    refused("provision", "fallback", "maybe", &["none, on-demand"]);
    refused("provision", "max-price", "0.05", &["usage-class: spot"]);
    refused(
        "provision",
        "allocation-strategy",
        "capacity-optimized",
        &["not possible with on-demand", "allowed: lowest-price"],
    );
    for odd in ["0", "soon", "-1"] {
        refused("release", "release-timeout-sec", odd, &[odd]);
    }
    refused("release", "pool-name", "über", &["`über`"]);
    for odd in ["Frankfurt", "nowhere", "eu-central", "eu-central-", "1-2-3"] {
        refused("release", "aws-region", odd, &[odd, "eu-central-1"]);
    }
}

#[test]
fn what_refresh_cannot_use_is_named() {
    refused("refresh", "resource-class-config", "{", &["cannot be read"]);
    refused("refresh", "resource-class-config", "{}", &["has no class"]);
    let same = r#"{"a":{"cpu":2,"mmem":4096},"b":{"cpu":2,"mmem":8192}}"#;
    refused(
        "refresh",
        "resource-class-config",
        same,
        &["both have 2 vCPU"],
    );
    let flat = r#"{"a":{"cpu":2,"mmem":4096},"b":{"cpu":4,"mmem":4096}}"#;
    refused(
        "refresh",
        "resource-class-config",
        flat,
        &["no more memory"],
    );
    refused("refresh", "github-token", "", &["is missing"]);
    refused("refresh", "ami", "", &["is missing"]);
    refused("refresh", "ami", "debian", &["`debian`"]);
    refused("refresh", "min-idle", "huge spot 1", &["no class huge"]);
    refused("refresh", "max-idle", "large spot", &["`large spot`"]);
    refused("refresh", "root-volume-size-gib", "0", &["1 to 16384"]);
    refused("refresh", "root-volume-type", "st1", &["gp3, gp2"]);
    refused("refresh", "key-name", "schlüssel", &["`schlüssel`"]);
    refused("refresh", "subnet-ids", " ", &["is empty"]);
    refused("refresh", "subnet-ids", "vpc-1", &["`vpc-1`"]);
    refused("refresh", "security-group-ids", "", &["is empty"]);
    refused("refresh", "idle-time-sec", "soon", &["`soon`"]);
    refused("refresh", "actions-runner-version", "newest", &["`newest`"]);
    refused("refresh", "runner-releases-url", "ftp://x", &["`ftp://x`"]);
    for name in ["GITHUB_API_URL", "GITHUB_SERVER_URL"] {
        let mut env = REFRESH.to_vec();
        env.push((name, "git.acme.example"));
        let output = controller(&[], &env);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{error}");
        assert!(error.contains(&format!("input `{name}`")), "{error}");
    }
    // Text that cannot be compressed: a xorshift generator's printable bytes.
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let long: String = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        char::from(b'!' + u8::try_from(state % 90).expect("below 90"))
    })
    .take(40_000)
    .collect();
    refused("refresh", "pre-runner-script", &long, &["16384"]);
}

#[test]
fn what_doctor_cannot_ask_for_is_named() {
    for (flag, odd) in [
        ("role", "operator"),
        ("role", "arn:aws:sts::1:assumed-role/a/b"),
        ("role", "arn:aws:iam::1:policy/x"),
        ("commands", "everything"),
    ] {
        let output = controller(&["doctor", &format!("--{flag}"), odd], &[]);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{error}");
        let named = format!("input `{flag}`: `{odd}`");
        assert!(error.contains(&named), "{error}");
    }
}

#[test]
fn an_unknown_mode_or_flag_is_bad_input() {
    assert_eq!(
        controller(&[], &[("INPUT_MODE", "restart")]).status.code(),
        Some(2)
    );
    assert_eq!(
        controller(&["provision", "--instances", "2"], &[])
            .status
            .code(),
        Some(2)
    );
    assert_eq!(controller(&[], &[]).status.code(), Some(2));
}

#[test]
fn help_shows_examples() {
    let output = controller(&["--help"], &[]);
    assert_eq!(output.status.code(), Some(0));
    let help = String::from_utf8_lossy(&output.stdout);
    assert!(
        help.contains("controller provision --instance-count 2"),
        "{help}"
    );
}

#[test]
fn a_flag_goes_before_its_input() {
    let output = controller(
        &["provision", "--instance-count", "x"],
        &[("INPUT_INSTANCE-COUNT", "1")],
    );
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("`x`"));
}

#[test]
fn spot_inputs_are_checked_with_spot() {
    for (input, value) in [
        ("MAX-PRICE", "cheap"),
        ("MAX-PRICE", "-1"),
        ("MAX-PRICE", "1e3"),
        ("ALLOCATION-STRATEGY", "prioritized"),
    ] {
        let name = format!("INPUT_{input}");
        let env = [("INPUT_USAGE-CLASS", "spot"), (name.as_str(), value)];
        let output = controller(&["provision"], &env);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{input}={value}: {error}");
        assert!(error.contains(value), "{input}={value}: {error}");
    }
}

#[test]
fn json_is_one_object_also_for_a_failure() {
    let output = controller(&["provision", "--json", "--instance-count", "x"], &[]);
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8_lossy(&output.stdout);
    let answer: serde_json::Value = serde_json::from_str(&text).expect("one JSON object");
    assert_eq!(answer["exitCode"], 2);
    assert!(
        answer["error"]
            .as_str()
            .is_some_and(|text| text.contains("instance-count"))
    );
}

/// The help as `script` records it, which gives the program a terminal.
fn help_on_a_terminal(env: &[(&str, &str)]) -> String {
    let command = format!("{} --help", env!("CARGO_BIN_EXE_controller"));
    let output = Command::new("script")
        .args(["--quiet", "--return", "--command", &command, "/dev/null"])
        .env("TERM", "xterm-256color")
        .env_remove("NO_COLOR")
        .env_remove("CLICOLOR")
        .envs(env.iter().copied())
        .output()
        .expect("script runs");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn colours_are_for_terminals_that_want_them() {
    let escape = '\u{1b}';
    assert!(help_on_a_terminal(&[]).contains(escape));
    assert!(!help_on_a_terminal(&[("NO_COLOR", "1")]).contains(escape));
    let piped = controller(&["--help"], &[]);
    let piped = String::from_utf8_lossy(&piped.stdout).into_owned();
    assert!(
        piped.contains("Examples:") && !piped.contains(escape),
        "{piped}"
    );
}
