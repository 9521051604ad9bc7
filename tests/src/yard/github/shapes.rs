//! People, repositories and runs in the whole breadth in which GitHub's REST API shows them. Nobody
//! here reads most of it; a caller that starts to must find it.

use axum::http::{HeaderMap, header};
use serde_json::{Map, Value, json};

/// When everything here was made.
pub(super) const MADE_AT: &str = "2026-11-01T00:00:00Z";

/// `http://host:port`, as the caller knows this server.
pub(super) fn origin(headers: &HeaderMap) -> String {
    let host = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok());
    format!("http://{}", host.unwrap_or("127.0.0.1"))
}

/// A user or an organisation.
pub(super) fn owner(origin: &str, login: &str) -> Value {
    const LINKS: [&str; 9] = [
        "events",
        "followers",
        "following",
        "gists",
        "organizations",
        "received_events",
        "repos",
        "starred",
        "subscriptions",
    ];
    let url = format!("{origin}/users/{login}");
    let mut shown = object(json!({
        "login": login,
        "id": 1,
        "node_id": "MDEyOk9yZ2FuaXphdGlvbjE=",
        "avatar_url": format!("{origin}/{login}.png"),
        "gravatar_id": "",
        "html_url": format!("{origin}/{login}"),
        "type": "Organization",
        "site_admin": false,
    }));
    link(&mut shown, &url, &LINKS);
    Value::Object(shown)
}

/// A repository, `owner/repo`, as other answers hold it.
pub(super) fn repository(origin: &str, full_name: &str) -> Value {
    const LINKS: [&str; 36] = [
        "archive",
        "assignees",
        "blobs",
        "branches",
        "collaborators",
        "comments",
        "commits",
        "compare",
        "contents",
        "contributors",
        "deployments",
        "downloads",
        "events",
        "forks",
        "git_commits",
        "git_refs",
        "git_tags",
        "hooks",
        "issue_comment",
        "issue_events",
        "issues",
        "keys",
        "labels",
        "languages",
        "merges",
        "milestones",
        "notifications",
        "pulls",
        "releases",
        "stargazers",
        "statuses",
        "subscribers",
        "subscription",
        "tags",
        "teams",
        "trees",
    ];
    let (login, name) = full_name.split_once('/').unwrap_or((full_name, ""));
    let url = format!("{origin}/repos/{full_name}");
    let mut shown = object(json!({
        "id": 1,
        "node_id": "MDEwOlJlcG9zaXRvcnkx",
        "name": name,
        "full_name": full_name,
        "owner": owner(origin, login),
        "private": true,
        "html_url": format!("{origin}/{full_name}"),
        "description": null,
        "fork": false,
    }));
    link(&mut shown, &url, &LINKS);
    Value::Object(shown)
}

/// A workflow run.
pub(super) fn run(origin: &str, run: &super::RunView) -> Value {
    const LINKS: [&str; 6] = [
        "jobs",
        "logs",
        "artifacts",
        "cancel",
        "rerun",
        "check_suite",
    ];
    let repository = repository(origin, &run.repository);
    let actions = format!("{origin}/repos/{}/actions", run.repository);
    let url = format!("{actions}/runs/{}", run.id);
    let sha = "0123456789abcdef0123456789abcdef01234567";
    let somebody = json!({ "name": "somebody", "email": "somebody@example.com" });
    let mut shown = object(json!({
        "id": run.id,
        "node_id": "MDExOldvcmtmbG93UnVuMQ==",
        "name": "yard",
        "display_title": "yard",
        "path": ".github/workflows/yard.yml",
        "event": "push",
        "head_branch": "main",
        "head_sha": sha,
        "head_commit": {
            "id": sha,
            "tree_id": sha,
            "message": "a change",
            "timestamp": MADE_AT,
            "author": somebody,
            "committer": somebody,
        },
        "head_repository": repository,
        "repository": repository,
        "run_number": 1,
        "run_attempt": 1,
        "status": run.status.as_str(),
        "conclusion": run.conclusion.map(super::Conclusion::as_str),
        "workflow_id": 1,
        "workflow_url": format!("{actions}/workflows/1"),
        "html_url": format!("{origin}/{}/actions/runs/{}", run.repository, run.id),
        "pull_requests": [],
        "created_at": MADE_AT,
        "updated_at": MADE_AT,
    }));
    link(&mut shown, &url, &LINKS);
    Value::Object(shown)
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            Map::new()
        }
    }
}

fn link(shown: &mut Map<String, Value>, url: &str, links: &[&str]) {
    shown.insert("url".to_owned(), url.into());
    for name in links {
        shown.insert(format!("{name}_url"), format!("{url}/{name}").into());
    }
}
