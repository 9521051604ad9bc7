//! The reference has everything that there is, and nothing else.

use std::{collections::BTreeSet, fmt::Write, fs};

use controller::{exit::Exit, inputs::Inputs};
use proto::{
    config::{
        FloorTrouble, GithubTokens, LaunchTemplate, Parameters, RefreshJournal, ResourceClass,
        Schema,
    },
    instance::{Health, InstanceRecord, Job, Runner, Secret, UsageClass},
    message::PoolMessage,
    provision::{Phase, ProvisionRecord, Request},
    signal::{Report, Signal},
    state::State,
    time::Time,
};
use tests::tools::Tools;

use crate::pages::{holds, root};

const PAGE: &str = "docs/reference.md";

fn page() -> String {
    fs::read_to_string(root().join(PAGE)).expect("the reference")
}

/// What stands under a heading, up to the next one.
fn section(heading: &str) -> String {
    let page = page();
    let (_, rest) = page
        .split_once(&format!("# {heading}\n"))
        .unwrap_or_else(|| panic!("the reference has no {heading}"));
    rest.split("\n#").next().unwrap_or_default().to_owned()
}

/// The names in the first column of a section's tables.
fn names(section: &str) -> BTreeSet<String> {
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `"));
    rows.map(|row| row.split('`').next().unwrap_or_default().to_owned())
        .collect()
}

fn keys(value: impl serde::Serialize) -> BTreeSet<String> {
    let value = serde_json::to_value(value).expect("JSON");
    value
        .as_object()
        .expect("an object")
        .keys()
        .cloned()
        .collect()
}

/// The name of an enum's value as it is stored.
fn name(value: impl serde::Serialize) -> String {
    let value = serde_json::to_value(value).expect("JSON");
    value.as_str().expect("a text").to_owned()
}

/// All values of an enum, each of which knows the next: the compiler misses none.
fn every<T: Copy>(first: T, next: fn(T) -> Option<T>) -> impl Iterator<Item = T> {
    std::iter::successors(Some(first), move |value| next(*value))
}

fn set<const N: usize>(names: [&str; N]) -> BTreeSet<String> {
    names.map(str::to_owned).into()
}

/// `before` … `after`, with what belongs between its two comments.
fn filled(page: &str, what: &str, content: &str) -> String {
    let (begin, end) = (
        format!("<!-- {what}: made from action.yml -->\n"),
        format!("<!-- {what}: end -->\n"),
    );
    let (before, rest) = page.split_once(&begin).expect("the beginning");
    let (_, after) = rest.split_once(&end).expect("the end");
    format!("{before}{begin}\n{content}\n{end}{after}")
}

/// `refresh, provision. Text (required)` → modes, text, default.
fn parts(description: &str) -> (String, String, String) {
    let (modes, rest) = description.split_once(". ").expect("modes first");
    let (text, default) = match rest.split_once(" [default: ") {
        Some((text, default)) => (text, default.trim_end_matches(']')),
        None => (rest.trim_end_matches(" (required)"), "required"),
    };
    let cell = |text: &str| text.replace('|', "\\|").replace('*', "\\*");
    let modes = if modes == "All modes" { "all" } else { modes };
    (cell(modes), cell(text), cell(default))
}

#[test]
fn inputs_and_outputs_are_made_from_the_action() {
    let tools = Tools::packaging().expect("the tools");
    let action = tools.read(&root().join("action.yml")).expect("action.yml");
    let mut inputs = String::from("| input | modes | meaning | default |\n|---|---|---|---|\n");
    for (name, input) in action["inputs"].as_object().expect("inputs") {
        let (modes, text, default) = parts(input["description"].as_str().expect("a text"));
        let _ = writeln!(inputs, "| `{name}` | {modes} | {text} | {default} |");
    }
    let mut outputs = String::from("| output | modes | meaning |\n|---|---|---|\n");
    for (name, output) in action["outputs"].as_object().expect("outputs") {
        let description = output["description"].as_str().expect("a text");
        let (modes, text) = description.split_once(". ").expect("modes first");
        let _ = writeln!(outputs, "| `{name}` | {modes} | {text} |");
    }
    let text = filled(&page(), "inputs", &inputs);
    holds(PAGE, &filled(&text, "outputs", &outputs));
}

#[test]
fn every_exit_code_is_there() {
    let section = section("Exit codes");
    let (controller, agent) = section.split_once("Of `agent`").expect("both programs");
    let rows = |text: &str| -> BTreeSet<(String, String)> {
        let rows = text.lines().filter_map(|line| line.strip_prefix("| "));
        rows.filter_map(|row| {
            let (code, rest) = row.split_once(" | `")?;
            Some((code.to_owned(), rest.split('`').next()?.to_owned()))
        })
        .collect()
    };
    let codes = every(Exit::Done, |exit| match exit {
        Exit::Done => Some(Exit::Failed),
        Exit::Failed => Some(Exit::BadInput),
        Exit::BadInput => Some(Exit::Unfinished),
        Exit::Unfinished => Some(Exit::Cancelled),
        Exit::Cancelled => None,
    });
    let codes = codes.map(|exit| ((exit as u8).to_string(), format!("{exit:?}")));
    assert_eq!(rows(controller), codes.collect());
    // Constants, which nobody can list but their file.
    let source = fs::read_to_string(root().join("agent/src/cli.rs")).expect("readable");
    let constants = source.lines().filter_map(|line| {
        let (name, code) = line.strip_prefix("pub const ")?.split_once(": u8 = ")?;
        Some((code.trim_end_matches(';').to_owned(), name.to_owned()))
    });
    assert_eq!(rows(agent), constants.collect());
}

#[test]
fn every_variable_is_there() {
    let mut variables = BTreeSet::new();
    for program in [Inputs::program(), agent::cli::command()] {
        for command in program.get_subcommands() {
            let read = command.get_arguments().filter_map(clap::Arg::get_env);
            variables.extend(read.map(|name| name.to_string_lossy().into_owned()));
        }
    }
    variables.retain(|name| !name.starts_with("INPUT_"));
    assert_eq!(names(&section("Environment")), variables);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_field_of_the_answers_in_json_is_there() {
    let pool = tests::pool::Pool::new(std::time::Duration::ZERO).await;
    let section = section("With `--json`");
    for (mode, input, of) in [
        ("refresh", "", "refresh"),
        ("provision", "1", "provision"),
        ("status", "", "status"),
        ("release", "", "release"),
        ("provision", "none", "a failure"),
    ] {
        let mut run = pool.run(7);
        run.flags = vec!["--json".to_owned()];
        let mut inputs = tests::story::refresh_inputs(&pool.yard, "subnet-0a subnet-0b");
        if mode == "provision" {
            inputs.push(("instance-count", input.to_owned()));
        }
        let inputs: Vec<(&str, &str)> = inputs
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        let step = run.step(mode, &inputs).await.expect("it runs");
        let answer = step.log.lines().next().unwrap_or_default();
        let answer: serde_json::Value = serde_json::from_str(answer).expect("JSON");
        let row = section
            .lines()
            .find(|line| {
                line.starts_with(&format!("| {of} |")) || line.starts_with(&format!("| `{of}` |"))
            })
            .unwrap_or_else(|| panic!("no row of {of}"));
        let cell = row.split(" | ").nth(1).unwrap_or_default();
        let named: BTreeSet<String> = cell
            .split('`')
            .skip(1)
            .step_by(2)
            .map(str::to_owned)
            .collect();
        assert_eq!(keys(&answer), named, "{of}: {}", step.log);
    }
    pool.yard.stop().await;
}

#[test]
fn every_metric_is_there() {
    let source = root().join("controller/src/metrics.rs");
    let source = fs::read_to_string(source).expect("readable");
    let (source, _) = source.split_once("mod tests").expect("its tests");
    let is_name = |text: &&str| {
        text.starts_with(|c: char| c.is_ascii_uppercase())
            && text.chars().all(|c| c.is_ascii_alphabetic())
    };
    let mut published: BTreeSet<&str> = source
        .split('"')
        .skip(1)
        .step_by(2)
        .filter(is_name)
        .collect();
    // A state that is never counted.
    assert!(published.remove("Terminated"));

    let page = fs::read_to_string(root().join("docs/operating.md")).expect("readable");
    let (_, table) = page.split_once("| metric |").expect("a table");
    let (table, _) = table.split_once("\n\n").expect("its end");
    let cells = table
        .lines()
        .skip(2)
        .filter_map(|row| row.split(" | ").next());
    let named: BTreeSet<&str> = cells
        .flat_map(|cell| cell.split('`').skip(1).step_by(2))
        .collect();
    assert_eq!(named, published);
}

#[test]
fn every_signal_is_there() {
    let all = every(Signal::Ok, |signal| match signal {
        Signal::Ok => Some(Signal::Failed),
        Signal::Failed => Some(Signal::RegOk),
        Signal::RegOk => Some(Signal::RegFailed),
        Signal::RegFailed => Some(Signal::RemoveRegOk),
        Signal::RemoveRegOk => Some(Signal::RemoveRegFailed),
        Signal::RemoveRegFailed => Some(Signal::Interrupted),
        Signal::Interrupted => None,
    });
    assert_eq!(names(&section("Signals")), all.map(name).collect());
}

/// Whole records: a field that is added has to be added here, too.
fn machine() -> InstanceRecord {
    let record = InstanceRecord::example(State::Terminated);
    let now = Time::EPOCH;
    InstanceRecord {
        arn: record.arn,
        state: record.state,
        label: Some("7".parse().expect("a label")),
        threshold: Some(now),
        generation: 1,
        since: now,
        created_at: now,
        resource_class: record.resource_class,
        instance_type: record.instance_type,
        zone: record.zone,
        usage_class: record.usage_class,
        cpu: 2,
        mmem: 4096,
        template_version: 1,
        token: Some(Secret::new("token")),
        reason: Some("over".into()),
        expires_at: Some(1),
        heartbeat: Some(now),
        report: Some(Report {
            signal: Signal::Ok,
            generation: 1,
            at: now,
            detail: Some("why".into()),
        }),
        runner: Some(Runner {
            version: "2.336.0".into(),
            name: Some("name".into()),
        }),
        job: Some(Job {
            name: "job".into(),
            since: now,
        }),
        jobs: 1,
        health: Some(Health {
            healthy: false,
            reason: Some("why".into()),
        }),
    }
}

fn provision() -> ProvisionRecord {
    let now = Time::EPOCH;
    let machine = machine();
    ProvisionRecord {
        run: "7".parse().expect("a run"),
        label: "7".parse().expect("a label"),
        revision: 1,
        attempt: 1,
        repository: Some("acme/web".into()),
        request: Request {
            count: 1,
            resource_class: machine.resource_class.clone(),
            usage_class: UsageClass::Spot,
            allowed_instance_types: vec!["c*".into()],
            max_runtime_sec: 1,
        },
        phase: Phase::Released,
        client_token: "token".into(),
        claimed: Vec::new(),
        launched: Vec::new(),
        generations: [(machine.id().clone(), 1)].into(),
        started_at: now,
        beat: now,
        error: Some("why".into()),
        expires_at: Some(1),
    }
}

/// The names in the text of a row, after its first cell.
fn fields(row: &str) -> BTreeSet<String> {
    let spans = row.split('`').skip(3).step_by(2);
    spans.map(str::to_owned).collect()
}

fn row(section: &str, name: &str) -> String {
    let start = format!("| `{name}`");
    let found = section.lines().find(|line| line.starts_with(&start));
    found
        .unwrap_or_else(|| panic!("no row of {name}"))
        .to_owned()
}

#[test]
fn every_attribute_of_the_tables_items_is_there() {
    let machines = section("A machine's record");
    assert_eq!(names(&machines), keys(machine()));
    let record = machine();
    for (name, inner) in [
        ("report", keys(record.report)),
        ("runner", keys(record.runner)),
        ("job", keys(record.job)),
        ("health", keys(record.health)),
    ] {
        assert_eq!(fields(&row(&machines, name)), inner, "{name}");
    }
    let states = State::ALL.map(|state| state.to_string());
    assert_eq!(fields(&row(&machines, "state")), states.into());

    let provisions = section("A provision's record");
    assert_eq!(names(&provisions), keys(provision()));
    let request = fields(&row(&provisions, "request"));
    assert_eq!(request, keys(provision().request));
    let phases = every(Phase::Open, |phase| match phase {
        Phase::Open => Some(Phase::Committed),
        Phase::Committed => Some(Phase::RollingBack),
        Phase::RollingBack => Some(Phase::RolledBack),
        Phase::RolledBack => Some(Phase::Released),
        Phase::Released => None,
    });
    assert_eq!(
        fields(&row(&provisions, "phase")),
        phases.map(name).collect()
    );
}

#[test]
fn every_attribute_of_the_configuration_is_there() {
    let now = Time::EPOCH;
    let secret = || Secret::new("token");
    let class = machine().resource_class;
    let section = section("The configuration");
    let items = [
        (
            "schema",
            keys(Schema {
                version: 1,
                table_arn: String::new(),
                github_url: String::new(),
            }),
        ),
        (
            "launch-template",
            keys(LaunchTemplate {
                id: String::new(),
                version: 1,
                content_hash: String::new(),
                runner: None,
                image: None,
            })
            .into_iter()
            .chain(set(["runner", "image"]))
            .collect(),
        ),
        (
            "resource-class#<name>",
            keys(ResourceClass {
                name: class.clone(),
                cpu: 2,
                mmem: 4096,
                queue_url: String::new(),
            }),
        ),
        (
            "parameters",
            keys(Parameters {
                subnet_ids: Vec::new(),
                idle_time_sec: 1,
                keeps_idle: true,
                max_jobs: Some(1),
                max_age_sec: Some(1),
                max_runtime_sec: 1,
                claim_timeout_sec: 1,
                fleet_timeout_sec: 1,
                release_timeout_sec: 1,
                healthy_within_sec: 1,
                metrics: true,
            }),
        ),
        (
            "github-token",
            keys(GithubTokens {
                registration: secret(),
                removal: secret(),
                obtained_at: now,
                expires_at: now,
            }),
        ),
        (
            "refresh",
            keys(RefreshJournal {
                revision: 1,
                holder: String::new(),
                since: now,
                until: Some(now),
                floor: vec![FloorTrouble {
                    resource_class: class,
                    usage_class: UsageClass::Spot,
                    failures: 1,
                    not_before: now,
                    why: String::new(),
                }],
            }),
        ),
    ];
    for (name, attributes) in &items {
        assert_eq!(&fields(&row(&section, name)), attributes, "{name}");
    }
    assert_eq!(names(&section).len(), items.len());
    let message = keys(PoolMessage::of(&machine(), now));
    let queues = self::section("The queues");
    for name in message {
        assert!(queues.contains(&format!("`{name}`")), "{name}");
    }
}

/// All that the programs may say, as far as it stands in their source.
fn source() -> String {
    let mut text = String::new();
    let mut folders = ["controller/src", "agent/src", "proto/src", "userdata/src"]
        .map(|folder| root().join(folder))
        .to_vec();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "rs") {
                let file = fs::read_to_string(path).expect("readable");
                let mut lines = file.split("\\\n");
                text += lines.next().unwrap_or_default();
                lines.for_each(|line| text += line.trim_start());
            }
        }
    }
    text.replace('`', "")
}

#[test]
fn what_troubleshooting_quotes_is_what_the_programs_say() {
    let source = source();
    let page = fs::read_to_string(root().join("docs/troubleshooting.md")).expect("readable");
    let mut quoted = 0;
    for line in page.lines().filter(|line| line.starts_with("| ")) {
        let first = line[2..].split(" | ").next().unwrap_or_default();
        for quote in first.split('`').skip(1).step_by(2) {
            for part in quote
                .split('…')
                .map(str::trim)
                .filter(|part| part.len() > 3)
            {
                quoted += 1;
                assert!(source.contains(part), "nothing says `{part}` ({quote})");
            }
        }
    }
    assert!(quoted > 20, "{quoted} quotes");
}

/// Names that a sentence may begin with.
const NAMES: [&str; 4] = ["AWS", "DynamoDB", "EC2", "GitHub"];

#[test]
fn errors_begin_in_lower_case_and_with_what_they_are_about() {
    let source = source();
    let errors: Vec<&str> = source
        .split("#[error(")
        .skip(1)
        .filter_map(|rest| rest.trim_start().strip_prefix('"'))
        .collect();
    assert!(errors.len() > 50, "{} errors", errors.len());
    for error in errors {
        let fine = error.starts_with(|c: char| c.is_lowercase() || c == '{')
            || NAMES.iter().any(|name| error.starts_with(name));
        let text: String = error.chars().take(80).collect();
        assert!(fine, "{text}");
    }
}
