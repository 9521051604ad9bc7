//! The commands of Systems Manager: documents of `packaging/ssm`, run on the yard's machines.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures::future::BoxFuture;
use serde::Deserialize;
use serde_json::{Value, json};

use super::service::{Request, request_id};

/// So much of what a machine prints comes through.
const OUTPUT: usize = 2500;
/// `SendCommand` takes so many machines.
const MACHINES: usize = 50;

/// What a script printed, and how it ended.
#[derive(Clone, Debug)]
pub struct Printed {
    /// The exit code.
    pub code: i32,
    /// Its stdout.
    pub output: String,
}

/// Machines that Systems Manager reaches.
pub trait Managed: Send + Sync {
    /// Whether this one is up.
    fn is_managed(&self, id: &str) -> bool;
    /// Runs a shell script there; none when it cannot be run.
    fn run(&self, id: String, script: String) -> BoxFuture<'static, Option<Printed>>;
}

/// The service.
#[derive(Default)]
pub(super) struct Ssm {
    machines: OnceLock<Arc<dyn Managed>>,
    /// By command, then by machine; none while it runs.
    commands: Arc<Mutex<Commands>>,
}

type Commands = BTreeMap<String, BTreeMap<String, Option<Printed>>>;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct SendCommand {
    document_name: String,
    instance_ids: Vec<String>,
    #[serde(default)]
    parameters: BTreeMap<String, Vec<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ListCommandInvocations {
    command_id: String,
}

/// A refusal: the shape's name, and words.
type No = (&'static str, String);

impl Ssm {
    pub(super) fn knows(action: &str) -> bool {
        ["SendCommand", "ListCommandInvocations"].contains(&action)
    }

    pub(super) fn manage(&self, machines: Arc<dyn Managed>) {
        // A yard has its machines once.
        let _ = self.machines.set(machines);
    }

    pub(super) fn answer(&self, request: &Request) -> Response {
        let answer = match request.action.as_str() {
            "SendCommand" => parse(request).and_then(|asked| self.send(asked)),
            _ => parse(request).and_then(|asked| self.list(&asked)),
        };
        match answer {
            Ok(answer) => (
                StatusCode::OK,
                [(header::CONTENT_TYPE, "application/x-amz-json-1.1")],
                answer.to_string(),
            )
                .into_response(),
            Err((code, words)) => request.refuse(StatusCode::BAD_REQUEST, code, &words),
        }
    }

    fn send(&self, asked: SendCommand) -> Result<Value, No> {
        if !(1..=MACHINES).contains(&asked.instance_ids.len()) {
            let words = "Member must have length between 1 and 50";
            return Err(("ValidationException", words.to_owned()));
        }
        let document = document(&asked.document_name)
            .ok_or_else(|| ("InvalidDocument", asked.document_name.clone()))?;
        let script = script(&document, &asked.parameters)
            .ok_or_else(|| ("InvalidParameters", asked.document_name.clone()))?;
        let unknown = || {
            (
                "InvalidInstanceId",
                "Instances not in a valid state".to_owned(),
            )
        };
        let machines = self.machines.get().ok_or_else(unknown)?;
        if !asked.instance_ids.iter().all(|id| machines.is_managed(id)) {
            return Err(unknown());
        }
        let command = request_id();
        let running = asked.instance_ids.iter().map(|id| (id.clone(), None));
        held(&self.commands).insert(command.clone(), running.collect());
        for id in asked.instance_ids {
            let (commands, command) = (Arc::clone(&self.commands), command.clone());
            let run = machines.run(id.clone(), script.clone());
            tokio::spawn(async move {
                let printed = run.await;
                if let Some(invocations) = held(&commands).get_mut(&command) {
                    invocations.insert(id, printed);
                }
            });
        }
        Ok(json!({ "Command": { "CommandId": command } }))
    }

    fn list(&self, asked: &ListCommandInvocations) -> Result<Value, No> {
        let commands = held(&self.commands);
        let invocations = commands
            .get(&asked.command_id)
            .ok_or_else(|| ("InvalidCommandId", asked.command_id.clone()))?;
        let shown = invocations.iter().map(|(id, printed)| match printed {
            None => json!({ "InstanceId": id, "Status": "InProgress", "CommandPlugins": [] }),
            Some(Printed { code, output }) => {
                let output: String = output.chars().take(OUTPUT).collect();
                json!({
                    "InstanceId": id,
                    "Status": if *code == 0 { "Success" } else { "Failed" },
                    "CommandPlugins": [{ "ResponseCode": code, "Output": output }],
                })
            }
        });
        Ok(json!({ "CommandInvocations": shown.collect::<Vec<_>>() }))
    }
}

fn held(commands: &Mutex<Commands>) -> MutexGuard<'_, Commands> {
    commands.lock().unwrap_or_else(PoisonError::into_inner)
}

fn parse<T: serde::de::DeserializeOwned>(request: &Request) -> Result<T, No> {
    serde_json::from_slice(&request.body)
        .map_err(|error| ("SerializationException", error.to_string()))
}

/// A document of `packaging/ssm`.
fn document(name: &str) -> Option<Value> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/ssm");
    let text = std::fs::read(folder.join(format!("{name}.json"))).ok()?;
    serde_json::from_slice(&text).ok()
}

/// The lines of a document's only step, with its parameters filled in; none for parameters that it
/// does not take.
fn script(document: &Value, given: &BTreeMap<String, Vec<String>>) -> Option<String> {
    let [step] = document["mainSteps"].as_array()?.as_slice() else {
        return None;
    };
    let lines = step["inputs"]["runCommand"].as_array()?;
    let lines: Option<Vec<&str>> = lines.iter().map(Value::as_str).collect();
    let mut script = lines?.join("\n");
    let known = document["parameters"].as_object();
    let is_known = |name: &String| known.is_some_and(|known| known.contains_key(name));
    if !given.keys().all(is_known) {
        return None;
    }
    for (name, parameter) in known.into_iter().flatten() {
        let value = match given.get(name).map(Vec::as_slice) {
            None => parameter["default"].as_str()?,
            Some([value]) => value,
            Some(_) => return None,
        };
        let allowed = parameter["allowedValues"].as_array()?;
        if !allowed.iter().any(|allowed| allowed == value) {
            return None;
        }
        script = script.replace(&format!("{{{{ {name} }}}}"), value);
    }
    Some(script)
}
