//! A GitHub App: its key signs short-lived claims, which GitHub takes for the token of an
//! installation.
//!
//! Source: <https://docs.github.com/apps/creating-github-apps/authenticating-with-a-github-app>.

use std::{fmt, sync::Arc, time::Duration};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use proto::{instance::Secret, time::Time};
use rustls::{
    SignatureScheme,
    crypto::ring::sign::any_supported_type,
    pki_types::{PrivateKeyDer, pem::PemObject},
    sign::SigningKey,
};
use serde_json::json;

/// GitHub takes claims that end within ten minutes.
const LIFE: Duration = Duration::from_mins(9);
/// GitHub's clock may be behind this machine's.
const SKEW: Duration = Duration::from_mins(1);

/// A GitHub App and its key. The key is never shown.
#[derive(Clone)]
pub struct App {
    id: String,
    key: Arc<dyn SigningKey>,
}

impl fmt::Debug for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("App")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// The text is no key that can sign for an app. It is not quoted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is no RSA private key in PEM form (PKCS#1 or PKCS#8) of 2048 bits or more")]
pub struct InvalidKey;

impl App {
    /// The app with this id and this private key, as GitHub gives it out.
    pub fn new(id: impl Into<String>, pem: &Secret) -> Result<Self, InvalidKey> {
        // Some stores of secrets keep one line only.
        let pem = pem.expose().replace("\\n", "\n");
        let key = PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| InvalidKey)?;
        let key = any_supported_type(&key).map_err(|_| InvalidKey)?;
        key.choose_scheme(&[SignatureScheme::RSA_PKCS1_SHA256])
            .ok_or(InvalidKey)?;
        Ok(Self { id: id.into(), key })
    }

    /// The app's id.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// A JSON web token that says who asks, signed with RS256.
    pub(super) fn claims(&self, now: Time) -> Result<Secret, InvalidKey> {
        let header = json!({ "alg": "RS256", "typ": "JWT" });
        let claims = json!({
            "iat": (now - SKEW).as_secs(),
            "exp": (now + LIFE).as_secs(),
            "iss": self.id,
        });
        let encode = |part: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(part);
        let signed = format!(
            "{}.{}",
            encode(header.to_string().as_bytes()),
            encode(claims.to_string().as_bytes())
        );
        let signature = self
            .key
            .choose_scheme(&[SignatureScheme::RSA_PKCS1_SHA256])
            .and_then(|signer| signer.sign(signed.as_bytes()).ok())
            .ok_or(InvalidKey)?;
        Ok(Secret::new(format!("{signed}.{}", encode(&signature))))
    }
}
