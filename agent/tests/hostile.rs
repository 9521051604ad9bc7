//! A job that does what it can to stay, and the next run that finds nothing of it.
//!
//! It needs root, for jobs get a real user of their own here. All of it is one test, for the agent
//! takes every descendant of its process for a job's.

mod kit;

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use kit::{Life, claim, release};
use nix::unistd::{Uid, User};
use proto::{ids::Label, signal::Signal};

/// Behaves like the official runner, as far as this test needs: a script `job` in the folder above
/// is its job, which begins when it appears and has ended when it is gone.
const RUNNER: &str = r#"#!/bin/bash
home=$(dirname "$(dirname "$0")")
case "$1" in
--version) echo 2.336.0 ;;
warmup) mkdir -p "$home/_diag" ;;
configure) id -un >"$home/.runner" ;;
remove)
  [ ! -e "$home/.service" ] || exit 1
  set -a
  . "$home/.env"
  # GitHub hears of it, and who asked.
  [ "$ACTIONS_RUNNER_INPUT_LOCAL" = true ] || id -u >>"${home%/runner*}/deregistered"
  rm -f "$home/.runner" ;;
run)
  trap 'exit 0' INT
  say() { echo "2026-11-21 04:05:06Z: $*"; }
  say Listening for Jobs
  while :; do
    if [ -f "$home/../job" ]; then
      say Running job: build
      mkdir -p "$home/_work/repository" "$home/_diag"
      (cd "$home/_work/repository"; bash "$home/../job") >"$home/_diag/job.log" 2>&1
      while [ -f "$home/../job" ]; do sleep 0.02; done
      say Job build completed with result: Succeeded
    fi
    sleep 0.02
  done ;;
esac
"#;

/// Stands in for docker's client: containers, networks and volumes are files.
const DOCKER: &str = r#"#!/bin/bash
cd "$(dirname "$0")/docker-state" || exit 1
case "$*" in
"swarm leave --force") echo not in a swarm >&2; exit 1 ;;
"ps -aq") ls containers ;;
"rm -f -v "*) cd containers; shift 3; rm "$@" ;;
"network prune -f") rm -f networks/* ;;
"volume prune -a -f") rm -f volumes/* ;;
*) echo "unknown: $*" >&2; exit 125 ;;
esac
"#;

/// Stands in for cron, as long as the folder `$0` is there: does what the user `$1` wants done, which
/// wishes it again at its end. It is no descendant of the agent.
const CRON: &str = r#"
while [ -d "$0" ]; do
  if [ -e "/var/spool/cron/crontabs/$1" ] &&
    setpriv --reuid="$1" --clear-groups sh -c 'for i in 1 2 3; do echo >>"$0/home/came-back"; sleep 0.05; done' "$0" 2>/dev/null
  then
    echo '* * * * * harm' >"/var/spool/cron/crontabs/$1"
  fi
  sleep 0.02
done
"#;

/// What a job can see of earlier ones: files and processes of its user, what the kernel keeps.
const LOOK: &str = r#"
{
  find /tmp /var/tmp /dev/shm /run/lock -maxdepth 4 -user "$(id -u)" -not -path '*/seen/*' 2>/dev/null
  find "$HOME" "$HOME/../runner" -user "$(id -u)" -not -path '*/_work*' -not -path '*/_diag*'
  cat ~/.bashrc
  echo "processes: $(ps -o args= -u "$(id -u)" | grep -cE '^sleep 6|[/]unreadable 600')"
  echo "memory: $(awk -v user="$(id -u)" '$8 == user' /proc/sysvipc/shm | wc -l)"
  python3 -c 'import os; print("attributes:", os.listxattr(os.environ["HOME"]))'
  awk -v user="$(id -u)" '$6 == user { print $8, $9 }' /proc/keys | sort
} >~/../shared/look 2>&1
mv ~/../shared/look ~/../seen/"$1"
"#;

/// The numbers of two system calls: `add_key` and `keyctl`.
const CALLS: [&str; 2] = if cfg!(target_arch = "x86_64") {
    ["248", "250"]
} else {
    ["217", "219"]
};

/// Leaves a key in the keyring of its session, of its user, of its user's sessions, and in the one
/// that outlives the user's last process.
const KEYS: &str = r#"
    my ($type, $secret) = ("user", "secret");
    my $persistent = syscall(KEYCTL, 22, -1, -1);
    for my $ring (-3, -4, -5, $persistent) {
        my $name = "left-in-$ring";
        syscall(ADD_KEY, $type, $name, $secret, 6, $ring) >= 0 or die "$ring: $!";
    }
"#;

/// Folders in folders, whose path is longer than a path may be.
const DEEP: &str = r#"
import os, sys
os.chdir(sys.argv[1])
for _ in range(900):
    os.mkdir("deeper")
    os.chdir("deeper")
"#;

/// Does what it can to stay, and notes what it could not.
const HOSTILE: &str = r#"
could() { echo "$1" >>"$HOME/../seen/could"; }
runner=$HOME/../runner
env -i setsid bash -c 'sleep 601 & exec sleep 602' &
# Nobody can read the program, so its folder in /proc is root's. Forked twice, it has no parent.
(setsid bash -c '"$HOME/../unreadable" 600 & echo $! >"$HOME/../seen/daemon"' &)
echo harm >>~/.bashrc
mkdir -p ~/.ssh ~/.docker ~/.config/git
echo key >~/.ssh/authorized_keys
echo '{"credsStore": "harm"}' >~/.docker/config.json
printf '[credential]\n helper = !harm\n' >~/.gitconfig
echo https://token@github.com >~/.git-credentials
chmod 777 ~
mkdir -p /tmp/$(id -un)/deep
python3 -c "$DEEP" /tmp/$(id -un)/deep
python3 -c 'import os; os.setxattr(os.environ["HOME"], "user.left", b"left")'
for folder in /tmp /var/tmp /dev/shm "$HOME/../shared"; do echo left >"$folder/left-by-$(id -un)"; done
ipcmk -M 4096
[ ! -e /proc/keys ] || perl -e "$KEYS" || echo no keys
until [ "$(ps -o args= -u "$(id -u)" | grep -cE '^sleep 6|[/]unreadable 600')" = 3 ]; do sleep 0.01; done
ln -s / "$HOME/../runner/link"
(echo ACTIONS_RUNNER_INPUT_LOCAL=true >"$runner/.env") 2>/dev/null && could 'steer the runner'
mv "$runner/.env" "$runner/moved" 2>/dev/null && could 'move what steers the runner'
touch "$runner/.service"
echo harm >"$runner/odd"
echo harm >>_left
(echo harm >>"$runner/bin/Runner.Listener") 2>/dev/null && could 'change the program'
rm -f "$runner/bin/Runner.Listener" 2>/dev/null && could 'remove the program'
mv "$runner/bin" "$runner/old" 2>/dev/null && could 'move the program'
touch "$runner/bin/libharm.so" 2>/dev/null && could 'put something beside the program'
cat "$HOME/../state/runner.json" 2>/dev/null && could 'read what the agent keeps'
"#;

/// A user that lives as long as this.
struct Someone(User);

impl Someone {
    fn new(home: &Path) -> Self {
        let name = format!("paddock{}", std::process::id());
        run(
            "useradd",
            &["--no-create-home", "--home-dir", text(home), &name],
        );
        Self(User::from_name(&name).unwrap().unwrap())
    }

    fn own(&self, path: &Path) {
        nix::unistd::chown(path, Some(self.0.uid), Some(self.0.gid)).unwrap();
    }
}

impl Drop for Someone {
    fn drop(&mut self) {
        // A test that failed leaves processes, which keep a user from being deleted, and which the
        // next user of that number would take for its own.
        let quietly = |program: &str, arguments: &[&str]| {
            let _ = Command::new(program).args(arguments).status();
        };
        quietly("pkill", &["-KILL", "-u", &self.0.uid.to_string()]);
        quietly("userdel", &["--force", &self.0.name]);
    }
}

fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program}: {output:?}");
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn open_to_all(path: &Path) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o1777)).unwrap();
}

/// A file of the user's in a spool that root keeps. Dropped, it is gone, whatever became of it.
struct Spool(PathBuf);

impl Spool {
    fn new(folder: &str, name: &str, owner: &Someone) -> Self {
        fs::create_dir_all(folder).unwrap();
        let spool = Self(Path::new(folder).join(name));
        fs::write(&spool.0, "* * * * * harm\n").unwrap();
        owner.own(&spool.0);
        spool
    }

    /// What a user can have there: wishes for later, lines and crashes that systemd notes.
    fn all(owner: &Someone) -> Vec<Self> {
        let (name, user) = (&owner.0.name, owner.0.uid);
        [
            ("/var/spool/cron/crontabs", name.clone()),
            ("/var/spool/cron/atjobs", format!("a-{name}")),
            ("/var/lib/systemd/linger", name.clone()),
            ("/var/log/journal/paddock", format!("user-{user}.journal")),
            (
                "/var/lib/systemd/coredump",
                format!("core.make.{user}.0123.7.1.zst"),
            ),
            ("/run/screen", name.clone()),
        ]
        .map(|(folder, name)| Self::new(folder, &name, owner))
        .into()
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        // Cleaned, if all is well.
        let _ = fs::remove_file(&self.0);
    }
}

/// One run: claims, runs the job, releases; answers with what the job told, each in a file.
async fn serve(life: &Life, run: &str, job: &str, done: &str) -> BTreeMap<String, String> {
    let label: Label = run.parse().unwrap();
    life.step(claim(&label)).await;
    life.until("registered", |r| r.says(Signal::RegOk)).await;
    fs::write(life.path("job.new"), job).unwrap();
    fs::rename(life.path("job.new"), life.path("job")).unwrap();
    life.until("at work", |r| r.job.is_some()).await;
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(30);
    while !life.path("seen").join(done).exists() {
        let log = fs::read_to_string(life.path("runner/_diag/job.log"));
        assert!(tokio::time::Instant::now() < deadline, "{done}: {log:?}");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let told = fs::read_dir(life.path("seen")).unwrap().map(|entry| {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        (name, fs::read_to_string(entry.path()).unwrap())
    });
    let told = told.collect();
    fs::remove_file(life.path("job")).unwrap();
    life.until("without a job", |r| r.job.is_none()).await;
    life.step(release(&label, Some("remove"))).await;
    told
}

/// Gives the machine what one has: a home, a skeleton, Docker, sudo.
fn furnish(life: &mut Life, someone: &Someone) {
    // What stands for the machine's root folder is to be walked through by all.
    fs::set_permissions(life.path("."), fs::Permissions::from_mode(0o755)).unwrap();
    for folder in ["home", "skeleton/.config", "seen", "shared/deep"] {
        fs::create_dir_all(life.path(folder)).unwrap();
    }
    for folder in ["seen", "shared"] {
        open_to_all(&life.path(folder));
    }
    someone.own(&life.path("home"));
    fs::write(life.path("home/of-the-image"), "").unwrap();
    fs::write(life.path("skeleton/.bashrc"), "as new\n").unwrap();
    for folder in ["containers", "networks", "volumes"] {
        let folder = life.path("docker-state").join(folder);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("left"), "").unwrap();
    }
    fs::copy("/bin/sleep", life.path("unreadable")).unwrap();
    fs::set_permissions(life.path("unreadable"), fs::Permissions::from_mode(0o711)).unwrap();
    life.program("docker", DOCKER);
    fs::write(life.path("docker.sock"), "").unwrap();
    fs::create_dir(life.path("sudoers.d")).unwrap();
    life.system.sudoers = life.path("sudoers.d");
    life.user.clone_from(&someone.0.name);
    life.system.skeleton = life.path("skeleton");
    life.system.docker = life.path("docker");
    life.system.docker_socket = life.path("docker.sock");
}

#[tokio::test]
async fn the_next_run_finds_nothing_of_a_hostile_job() {
    if !Uid::effective().is_root() {
        eprintln!("SKIPPED: the_next_run_finds_nothing_of_a_hostile_job needs root to make a user");
        return;
    }
    let mut life = Life::new(RUNNER);
    let someone = Someone::new(&life.path("home"));
    furnish(&mut life, &someone);
    let (folder, name) = (life.path("."), &someone.0.name);
    let cron = Command::new("setsid")
        .args(["--fork", "bash", "-c", CRON, text(&folder), name])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    assert!(cron.unwrap().success());
    let (agent, stop) = life.start();
    life.pool().await;
    let rule = fs::read_to_string(life.path("sudoers.d/paddock-runner")).unwrap();
    assert!(rule.contains(&format!("#{} ALL=", someone.0.uid)), "{rule}");

    serve(&life, "70", "true >$HOME/../seen/ready", "ready").await;
    life.until("clean", |r| r.says(Signal::RemoveRegOk)).await;
    // The first cleaning made the home as new: what came with the image is not part of that.
    assert!(!life.path("home/of-the-image").exists());
    let before = serve(&life, "71", &format!("set before; {LOOK}"), "before").await;
    life.until("clean", |r| r.says(Signal::RemoveRegOk)).await;

    for folder in ["containers", "networks", "volumes"] {
        fs::write(life.path("docker-state").join(folder).join("left"), "").unwrap();
    }
    let spools = Spool::all(&someone);
    let keys = KEYS
        .replace("ADD_KEY", CALLS[0])
        .replace("KEYCTL", CALLS[1]);
    let hostile = format!(
        "KEYS='{keys}'\nDEEP='{DEEP}'\n{HOSTILE}\nset look\n{LOOK}\necho >~/../seen/hostile"
    );
    let hostile = serve(&life, "72", &hostile, "hostile").await;
    for sign in [
        "left-by-",
        "/deep",
        ".git-credentials",
        "/odd",
        "\nharm\nprocesses: 3\nmemory: 1\n",
    ] {
        assert!(
            hostile["look"].contains(sign),
            "{sign}: {}",
            hostile["look"]
        );
    }
    // Four keys, and the keyrings that had to be made for them.
    let keys = hostile["look"].matches("user left-in").count();
    assert_eq!(
        keys,
        if Path::new("/proc/keys").exists() {
            4
        } else {
            0
        }
    );
    life.until("clean", |r| r.says(Signal::RemoveRegOk)).await;
    for spool in spools {
        assert!(!spool.0.exists(), "{}", spool.0.display());
    }
    for folder in ["containers", "networks", "volumes"] {
        let left = fs::read_dir(life.path("docker-state").join(folder)).unwrap();
        assert_eq!(left.count(), 0, "{folder}");
    }
    assert_eq!(hostile.get("could"), None);
    let daemon = &hostile["daemon"];
    assert!(!Path::new("/proc").join(daemon.trim()).exists());

    let after = serve(&life, "73", &format!("set after; {LOOK}"), "after").await;
    life.until("clean", |r| r.says(Signal::RemoveRegOk)).await;
    // Deregistered each time, at GitHub and by root.
    let deregistered = fs::read_to_string(life.path("deregistered")).unwrap();
    assert_eq!(deregistered, "0\n".repeat(4));
    assert_eq!(after["after"], before["before"]);
    assert!(after["after"].contains("as new"), "{after:?}");
    let home = fs::metadata(life.path("home")).unwrap();
    assert_eq!(home.mode() & 0o7777, 0o750);
    let copied = fs::metadata(life.path("home/.config")).unwrap();
    assert_eq!(
        (home.uid(), copied.uid()),
        (someone.0.uid.as_raw(), someone.0.uid.as_raw())
    );

    // Root can change the program; then the machine is of no use to anybody.
    let harm = "true >$HOME/../seen/last";
    let program = life.path("runner/bin/Runner.Listener");
    fs::write(&program, RUNNER.replace("build", "harm!")).unwrap();
    serve(&life, "74", harm, "last").await;
    life.until("out of the pool", |r| r.says(Signal::RemoveRegFailed))
        .await;
    let record = life.record().await;
    assert!(
        record.unhealthy().unwrap().contains("a job changed it"),
        "{record:?}"
    );
    stop.send(()).unwrap();
    agent.await.unwrap();
}
