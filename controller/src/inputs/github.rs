//! The login for GitHub, which several modes take.

use clap::Args;

/// How to reach GitHub. A secret may also be the ARN of one in Secrets Manager, or of a parameter
/// of Systems Manager, or `ssm:` and that parameter's name.
#[derive(Debug, Default, Args)]
pub struct GithubInputs {
    /// Personal access token that may administer the runners, or where AWS keeps it; give it
    /// through the environment.
    #[arg(long, env = "INPUT_GITHUB-TOKEN", hide_env_values = true)]
    pub github_token: Option<String>,
    /// GitHub App in the token's place: its id.
    #[arg(long, env = "INPUT_GITHUB-APP-ID")]
    pub github_app_id: Option<String>,
    /// The app's private key (PEM), or where AWS keeps it; give it through the environment.
    #[arg(long, env = "INPUT_GITHUB-APP-PRIVATE-KEY", hide_env_values = true)]
    pub github_app_private_key: Option<String>,
    /// API that lists the runner's releases [default: `https://api.github.com`].
    #[arg(long, env = "INPUT_RUNNER-RELEASES-URL")]
    pub runner_releases_url: Option<String>,
    /// GitHub's API.
    #[arg(long, env = "GITHUB_API_URL", hide = true)]
    pub github_api_url: Option<String>,
    /// GitHub itself.
    #[arg(long, env = "GITHUB_SERVER_URL", hide = true)]
    pub github_server_url: Option<String>,
}
