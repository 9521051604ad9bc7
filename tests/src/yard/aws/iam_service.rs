//! IAM's own calls: roles, instance profiles, and what the policies here would allow.

use std::collections::{BTreeMap, BTreeSet};

use axum::http::StatusCode;
use axum::response::Response;

use super::form::Form;
use super::iam::Iam;
use super::service::{Request, request_id, xml_answer};
use super::xml::Xml;

/// A list in a call is not longer.
const MEMBERS: usize = 100;
/// The role of whoever calls, which stands in a folder: its ARN tells that, a session's does not.
pub(super) const OPERATOR: &str = "operator";
const FOLDER: &str = "/ci/";
/// When everything here was made.
const MADE_AT: &str = "2026-11-01T00:00:00Z";

/// Answers a call.
pub(super) fn answer(request: &Request, iam: &Iam) -> Response {
    let form = Form::parse(&request.body).unwrap_or_default();
    let fill: Box<dyn Fn(&mut Xml)> = match request.action.as_str() {
        "GetInstanceProfile" => {
            let name = form.text("InstanceProfileName").unwrap_or_default();
            let (name, account) = (name.to_owned(), iam.account().to_owned());
            Box::new(move |xml| profile(xml, &name, &account))
        }
        "GetRole" => {
            let name = form.text("RoleName").unwrap_or_default().to_owned();
            let account = iam.account().to_owned();
            Box::new(move |xml| {
                xml.node("Role", |xml| role(xml, &name, &account));
            })
        }
        "SimulatePrincipalPolicy" => {
            let principal = form.text("PolicySourceArn").unwrap_or_default();
            if principal.ends_with(&format!(":role/{OPERATOR}")) {
                let words = format!("{principal} does not exist");
                return request.refuse(StatusCode::NOT_FOUND, "NoSuchEntity", &words);
            }
            let list = |name: &str| -> Vec<String> {
                (1..=MEMBERS)
                    .map_while(|number| form.text(&format!("{name}.member.{number}")))
                    .map(str::to_owned)
                    .collect()
            };
            let (actions, resources) = (list("ActionNames"), list("ResourceArns"));
            if actions.is_empty() || form.text("PolicySourceArn").is_none() {
                let words = "An action and the ARN of a principal are needed.";
                return request.refuse(StatusCode::BAD_REQUEST, "InvalidInput", words);
            }
            // The machines' role is named as their instance profile.
            let machine = !principal.ends_with(&format!("{FOLDER}{OPERATOR}"));
            let context: BTreeMap<String, BTreeSet<String>> = (1..=MEMBERS)
                .map(|number| format!("ContextEntries.member.{number}.ContextKey"))
                .map_while(|entry| {
                    let key = form.text(&format!("{entry}Name"))?;
                    Some((key.to_owned(), list(&format!("{entry}Values"))))
                })
                .map(|(key, values)| (key, values.into_iter().collect()))
                .collect();
            let decisions: Vec<(String, bool)> = actions
                .into_iter()
                .map(|action| {
                    let may = |on: &String| iam.would_allow(machine, &action, on, &context);
                    let allowed = resources.iter().all(may);
                    (action, allowed)
                })
                .collect();
            Box::new(move |xml| evaluations(xml, &decisions))
        }
        action => {
            let message = format!("The action {action} is not valid.");
            return request.refuse(StatusCode::BAD_REQUEST, "InvalidAction", &message);
        }
    };
    let body = Xml::of(|xml| {
        xml.node(&format!("{}Response", request.action), |xml| {
            xml.node(&format!("{}Result", request.action), |xml| fill(xml));
            xml.node("ResponseMetadata", |xml| {
                xml.text("RequestId", request_id());
            });
        });
    });
    xml_answer(StatusCode::OK, body)
}

fn profile(xml: &mut Xml, name: &str, account: &str) {
    xml.node("InstanceProfile", |xml| {
        xml.text("Path", "/")
            .text("InstanceProfileName", name)
            .text("InstanceProfileId", "AIPAYARDYARDYARDYARDY")
            .text("CreateDate", MADE_AT)
            .text(
                "Arn",
                format!("arn:aws:iam::{account}:instance-profile/{name}"),
            );
        xml.node("Roles", |xml| {
            xml.node("member", |xml| role(xml, name, account));
        });
    });
}

fn role(xml: &mut Xml, name: &str, account: &str) {
    let path = if name == OPERATOR { FOLDER } else { "/" };
    xml.text("Path", path)
        .text("RoleName", name)
        .text("RoleId", "AROAYARDYARDYARDYARDY")
        .text("CreateDate", MADE_AT)
        .text("Arn", format!("arn:aws:iam::{account}:role{path}{name}"));
}

fn evaluations(xml: &mut Xml, decisions: &[(String, bool)]) {
    xml.text("IsTruncated", false);
    xml.node("EvaluationResults", |xml| {
        for (action, allowed) in decisions {
            xml.node("member", |xml| {
                let decision = if *allowed { "allowed" } else { "implicitDeny" };
                xml.text("EvalActionName", action)
                    .text("EvalDecision", decision);
            });
        }
    });
}
