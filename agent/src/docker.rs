//! Containers, networks and volumes of the last run.

use std::time::Duration;

use tokio::process::Command;

use crate::{
    command::{CommandError, run_to_end},
    host::Machinery,
};

/// How long one of docker's steps may take.
const WITHIN: Duration = Duration::from_mins(1);

const STEPS: [&str; 4] = [
    // Services would start their containers anew. Fails where there is no swarm.
    "\"$0\" swarm leave --force >/dev/null 2>&1 || true",
    "ids=$(\"$0\" ps -aq) && { [ -z \"$ids\" ] || \"$0\" rm -f -v $ids; }",
    "\"$0\" network prune -f",
    // Without -a, newer versions leave named volumes; older ones do not know it.
    "\"$0\" volume prune -a -f || \"$0\" volume prune -f",
];

/// Removes all of them; images and the build cache stay, they are what makes a machine warm.
pub(crate) async fn clean(host: &Machinery) -> Result<(), CommandError> {
    if !host.system.docker_socket.exists() || !host.system.docker.exists() {
        return Ok(());
    }
    for step in STEPS {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", step]).arg(&host.system.docker);
        // Not where the client's own settings say.
        let socket = host.system.docker_socket.display();
        command.env("DOCKER_HOST", format!("unix://{socket}"));
        let what = "cleaning up after containers";
        run_to_end(what, command, &host.log("docker"), WITHIN).await?;
    }
    Ok(())
}
