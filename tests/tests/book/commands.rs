//! The commands in what there is to read, each as far as it can be tried here.

use std::{
    fmt::Write,
    fs,
    process::{Command, Stdio},
};

use controller::inputs::Inputs;
use tests::tools::{Tools, run};

use crate::pages::{blocks, holds, root};

/// The commands in a block of what a console shows: the lines with a prompt.
fn commands() -> Vec<(String, Vec<String>)> {
    let mut commands = Vec::new();
    for block in blocks("console") {
        for line in block.text.lines() {
            let Some(line) = line.strip_prefix("$ ") else {
                continue;
            };
            commands.push((format!("{}: {line}", block.place), shell_words(line)));
        }
    }
    assert!(commands.len() > 20, "{} commands", commands.len());
    commands
}

/// A line's words, as a shell splits it.
fn shell_words(line: &str) -> Vec<String> {
    let split = Command::new("bash")
        .args(["-c", &format!("printf '%s\\0' {line}")])
        .output()
        .expect("bash");
    let words = String::from_utf8(split.stdout).expect("text");
    words.split_terminator('\0').map(str::to_owned).collect()
}

/// The rest of a command, behind the variables and programs that only lead to it.
fn program(words: &[String]) -> &[String] {
    let mut words = words;
    while words
        .first()
        .is_some_and(|word| word == "sudo" || word.starts_with("PADDOCK_"))
    {
        words = &words[1..];
    }
    words
}

#[test]
fn every_command_is_one() {
    let tools = Tools::packaging().expect("the tools");
    for (place, words) in commands() {
        let words = program(&words);
        let parsed = match words[0].as_str() {
            "controller" => Inputs::program()
                .try_get_matches_from(words)
                .map(|_| ())
                .map_err(|error| error.to_string()),
            "paddock-agent" | "agent" => agent::cli::command()
                .try_get_matches_from(words)
                .map(|_| ())
                .map_err(|error| error.to_string()),
            "cargo" => cargo(&words[1..]),
            "aws" => aws(&tools, &words[1..]),
            "gh" => gh(&tools, &words[1..]),
            path if path.contains('/') => root()
                .join(path)
                .exists()
                .then_some(())
                .ok_or_else(|| "there is no such file".to_owned()),
            // Not to be had where tests run.
            "git" | "packer" | "apt-get" | "dnf" | "journalctl" | "cd" => Ok(()),
            _ => Err("what is this?".to_owned()),
        };
        assert_eq!(parsed, Ok(()), "{place}");
    }
}

/// The AWS CLI takes it: what it complains about is that nobody listens where AWS should be.
fn aws(tools: &Tools, words: &[String]) -> Result<(), String> {
    let output = Command::new(tools.program("aws"))
        .args(words)
        .current_dir(root())
        .env_clear()
        .env("PATH", tools.path())
        .env("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
        .env("AWS_ACCESS_KEY_ID", "none")
        .env("AWS_SECRET_ACCESS_KEY", "none")
        .env("AWS_MAX_ATTEMPTS", "1")
        .output()
        .expect("the AWS CLI runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if said.contains("Could not connect to the endpoint URL") {
        Ok(())
    } else {
        Err(said)
    }
}

/// GitHub's CLI takes it: what it complains about is that it cannot reach anybody.
fn gh(tools: &Tools, words: &[String]) -> Result<(), String> {
    let home = tempfile::tempdir().expect("a folder");
    let output = Command::new(tools.program("gh"))
        .args(words)
        .current_dir(home.path())
        .env_clear()
        .env("HOME", home.path())
        .env("GH_TOKEN", "none")
        .env("HTTPS_PROXY", "http://127.0.0.1:9")
        .stdin(Stdio::null())
        .output()
        .expect("GitHub's CLI runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let alone = ["proxyconnect tcp", "no valid Sigstore verifiers"];
    if alone.iter().any(|words| said.contains(words)) {
        Ok(())
    } else {
        Err(said)
    }
}

/// It names an alias or a test that there is.
fn cargo(words: &[String]) -> Result<(), String> {
    let read = |file: &str| fs::read_to_string(root().join(file)).expect("readable");
    let first = words.first().map(String::as_str).unwrap_or_default();
    if let ["fuzz", _, "--sanitizer", "none", target, ..] =
        words.iter().map(String::as_str).collect::<Vec<_>>()[..]
    {
        let there = root()
            .join(format!("fuzz/fuzz_targets/{target}.rs"))
            .exists();
        let there = there.then_some(());
        return there.ok_or_else(|| format!("there is no fuzz target {target}"));
    }
    let alias = read(".cargo/config.toml").contains(&format!("\n{first} = "));
    if !alias && !["test", "run", "build", "clippy"].contains(&first) {
        return Err(format!("cargo knows no {first}"));
    }
    for pair in words.windows(2) {
        let [option, value] = pair else { continue };
        let there = match option.as_str() {
            "--test" => {
                let file = root().join(format!("tests/tests/{value}.rs"));
                file.exists() || root().join(format!("tests/tests/{value}/main.rs")).exists()
            }
            "--bin" => {
                let file = root().join(format!("tests/src/bin/{value}.rs"));
                file.exists()
                    || root()
                        .join(format!("tests/src/bin/{value}/main.rs"))
                        .exists()
            }
            "--package" => root().join(value).join("Cargo.toml").exists(),
            _ => true,
        };
        if !there {
            return Err(format!("there is no {option} {value}"));
        }
    }
    // A test by its name.
    let name = words.last().map(String::as_str).unwrap_or_default();
    if first == "test" && name.contains('_') {
        let grep = [
            "-rqE",
            &format!("fn [a-z_]*{name}"),
            "proto",
            "agent",
            "controller",
            "tests",
        ];
        run(Command::new("grep").args(grep).current_dir(root()))
            .map_err(|_| format!("there is no test {name}"))?;
    }
    Ok(())
}

/// A program's help, and that of each of its commands.
fn helps(program: clap::Command) -> String {
    let name = program.get_name().to_owned();
    // Whatever terminal the test has.
    let program = program.term_width(100);
    let commands = program.get_subcommands().map(clap::Command::get_name);
    let mut all = vec![vec![name.as_str()]];
    all.extend(commands.map(|command| vec![name.as_str(), command]));
    let mut text = String::new();
    for words in &all {
        let asked = words.iter().copied().chain(["--help"]);
        let help = program.clone().try_get_matches_from(asked).unwrap_err();
        let help = help.to_string();
        let lines: Vec<&str> = help.trim_end().lines().map(str::trim_end).collect();
        let _ = write!(
            text,
            "## `{}`\n\n```text\n{}\n```\n\n",
            words.join(" "),
            lines.join("\n")
        );
    }
    text
}

#[test]
fn every_example_of_the_help_is_a_command() {
    let page = fs::read_to_string(root().join("docs/commands.md")).expect("the page");
    let page = page.replace("\\\n", " ");
    let mut examples = 0;
    for line in page.lines() {
        let line = line.trim_start_matches("  ").trim_start_matches("sudo ");
        let parsed = match line.split(' ').next() {
            Some("controller") => Inputs::program().try_get_matches_from(shell_words(line)),
            Some("paddock-agent") => agent::cli::command().try_get_matches_from(shell_words(line)),
            Some(_) | None => continue,
        };
        assert!(parsed.is_ok(), "{line}: {}", parsed.unwrap_err());
        examples += 1;
    }
    assert!(examples > 15, "{examples} examples");
}

#[test]
fn the_page_of_commands_is_made_from_the_commands() {
    let text = format!(
        "# Commands\n\n\
         This page is made from the two programs' own `--help`.\n\n{}{}",
        helps(Inputs::program()),
        helps(agent::cli::command().name("paddock-agent")),
    );
    holds("docs/commands.md", &format!("{}\n", text.trim_end()));
}
