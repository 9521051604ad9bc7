//! The `CloudFormation` template and the Terraform example make roles with the policies of
//! `packaging/iam`, which [`crate::iam`] holds against what is called.

use std::{
    collections::BTreeMap,
    fmt::Write,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::{Value, json};
use tests::{
    tools::{Tools, run},
    yard::aws::iam,
};

fn packaging() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging")
}

fn template() -> PathBuf {
    packaging().join("cloudformation/paddock.yaml")
}

/// Commands that workflows run on any branch; the others are an operator's.
const WORKFLOW: [&str; 2] = ["controller-provision", "controller-release"];

/// Every document of `packaging/iam`, by its name.
fn documents() -> BTreeMap<String, Value> {
    documents_in(&iam::folder())
}

fn documents_in(folder: &Path) -> BTreeMap<String, Value> {
    let files = fs::read_dir(folder).expect("the documents");
    let documents = files.map(|file| file.expect("a file").path()).map(|path| {
        let name = path.file_stem().expect("a name").to_string_lossy();
        let text = fs::read(&path).expect("readable");
        (
            name.into_owned(),
            serde_json::from_slice(&text).expect("JSON"),
        )
    });
    documents.collect()
}

/// A document as `CloudFormation` fills its places.
fn substituted(document: &Value) -> Value {
    match document {
        Value::String(text) => {
            let filled = text.replace("${", "${!");
            let filled = [
                ("{partition}", "${AWS::Partition}"),
                ("{region}", "${AWS::Region}"),
                ("{account}", "${AWS::AccountId}"),
                ("{pool}", "${Pool}"),
                ("{repository}", "${Repository}"),
                ("{branch}", "${Branch}"),
                ("{machine-role}", "${MachineRole.Arn}"),
            ]
            .iter()
            .fold(filled, |text, (place, filling)| {
                text.replace(place, filling)
            });
            // A string that has nothing to fill in needs no function; IAM's own stay as they are.
            if filled.replace("${!", "").contains("${") {
                json!({ "Fn::Sub": filled })
            } else {
                Value::String(text.clone())
            }
        }
        Value::Array(items) => items.iter().map(substituted).collect(),
        Value::Object(entries) => entries
            .iter()
            .map(|(key, value)| (key.clone(), substituted(value)))
            .collect::<serde_json::Map<_, _>>()
            .into(),
        other => other.clone(),
    }
}

/// `controller-refresh` → `ControllerRefreshPolicy`
fn logical(name: &str) -> String {
    let words = name.split('-').map(|word| {
        let (first, rest) = word.split_at(1);
        first.to_uppercase() + rest
    });
    words.collect::<String>() + "Policy"
}

/// The roles and policies that the template has to have.
fn resources() -> serde_json::Map<String, Value> {
    let documents = documents();
    let mut resources = serde_json::Map::new();
    let role = |trust: &str| substituted(&documents[trust]);
    let inline = |name: &str| {
        json!({
            "PolicyName": name,
            "PolicyDocument": substituted(&documents[name]),
        })
    };
    resources.insert(
        "MachineRole".to_owned(),
        json!({
            "Type": "AWS::IAM::Role",
            "Properties": {
                "AssumeRolePolicyDocument": role("trust-machine"),
                "Policies": [
                    inline("machine"),
                    { "Fn::If": [
                        "MachinesTakeCommands",
                        inline("machine-ssm"),
                        { "Ref": "AWS::NoValue" },
                    ]},
                ],
            },
        }),
    );
    let commands = documents
        .keys()
        .filter(|name| name.starts_with("controller-"));
    let (workflow, operator): (Vec<&String>, Vec<&String>) =
        commands.partition(|name| WORKFLOW.contains(&name.as_str()));
    for (name, trust, commands) in [
        ("WorkflowRole", "trust-workflow", workflow),
        ("OperatorRole", "trust-operator", operator),
    ] {
        let attached = commands.iter().map(|name| json!({ "Ref": logical(name) }));
        let properties = json!({
            "AssumeRolePolicyDocument": role(trust),
            "ManagedPolicyArns": attached.collect::<Vec<_>>(),
        });
        resources.insert(
            name.to_owned(),
            json!({ "Type": "AWS::IAM::Role", "Properties": properties }),
        );
        for command in commands {
            let properties = json!({ "PolicyDocument": substituted(&documents[command]) });
            resources.insert(
                logical(command),
                json!({ "Type": "AWS::IAM::ManagedPolicy", "Properties": properties }),
            );
        }
    }
    for (name, document) in documents_in(&packaging().join("ssm")) {
        let properties = json!({
            "Name": name,
            "DocumentType": "Command",
            "Content": document,
            "UpdateMethod": "NewVersion",
        });
        resources.insert(
            name.replace('-', ""),
            json!({
                "Type": "AWS::SSM::Document",
                "Condition": "DocumentsAreMissing",
                "Properties": properties,
            }),
        );
    }
    resources
}

/// The template's rendered part: YAML, in which JSON is at home.
fn rendered() -> String {
    let mut text = String::new();
    for (name, resource) in resources() {
        let body = serde_json::to_string_pretty(&resource).expect("JSON");
        let _ = writeln!(text, "  {name}:\n    {}", body.replace('\n', "\n    "));
    }
    text
}

#[test]
fn the_template_has_the_policies() {
    let (begin, end) = ("  # rendered: begin\n", "  # rendered: end\n");
    let text = fs::read_to_string(template()).expect("the template");
    let (before, rest) = text.split_once(begin).expect("the beginning");
    let (_, after) = rest.split_once(end).expect("the end");
    let wanted = format!("{before}{begin}{}{end}{after}", rendered());
    if std::env::var_os("PADDOCK_UPDATE").is_some() {
        fs::write(template(), &wanted).expect("written");
    } else {
        assert!(
            text == wanted,
            "packaging/cloudformation/paddock.yaml is not what packaging/iam says: \
             PADDOCK_UPDATE=1 cargo test --workspace --test packaging the_template_has"
        );
    }
    let tools = Tools::packaging().expect("the tools");
    let read = tools.read(&template()).expect("CloudFormation");
    for (name, resource) in resources() {
        assert_eq!(read["Resources"][&name], resource, "{name}");
    }
    // What a managed policy may be long, without its spaces.
    let policies = resources();
    for (name, resource) in policies.iter().filter(|(name, _)| name.ends_with("Policy")) {
        let length = resource.to_string().len();
        assert!(length < 6144, "{name} is {length} characters long");
    }
}

#[test]
fn cfn_lint_has_nothing_to_say() {
    let tools = Tools::packaging().expect("the tools");
    let mut lint = Command::new(tools.program("cfn-lint"));
    lint.args(["--include-checks", "I", "--template"])
        .arg(template());
    let said = run(&mut lint).expect("clean");
    assert_eq!(String::from_utf8_lossy(&said), "");
}

#[test]
fn terraform_takes_every_document() {
    let tools = Tools::packaging().expect("the tools");
    let read = tools
        .read(&packaging().join("terraform/main.tf"))
        .expect("Terraform");
    let text = read.to_string();
    let local = |name: &str| {
        let blocks = read["locals"].as_array().into_iter().flatten();
        let mut found = blocks.filter_map(|block| block.get(name));
        found.next().cloned().unwrap_or_else(|| panic!("{name}"))
    };
    for command in WORKFLOW {
        assert!(local("workflow").to_string().contains(command), "{command}");
    }
    for name in documents().keys() {
        let by_name = text.contains(&format!("local.filled[\\\"{name}\\\"]"));
        assert!(
            by_name || name.starts_with("controller-"),
            "packaging/terraform takes no {name}"
        );
    }
    // Every place that a document has is filled somewhere.
    let all = serde_json::to_string(&documents()).expect("JSON");
    for piece in all.replace("${", "").split('{').skip(1) {
        if let Some((place, _)) = piece.split_once('}')
            && place.chars().all(|c| c.is_ascii_lowercase() || c == '-')
            && !place.is_empty()
        {
            assert!(text.contains(&format!("{{{place}}}")), "{{{place}}}");
        }
    }
}
