//! Looks how the machine is: its disks, memory, Docker, and whether its runner is alive.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use nix::sys::statvfs::statvfs;
use proto::time::Time;
use sysinfo::System;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
};

use crate::{
    drain,
    files::write_json,
    host::Machinery,
    machine::{Disk, ListenerId, Vitals},
    ports::{Cause, chain},
};

/// Where jobs write besides the runner's folder.
const TEMPORARY: &str = "/tmp";
/// How many bytes the agent needs for what it writes at a claim.
const STATE: usize = 8192;
/// How long Docker may take to say that it is there.
const DOCKER_WITHIN: Duration = Duration::from_secs(3);
/// The smallest question that Docker's own clients ask.
const PING: &[u8] = b"GET /_ping HTTP/1.0\r\nHost: docker\r\n\r\n";

pub(crate) async fn examine(
    host: &Machinery,
    listener: Option<ListenerId>,
) -> Result<Vitals, Cause> {
    let docker = match &host.docker {
        Some(socket) => ping(socket).await.err(),
        None => None,
    };
    let host = host.clone();
    // A file system may keep whoever asks waiting.
    let vitals = tokio::task::spawn_blocking(move || look(&host, listener));
    let vitals = vitals.await.map_err(|error| error.to_string())??;
    Ok(Vitals { docker, ..vitals })
}

fn look(host: &Machinery, listener: Option<ListenerId>) -> Result<Vitals, Cause> {
    let disks = [host.runner_dir.as_path(), Path::new(TEMPORARY)];
    let disks: Result<Vec<Disk>, Cause> = disks.into_iter().map(disk).collect();
    let mut system = System::new().map_err(|error| format!("the memory: {error}"))?;
    system.refresh_memory();
    let worker = match listener {
        Some(listener) => {
            let account = host.account().map_err(|error| chain(&error))?;
            Some(host.belongings(&account).works(listener))
        }
        None => None,
    };
    Ok(Vitals {
        drained: drain::is_wanted(&host.state_dir, &host.instance)
            .map_err(|error| chain(&error))?,
        forgetful: write_json(&host.state_dir.join("trial"), &" ".repeat(STATE), 0o600)
            .err()
            .map(|error| chain(&error)),
        disks: disks?,
        memory: Some(system.available_memory()),
        runner_built: modified(&host.listener_program())
            .and_then(|at| at.duration_since(SystemTime::UNIX_EPOCH).ok())
            .map(|since| Time::EPOCH + since),
        worker,
        silent: listener.and_then(|_| silent(host)),
        ..Vitals::default()
    })
}

fn disk(path: &Path) -> Result<Disk, Cause> {
    let found = statvfs(path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(Disk {
        path: path.display().to_string(),
        free: found.blocks_available() * found.fragment_size(),
        files: (found.files() > 0).then(|| found.files_available()),
    })
}

fn modified(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).ok()?.modified().ok()
}

/// How long ago the listener last wrote to its output or its newest log.
fn silent(host: &Machinery) -> Option<Duration> {
    let logs = fs::read_dir(host.runner_dir.join("_diag"))
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with("Runner_")
        });
    let written = logs
        .chain([host.log("listener")])
        .filter_map(|path: PathBuf| modified(&path))
        .max()?;
    // Written in the future: the clock was set back meanwhile.
    Some(written.elapsed().unwrap_or_default())
}

async fn ping(socket: &Path) -> Result<(), Cause> {
    let ask = async {
        let mut stream = UnixStream::connect(socket).await?;
        stream.write_all(PING).await?;
        let mut answer = Vec::new();
        // A head and two letters; whoever says more is not Docker.
        stream.take(4096).read_to_end(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    let path = socket.display();
    let answer = tokio::time::timeout(DOCKER_WITHIN, ask)
        .await
        .map_err(|_| format!("{path} is silent"))?
        .map_err(|error| format!("{path}: {error}"))?;
    let text = String::from_utf8_lossy(&answer);
    let head = text.lines().next().unwrap_or_default();
    if head.starts_with("HTTP/1.") && head.contains(" 200") {
        Ok(())
    } else {
        Err(format!("{path} answers `{head}`"))
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::UnixListener;

    use super::*;

    async fn docker(socket: &Path, answer: &'static [u8]) -> Result<(), Cause> {
        let listener = UnixListener::bind(socket).unwrap();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut question = [0; 64];
            let _ = stream.read(&mut question).await;
            stream.write_all(answer).await.unwrap();
        });
        let result = ping(socket).await;
        server.abort();
        fs::remove_file(socket).unwrap();
        result
    }

    #[tokio::test]
    async fn docker_is_there_or_it_is_said_why_not() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("docker.sock");
        assert!(ping(&socket).await.unwrap_err().contains("No such file"));
        docker(&socket, b"HTTP/1.1 200 OK\r\n\r\nOK").await.unwrap();
        let error = docker(&socket, b"HTTP/1.1 500 Oh\r\n\r\n").await;
        assert!(error.unwrap_err().contains("500 Oh"));
    }

    #[test]
    fn a_disk_has_room_and_a_missing_folder_is_named() {
        let disk_of_tmp = disk(Path::new(TEMPORARY)).unwrap();
        assert!(disk_of_tmp.free > 0);
        let error = disk(Path::new("/no/such")).unwrap_err();
        assert!(error.contains("/no/such"), "{error}");
    }
}
