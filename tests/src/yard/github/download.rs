//! The download site: the stand-in runner as the archive that GitHub publishes.

use std::io;
use std::path::Path;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::process::Command;

use super::rest::Problem;
use super::shapes;
use super::shared::Shared;
use super::wire::RUNNER_VERSION;

/// The packed runner.
#[derive(Clone, Debug)]
pub(super) struct Archive {
    bytes: Bytes,
    sha256: String,
}

pub(super) fn router() -> Router<Arc<Shared>> {
    Router::new()
        .route(
            "/actions/runner/releases/download/{version}/{file}",
            get(download),
        )
        .route(
            "/{owner}/{repository}/releases/download/{version}/{file}",
            get(asset),
        )
}

/// The architectures that GitHub publishes archives for. Here both hold the same program.
const ARCHITECTURES: [&str; 2] = ["x64", "arm64"];
/// When the stand-in's release came out.
const PUBLISHED_AT: &str = "2026-11-01T00:00:00Z";

fn file_name(arch: &str, version: &str) -> String {
    format!("actions-runner-linux-{arch}-{version}.tar.gz")
}

fn link(headers: &HeaderMap, arch: &str, version: &str) -> String {
    format!(
        "{}/actions/runner/releases/download/v{version}/{}",
        shapes::origin(headers),
        file_name(arch, version)
    )
}

/// `GET …/actions/runners/downloads`.
pub(super) async fn list(shared: &Shared, headers: &HeaderMap) -> Result<Json<Value>, Problem> {
    let archive = archive(shared).await?;
    let downloads = ARCHITECTURES.map(|arch| {
        json!({
            "os": "linux",
            "architecture": arch,
            "download_url": link(headers, arch, RUNNER_VERSION),
            "filename": file_name(arch, RUNNER_VERSION),
            "sha256_checksum": archive.sha256,
        })
    });
    Ok(Json(json!(downloads)))
}

/// `GET /repos/actions/runner/releases/latest`, open to everybody.
pub(super) async fn latest_release(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
) -> Json<Value> {
    let sum = sum(&shared).await;
    Json(release(&headers, RUNNER_VERSION, PUBLISHED_AT, sum))
}

/// `GET /repos/actions/runner/releases`, newest first.
pub(super) async fn releases(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Json<Value> {
    let sum = sum(&shared).await;
    let others = shared.quietly(|state| state.settings.other_releases.clone());
    let mut all = vec![(RUNNER_VERSION.to_owned(), PUBLISHED_AT.to_owned())];
    all.extend(others);
    all.sort_by(|a, b| b.1.cmp(&a.1));
    let all: Vec<Value> = all
        .iter()
        .map(|(version, published_at)| release(&headers, version, published_at, sum))
        .collect();
    Json(json!(all))
}

/// A digest is known only once something was packed; a version is known always.
async fn sum(shared: &Shared) -> Option<&str> {
    archive(shared).await.ok().map(|archive| &*archive.sha256)
}

fn release(headers: &HeaderMap, version: &str, published_at: &str, sum: Option<&str>) -> Value {
    let origin = shapes::origin(headers);
    let url = format!("{origin}/repos/actions/runner/releases/1");
    let author = shapes::owner(&origin, "actions");
    let assets: Vec<Value> = ARCHITECTURES
        .iter()
        .filter_map(|arch| {
            let sum = sum?;
            Some(json!({
                "id": 1,
                "node_id": "UkExMQ==",
                "url": format!("{origin}/repos/actions/runner/releases/assets/1"),
                "label": null,
                "state": "uploaded",
                "content_type": "application/octet-stream",
                "size": 1,
                "download_count": 1,
                "uploader": author,
                "created_at": published_at,
                "updated_at": published_at,
                "name": file_name(arch, version),
                "digest": format!("sha256:{sum}"),
                "browser_download_url": link(headers, arch, version),
            }))
        })
        .collect();
    json!({
        "id": 1,
        "node_id": "UkUx",
        "url": url,
        "html_url": format!("{origin}/actions/runner/releases/tag/v{version}"),
        "assets_url": format!("{url}/assets"),
        "upload_url": format!("{url}/assets{{?name,label}}"),
        "tarball_url": format!("{origin}/repos/actions/runner/tarball/v{version}"),
        "zipball_url": format!("{origin}/repos/actions/runner/zipball/v{version}"),
        "author": author,
        "target_commitish": "main",
        "created_at": published_at,
        "tag_name": format!("v{version}"),
        "name": format!("v{version}"),
        "draft": false,
        "prerelease": false,
        "published_at": published_at,
        "assets": assets,
    })
}

async fn download(
    State(shared): State<Arc<Shared>>,
    axum::extract::Path((version, file)): axum::extract::Path<(String, String)>,
) -> Result<Response, Problem> {
    let known = ARCHITECTURES.map(|arch| file_name(arch, RUNNER_VERSION));
    if version != format!("v{RUNNER_VERSION}") || !known.contains(&file) {
        return Err(Problem::new(StatusCode::NOT_FOUND, "Not Found"));
    }
    let archive = archive(&shared).await?;
    Ok((
        [(header::CONTENT_TYPE, "application/octet-stream")],
        archive.bytes.clone(),
    )
        .into_response())
}

/// A file of a release that a test published.
async fn asset(State(shared): State<Arc<Shared>>, uri: Uri) -> Result<Response, Problem> {
    let missing = || Problem::new(StatusCode::NOT_FOUND, "Not Found");
    let file = shared
        .quietly(|state| state.assets.get(uri.path()).cloned())
        .ok_or_else(missing)?;
    let bytes = tokio::fs::read(file).await.map_err(|_| missing())?;
    Ok(([(header::CONTENT_TYPE, "application/octet-stream")], bytes).into_response())
}

async fn archive(shared: &Shared) -> Result<&Archive, Problem> {
    let Some(binary) = shared.quietly(|state| state.settings.runner_binary.clone()) else {
        return Err(Problem::new(StatusCode::NOT_FOUND, "Nothing to download"));
    };
    shared
        .archive
        .get_or_try_init(|| pack(&binary))
        .await
        .map_err(|error| {
            Problem::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                format!("packing the runner: {error}"),
            )
        })
}

/// Both programs of the runner are one file here, so the archive holds it once and a link.
async fn pack(binary: &Path) -> io::Result<Archive> {
    let folder = tempfile::tempdir()?;
    let bin = folder.path().join("bin");
    tokio::fs::create_dir(&bin).await?;
    tokio::fs::copy(binary, bin.join("Runner.Listener")).await?;
    tokio::fs::hard_link(bin.join("Runner.Listener"), bin.join("Runner.Worker")).await?;
    let file = folder.path().join("packed.tar.gz");
    let inside = |command: &mut Command| {
        command.current_dir(folder.path()).kill_on_drop(true);
    };
    let mut tar = Command::new("tar");
    tar.args(["--use-compress-program", "gzip -1", "-cf"])
        .arg(&file)
        .arg("bin");
    inside(&mut tar);
    succeed(&mut tar).await?;
    let mut sum = Command::new("sha256sum");
    sum.arg(&file);
    inside(&mut sum);
    let printed = succeed(&mut sum).await?;
    Ok(Archive {
        bytes: tokio::fs::read(&file).await?.into(),
        sha256: printed
            .split_whitespace()
            .next()
            .unwrap_or_default()
            .to_owned(),
    })
}

async fn succeed(command: &mut Command) -> io::Result<String> {
    let output = command.output().await?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(io::Error::other(format!(
            "{}: {}",
            command.as_std().get_program().display(),
            String::from_utf8_lossy(&output.stderr)
        )))
    }
}
