//! How to reach GitHub, and where runners register.

use proto::instance::Secret;

use super::{BadInput, given, scope::scope, source::Source};
use crate::{
    github::{App, Credentials, InvalidKey, Scope},
    inputs::{CommonInputs, GithubInputs},
};

/// GitHub's API, where nothing else is said.
const API: &str = "https://api.github.com";
/// GitHub itself, where nothing else is said.
const SERVER: &str = "https://github.com";

/// How to reach GitHub, and where runners register.
#[derive(Debug)]
pub struct GithubSettings {
    /// The API that gives tokens.
    pub api_url: String,
    /// Where runners register.
    pub scope: Scope,
    /// That place as the runner program is told it: `https://github.com/owner/repo`, or
    /// `https://github.com/owner`.
    pub runners_url: String,
    /// The API that lists the runner's releases. A server of one's own does not.
    pub releases_url: String,
    /// What proves who asks.
    pub login: Login,
}

/// What proves who asks, as far as the inputs say it.
#[derive(Clone, Debug)]
pub enum Login {
    /// A personal access token.
    Token(Source),
    /// A GitHub App.
    App {
        /// Its number, or its client id.
        id: String,
        /// Its private key.
        key: Source,
    },
}

impl GithubSettings {
    /// As [`Self::new`], where GitHub may be left out: then nothing of a login is given.
    pub fn optional(
        common: &CommonInputs,
        inputs: &GithubInputs,
    ) -> Result<Option<Self>, BadInput> {
        let secrets = [
            &inputs.github_token,
            &inputs.github_app_id,
            &inputs.github_app_private_key,
        ];
        if secrets
            .iter()
            .all(|secret| given(secret.as_ref()).is_none())
        {
            return Ok(None);
        }
        Self::new(common, inputs).map(Some)
    }

    /// Checks what is said of GitHub.
    pub fn new(common: &CommonInputs, inputs: &GithubInputs) -> Result<Self, BadInput> {
        let scope = scope(common)?;
        let server = address(
            "GITHUB_SERVER_URL",
            inputs.github_server_url.as_ref(),
            SERVER,
        )?;
        let releases = inputs.runner_releases_url.as_ref();
        Ok(Self {
            api_url: address("GITHUB_API_URL", inputs.github_api_url.as_ref(), API)?,
            runners_url: format!("{server}/{scope}"),
            releases_url: address("runner-releases-url", releases, API)?,
            login: login(inputs)?,
            scope,
        })
    }
}

impl Login {
    /// Where the secret of it is.
    pub fn source(&self) -> &Source {
        match self {
            Self::Token(source) | Self::App { key: source, .. } => source,
        }
    }

    /// The whole of it, once the secret is known.
    pub fn with(&self, secret: Secret) -> Result<Credentials, BadInput> {
        match self {
            Self::Token(_) if secret.expose().chars().all(|c| c.is_ascii_graphic()) => {
                Ok(Credentials::Token(secret))
            }
            Self::Token(_) => Err(BadInput::new(
                "github-token",
                "it has characters that no token has",
                "give it in one line, without quotes",
            )),
            Self::App { id, .. } => {
                App::new(id, &secret)
                    .map(Credentials::App)
                    .map_err(|InvalidKey| {
                        BadInput::new(
                            "github-app-private-key",
                            InvalidKey.to_string(),
                            "give the whole .pem file that GitHub made for the app",
                        )
                    })
            }
        }
    }
}

fn login(inputs: &GithubInputs) -> Result<Login, BadInput> {
    let token = given(inputs.github_token.as_ref());
    let app = given(inputs.github_app_id.as_ref());
    let key = given(inputs.github_app_private_key.as_ref());
    let login = match (token, app, key) {
        (Some(token), None, None) => Login::Token(Source::parse("github-token", token)?),
        (None, Some(id), Some(key)) => Login::App {
            id: app_id(id)?.to_owned(),
            key: Source::parse("github-app-private-key", key)?,
        },
        (None, None, None) => {
            return Err(BadInput::new(
                "github-token",
                "it is missing",
                "give a personal access token that may administer the runners, or \
                 `github-app-id` and `github-app-private-key`",
            ));
        }
        (Some(_), _, _) => {
            return Err(BadInput::new(
                "github-token",
                "it comes with a GitHub App",
                "give the token, or the app's id and private key",
            ));
        }
        (None, None, Some(_)) => {
            return Err(BadInput::new(
                "github-app-id",
                "it is missing",
                "github-app-private-key needs it",
            ));
        }
        (None, Some(_), None) => {
            return Err(BadInput::new(
                "github-app-private-key",
                "it is missing",
                "github-app-id needs it",
            ));
        }
    };
    // What is wrong with a secret that is here can be said at once.
    if let Source::Given(secret) = login.source() {
        login.with(secret.clone())?;
    }
    Ok(login)
}

fn app_id(id: &str) -> Result<&str, BadInput> {
    let valid = id.chars().all(|c| c.is_ascii_alphanumeric() || c == '.');
    valid.then_some(id).ok_or_else(|| {
        BadInput::new(
            "github-app-id",
            format!("`{id}` is no app's id"),
            "give its number, such as 123456, or its client id",
        )
    })
}

/// An address without the slash at its end.
fn address(input: &'static str, text: Option<&String>, default: &str) -> Result<String, BadInput> {
    let url = given(text).unwrap_or(default);
    if reqwest::Url::parse(url).is_ok_and(|url| matches!(url.scheme(), "https" | "http")) {
        return Ok(url.trim_end_matches('/').to_owned());
    }
    Err(BadInput::new(
        input,
        format!("`{url}` is no address"),
        format_args!("give one such as {default}"),
    ))
}
