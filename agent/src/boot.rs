//! What happens once in a machine's life: the operator's script, and the runner program.

mod program;
mod script;

use proto::agent_config::AgentConfig;

use crate::{
    command::CommandError,
    fetch::FetchError,
    files::{FileError, aside},
    host::Machinery,
    manifest,
    runner::RunnerError,
    saved,
};

/// The machine cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BootError {
    #[error(transparent)]
    Script(CommandError),
    /// An earlier agent on this machine saw it.
    #[error("{0}")]
    Earlier(String),
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Runner(#[from] RunnerError),
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error(
        "there is no runner program at {0} and the pool's configuration names none to fetch: bake \
         one into the image, or let the desired state name a release"
    )]
    NoRunner(String),
    #[error("the pool's configuration has no runner program for this machine's architecture, {0}")]
    NoDownload(&'static str),
    #[error("boot was broken off")]
    Broken(#[from] tokio::task::JoinError),
    #[error("the runner program that was fetched has version {found}, and the pool wants {wanted}")]
    WrongVersion { found: String, wanted: String },
}

/// Boots; answers with the runner program's version.
pub(crate) async fn boot(host: &Machinery, config: &AgentConfig) -> Result<String, BootError> {
    // Nothing is replaced under a tenant, whose job may be running it.
    let occupied = saved::is_occupied(host);
    let warm = async {
        if !occupied {
            protect(host).await?;
            program::warm_up(host).await;
        }
        Ok(())
    };
    // The disk of a new machine is slow: what the image brought is read while the script runs.
    tokio::try_join!(script::once(host, config), warm)?;
    let version = program::find(host, config, occupied).await?;
    if !occupied {
        protect(host).await?;
        program::warm_up(host).await;
        let host = host.clone();
        aside(move || manifest::note(&host).map_err(BootError::File)).await?;
    }
    Ok(version)
}

async fn protect(host: &Machinery) -> Result<(), BootError> {
    let host = host.clone();
    aside(move || program::protect(&host)).await
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt, path::Path};

    use super::*;
    use crate::{host::tests::machine_in, runner};

    pub(super) fn host(folder: &Path) -> Machinery {
        let host = machine_in(folder);
        fs::create_dir_all(&host.state_dir).unwrap();
        fs::create_dir_all(host.runner_dir.join("bin")).unwrap();
        host
    }

    pub(super) fn config(script: &str) -> AgentConfig {
        let text = r#"{"v":1,"pool":"p","table":"t","region":"r","githubUrl":"u"}"#;
        AgentConfig {
            pre_runner_script: Some(script.to_owned()),
            ..serde_json::from_str(text).unwrap()
        }
    }

    #[tokio::test]
    async fn the_script_runs_once_and_the_runner_says_its_version() {
        let folder = tempfile::tempdir().unwrap();
        let host = host(folder.path());
        let program = host.listener_program();
        let warmed = folder.path().join("warmed");
        let text = format!(
            "#!/bin/sh\nif [ $1 = warmup ]; then echo once >>{}; else echo 2.336.0; fi\n",
            warmed.display()
        );
        fs::write(&program, text).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let count = folder.path().join("count");
        let config = config(&format!("echo once >> {}", count.display()));
        for _ in 0..2 {
            assert_eq!(boot(&host, &config).await.unwrap(), "2.336.0");
        }
        for file in [&count, &warmed] {
            assert_eq!(fs::read_to_string(file).unwrap(), "once\n");
        }
        let other = Machinery {
            instance: "i-aaaaaaaaaaaaaaaaa".parse().unwrap(),
            ..host
        };
        boot(&other, &config).await.unwrap();
        assert_eq!(fs::read_to_string(&count).unwrap(), "once\nonce\n");
    }

    #[test]
    fn another_listener_on_this_computer_does_not_occupy_the_machine() {
        use std::os::unix::process::CommandExt;
        let folder = tempfile::tempdir().unwrap();
        let host = host(folder.path());
        fs::write(folder.path().join("run"), "read line").unwrap();
        let mut stranger = std::process::Command::new("sh")
            .arg0("/elsewhere/bin/Runner.Listener")
            .arg("run")
            .current_dir(folder.path())
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        assert!(!saved::is_occupied(&host));
        // The end of its input is its end.
        assert!(!stranger.wait().unwrap().success());
    }

    #[tokio::test]
    async fn a_runner_that_chatters_says_its_version_all_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let host = host(folder.path());
        let program = host.listener_program();
        let set = |text: &str| {
            fs::write(&program, text).unwrap();
            fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        };
        set("#!/bin/sh\necho 2.336.0\necho warning: old >&2\n");
        assert_eq!(runner::version(&host).await.unwrap(), "2.336.0");
        set("#!/bin/sh\necho 2.336\necho oops >&2\n");
        let error = runner::version(&host).await.unwrap_err().to_string();
        assert!(error.contains("oops"), "{error}");
    }

    #[tokio::test]
    async fn a_failure_is_remembered_with_its_cause() {
        let folder = tempfile::tempdir().unwrap();
        let host = host(folder.path());
        let first = boot(&host, &config("echo no such disk; exit 3"))
            .await
            .unwrap_err();
        let again = boot(&host, &config("true")).await.unwrap_err();
        assert_eq!(first.to_string(), again.to_string());
        assert!(first.to_string().contains("exit code 3"), "{first}");
        assert!(first.to_string().contains("no such disk"), "{first}");
    }

    #[tokio::test]
    async fn a_missing_runner_is_said_with_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let error = boot(&host(folder.path()), &config("true"))
            .await
            .unwrap_err();
        assert!(error.to_string().contains("bake one"), "{error}");
    }
}
