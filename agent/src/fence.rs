//! Closes the metadata service to jobs: whoever reads it there has the machine's role.
//!
//! The kernel refuses packets of the jobs' user to the service's addresses, and all that is
//! forwarded there, as from containers on a bridge. The users that this one may become in a namespace
//! of its own are refused as it is. Root is not refused, for the agent itself is
//! root: a job that may use `sudo`, or a container with the host's network, gets through.

use std::{path::Path, time::Duration};

use tokio::process::Command;

use crate::{
    account::{NoAccount, Person},
    command::{CommandError, run_to_end},
    files::{FileError, private},
    host::Machinery,
};

/// The kernel needs milliseconds.
const WITHIN: Duration = Duration::from_secs(10);

/// Jobs could take the machine's role.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FenceError {
    #[error(transparent)]
    Account(#[from] NoAccount),
    #[error(transparent)]
    File(#[from] FileError),
    #[error(
        "jobs cannot be kept from the machine's role: install `nftables` in the image, or set \
         `jobs-may-use-instance-role: true` if they may have it"
    )]
    Rules(#[source] CommandError),
}

/// Closes it, unless jobs may have the role. To do so again changes nothing.
pub(crate) async fn close(host: &Machinery) -> Result<(), FenceError> {
    if host.jobs_may_use_role {
        return Ok(());
    }
    let account = host.account()?;
    let Some(person) = account.person() else {
        tracing::warn!(
            "jobs run as the agent's own user: the machine's role is open to them, and all else"
        );
        return Ok(());
    };
    enforce(&host.state_dir, person).await
}

async fn enforce(state_dir: &Path, person: &Person) -> Result<(), FenceError> {
    let path = state_dir.join("fence.nft");
    let write = || std::io::Write::write_all(&mut private(&path)?, rules(person).as_bytes());
    write().map_err(FileError::of("write", &path))?;
    let mut command = Command::new("nft");
    command.arg("--file").arg(&path);
    run_to_end("nft", command, &state_dir.join("nft.log"), WITHIN)
        .await
        .map(drop)
        .map_err(FenceError::Rules)
}

/// One transaction that puts the whole table in place of an earlier one.
fn rules(person: &Person) -> String {
    let also = person.subordinate.iter();
    let users: Vec<String> = also
        .map(|range| format!("{}-{}", range.start(), range.end()))
        .chain([person.user.to_string()])
        .collect();
    let jobs = refuse(&format!("meta skuid {{ {} }} ", users.join(", ")));
    let containers = refuse("");
    format!(
        "table inet paddock
delete table inet paddock
table inet paddock {{
  chain jobs {{
    type filter hook output priority filter; policy accept;
    {jobs}
  }}
  chain containers {{
    type filter hook forward priority filter; policy accept;
    {containers}
  }}
}}
"
    )
}

/// Whoever asks hears at once that there is no way, rather than nothing.
fn refuse(who: &str) -> String {
    let of = |family, address, code| {
        format!(
            "{who}{family} daddr {address} meta l4proto tcp reject with tcp reset
    {who}{family} daddr {address} reject with {code} type admin-prohibited"
        )
    };
    of("ip", "169.254.169.254", "icmp") + "\n    " + &of("ip6", "fd00:ec2::254", "icmpv6")
}

#[cfg(test)]
mod tests {
    use std::{net::TcpListener, os::unix::process::CommandExt, process};

    use super::*;

    const NOBODY: u32 = 65_534;
    const ADDRESSES: [&str; 2] = ["169.254.169.254", "fd00:ec2::254"];

    fn person(user: u32) -> Person {
        Person {
            name: "jobs".into(),
            user,
            group: user,
            home: "/nonexistent".into(),
            // As a file may have it, that lists a user by its name and by its number.
            subordinate: vec![100_000..=165_535, 100_000..=165_535],
        }
    }

    fn run(program: &str, arguments: &[&str]) -> bool {
        let ran = process::Command::new(program).args(arguments).status();
        ran.is_ok_and(|status| status.success())
    }

    fn has(program: &str) -> bool {
        run("sh", &["-c", &format!("command -v {program} >/dev/null")])
    }

    /// Sees to it that the network can be set up.
    fn need_programs() {
        if !has("nft") || !has("ip") {
            assert!(
                run("apt-get", &["update", "-qq"])
                    && run(
                        "apt-get",
                        &[
                            "-o",
                            "DPkg::Lock::Timeout=300",
                            "install",
                            "-y",
                            "-qq",
                            "nftables",
                            "iproute2"
                        ],
                    ),
                "this test needs Debian's packages nftables and iproute2"
            );
        }
    }

    /// Whether that user reaches the service.
    fn reaches(user: u32, address: &str) -> bool {
        let mut command = process::Command::new("bash");
        command
            .args(["-c", &format!("exec 3<>/dev/tcp/{address}/80")])
            .stderr(process::Stdio::null())
            .uid(user);
        command.status().unwrap().success()
    }

    /// A container on a bridge, this machine, and the service behind it, each in a network of its own.
    const CONTAINER: &str = r#"
        set -e
        unshare --net sleep 60 & service=$!
        unshare --net sleep 60 & container=$!
        listener=
        trap 'kill $service $container $listener' EXIT
        own=$(readlink /proc/self/ns/net)
        for other in $service $container; do
          while [ "$(readlink /proc/$other/ns/net)" = "$own" ]; do sleep 0.01; done
        done
        join() {
          ip link add "$1" type veth peer name eth0 netns "$2"
          ip addr add "$3/24" dev "$1"
          ip link set "$1" up
          nsenter -t "$2" -n sh -ec "ip addr add $4/24 dev eth0; ip link set eth0 up; ip route add default via $3"
        }
        join service $service 169.254.169.1 169.254.169.254
        join bridge $container 172.17.0.1 172.17.0.2
        echo 1 >/proc/sys/net/ipv4/ip_forward
        nsenter -t $service -n python3 -m http.server 80 --bind 169.254.169.254 >/dev/null 2>&1 & listener=$!
        look='exec 3<>/dev/tcp/169.254.169.254/80'
        until bash -c "$look" 2>/dev/null; do sleep 0.05; done
        nsenter -t $container -n timeout 5 bash -c "$look" && echo open
        nft --file "$0"
        nsenter -t $container -n timeout 5 bash -c "$look" 2>/dev/null || echo closed
        bash -c "$look" && echo still open to the agent
    "#;

    #[test]
    fn containers_do_not_reach_the_metadata_service_either() {
        if !run("unshare", &["--net", "true"]) {
            eprintln!("SKIPPED: this user may make no network of its own");
            return;
        }
        need_programs();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), rules(&person(NOBODY))).unwrap();
        let output = process::Command::new("unshare")
            .args(["--net", "timeout", "60", "bash", "-c", CONTAINER])
            .arg(file.path())
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert_eq!(
            text, "open\nclosed\nstill open to the agent\n",
            "{output:?}"
        );
    }

    /// Starts this very program again, in a network of its own.
    #[test]
    fn jobs_do_not_reach_the_metadata_service_and_the_agent_does() {
        if !run("unshare", &["--net", "true"]) {
            eprintln!("skipped: this user may make no network of its own");
            return;
        }
        need_programs();
        let this = std::env::current_exe().unwrap();
        let inside = process::Command::new("unshare")
            .arg("--net")
            .arg(this)
            .args([
                "--exact",
                "fence::tests::inside",
                "--ignored",
                "--nocapture",
            ])
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&inside.stdout);
        assert!(text.contains("1 passed"), "{inside:?}");
    }

    #[tokio::test]
    #[ignore = "started by the test before, in a network of its own"]
    async fn inside() {
        let set = [
            "link set lo up",
            "addr add 169.254.169.254/32 dev lo",
            "-6 addr add fd00:ec2::254/128 dev lo nodad",
        ];
        for step in set {
            let arguments: Vec<&str> = step.split(' ').collect();
            assert!(run("ip", &arguments), "ip {step}");
        }
        let _services: Vec<TcpListener> = ADDRESSES
            .into_iter()
            .map(|address| TcpListener::bind((address, 80)).unwrap())
            .collect();
        let folder = tempfile::tempdir().unwrap();
        // An address may need a moment to be in use.
        let deadline = std::time::Instant::now() + WITHIN;
        for address in ADDRESSES {
            while !reaches(NOBODY, address) {
                assert!(std::time::Instant::now() < deadline, "{address}");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        for _ in 0..2 {
            enforce(folder.path(), &person(NOBODY)).await.unwrap();
            for address in ADDRESSES {
                for user in [NOBODY, 100_000, 165_535] {
                    assert!(!reaches(user, address), "{user} {address}");
                }
                for user in [0, 99_999, 165_536] {
                    assert!(reaches(user, address), "{user} {address}");
                }
            }
        }
        // Taken off, it is back before a runner listens, whether or not that was registered before.
        assert!(run("nft", &["flush", "ruleset"]));
        let user = nix::unistd::User::from_name("games").unwrap().unwrap();
        let host = Machinery {
            runner_user: user.name,
            ..crate::host::tests::machine_in(folder.path())
        };
        std::fs::create_dir(&host.state_dir).unwrap();
        let (events, _heard) = tokio::sync::mpsc::unbounded_channel();
        crate::listen::listen(&host, 0, &events).await;
        assert!(!reaches(user.uid.as_raw(), ADDRESSES[0]));
        // Another user: the earlier one's rules are gone.
        enforce(folder.path(), &person(NOBODY - 1)).await.unwrap();
        assert!(reaches(NOBODY, ADDRESSES[0]));
    }

    #[tokio::test]
    async fn without_nftables_it_is_said_what_to_do() {
        let error = FenceError::Rules(CommandError::Start {
            what: "nft".into(),
            source: std::io::ErrorKind::NotFound.into(),
        });
        let text = crate::ports::chain(&error);
        assert!(text.contains("install `nftables`") && text.contains("nft cannot be started"));
    }
}
