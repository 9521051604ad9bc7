//! GitHub Apps: claims that an app signs, its installation, that installation's tokens.

use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use rustls::SignatureScheme;
use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::{PrivateKeyDer, pem::PemObject};
use serde::Deserialize;
use serde_json::{Value, json};

use super::rest::{Problem, scope_of};
use super::shapes;
use super::shared::Shared;

/// The one installation of the yard's app: on all that the token may administer.
const INSTALLATION: u64 = 4711;
/// GitHub takes no claims that hold for longer.
const LONGEST: i64 = 600;

/// An app that GitHub knows.
#[derive(Clone, Debug)]
pub struct App {
    /// Its number.
    pub id: String,
    /// Its key. GitHub has the public half only; the signature is the same each time, so the
    /// private half can check it too.
    pub key: String,
}

#[derive(Deserialize)]
struct Claims {
    iat: i64,
    exp: i64,
    iss: String,
}

impl App {
    /// Why these claims are not taken, in GitHub's words.
    fn refuses(&self, token: &str, now: i64) -> Option<&'static str> {
        const UNREADABLE: Option<&str> = Some("A JSON web token could not be decoded");
        let Some((signed, signature)) = token.rsplit_once('.') else {
            return UNREADABLE;
        };
        if self.sign(signed).as_deref() != Some(signature) {
            return UNREADABLE;
        }
        let claims = signed
            .split_once('.')
            .and_then(|(_, claims)| BASE64_URL_SAFE_NO_PAD.decode(claims).ok())
            .and_then(|json| serde_json::from_slice::<Claims>(&json).ok());
        match claims {
            None => UNREADABLE,
            Some(claims) if claims.iss != self.id => Some("Integration not found"),
            Some(claims) if claims.iat > now => Some(
                "'Issued at' claim ('iat') must be an Integer representing the time that the \
                      assertion was issued",
            ),
            Some(claims) if claims.exp <= now || claims.exp > now + LONGEST => {
                Some("'Expiration time' claim ('exp') is too far in the future")
            }
            Some(_) => None,
        }
    }

    fn sign(&self, text: &str) -> Option<String> {
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes()).ok()?;
        let key = any_supported_type(&key).ok()?;
        let signer = key.choose_scheme(&[SignatureScheme::RSA_PKCS1_SHA256])?;
        let signature = signer.sign(text.as_bytes()).ok()?;
        Some(BASE64_URL_SAFE_NO_PAD.encode(signature))
    }
}

fn authenticate(headers: &HeaderMap, shared: &Shared) -> Result<(), Problem> {
    let refuse = |message| Err(Problem::new(StatusCode::UNAUTHORIZED, message));
    let token = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    let app = shared.quietly(|state| state.settings.app.clone());
    let (Some(token), Some(app)) = (token, app) else {
        return refuse("A JSON web token could not be decoded");
    };
    match app.refuses(token, shared.now().as_second()) {
        None => Ok(()),
        Some(why) => refuse(why),
    }
}

/// `GET /repos/{owner}/{repo}/installation` and `GET /orgs/{org}/installation`.
pub(super) async fn installation(
    State(shared): State<Arc<Shared>>,
    Path(path): Path<std::collections::HashMap<String, String>>,
    headers: HeaderMap,
) -> Result<Json<Value>, Problem> {
    authenticate(&headers, &shared)?;
    let scope = scope_of(&path).ok_or_else(Problem::not_found)?;
    if !shared.quietly(|state| state.knows(&scope)) {
        return Err(Problem::not_found());
    }
    let origin = shapes::origin(&headers);
    let login = scope.split('/').next().unwrap_or_default();
    let url = format!("{origin}/app/installations/{INSTALLATION}");
    Ok(Json(json!({
        "id": INSTALLATION,
        "account": shapes::owner(&origin, login),
        "app_id": 1,
        "app_slug": "paddock",
        "target_id": 1,
        "target_type": "Organization",
        "repository_selection": "all",
        "access_tokens_url": format!("{url}/access_tokens"),
        "repositories_url": format!("{origin}/installation/repositories"),
        "html_url": format!("{origin}/organizations/{login}/settings/installations/{INSTALLATION}"),
        "permissions": { "metadata": "read", "organization_self_hosted_runners": "write" },
        "events": [],
        "single_file_name": null,
        "suspended_at": null,
        "suspended_by": null,
        "created_at": shapes::MADE_AT,
        "updated_at": shapes::MADE_AT,
    })))
}

/// `POST /app/installations/{id}/access_tokens`.
pub(super) async fn access_token(
    State(shared): State<Arc<Shared>>,
    Path(id): Path<u64>,
    headers: HeaderMap,
) -> Result<(StatusCode, Json<Value>), Problem> {
    authenticate(&headers, &shared)?;
    if id != INSTALLATION {
        return Err(Problem::not_found());
    }
    let (token, ends) = shared.update(|state| state.issue_installation_token(Instant::now()));
    let body = json!({ "token": token, "expires_at": format!("{ends:.0}") });
    Ok((StatusCode::CREATED, Json(body)))
}
