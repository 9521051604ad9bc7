//! A whole machine: the agent's package in a Debian that its own systemd has booted, with real sudo,
//! cron, at and Docker, and a record in a pool's table.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use proto::{
    instance::Secret,
    signal::Signal,
    state::{State, Transition},
    table::{Outcome, Table},
    time::{Clock, SystemClock},
};
use tests::{
    binaries::Binaries,
    lone::Lone,
    pool::{PATIENCE, Pool},
    yard::github::{Conclusion, Job, JobId, JobView},
};

use super::{debian::Debian, packages::Stage};

/// Enters control groups, and then boots: a namespace of control groups begins where its first
/// process is.
const ENTER: &str = r#"
for group in $GROUPS_TO_ENTER; do echo $$ >"$group/cgroup.procs"; done
exec unshare --mount --uts --ipc --pid --cgroup --fork --kill-child sh -e "$@"
"#;

/// A Debian that runs. Dropped, all of it ends.
struct Booted {
    root: PathBuf,
    /// Its parent, which lives as long as the machine does.
    parent: Child,
    groups: Vec<PathBuf>,
}

impl Booted {
    fn start(root: &Path) -> Self {
        let name = format!("paddock-test-{}", std::process::id());
        // What of the older kind of control groups is in use is not to be had in the newer one.
        let roots = ["memory", "unified", "."].map(|kind| Path::new("/sys/fs/cgroup").join(kind));
        let hybrid = roots[1].is_dir();
        let used = if hybrid { &roots[..2] } else { &roots[2..] };
        let groups: Vec<PathBuf> = used.iter().map(|root| root.join(&name)).collect();
        for group in &groups {
            fs::create_dir(group).expect("a control group");
        }
        let paths: Vec<_> = groups.iter().map(|group| group.to_string_lossy()).collect();
        let parent = Command::new("sh")
            .args(["-ec", ENTER, "sh"])
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/packaging/boot.sh"))
            .arg(root)
            .env("GROUPS_TO_ENTER", paths.join(" "))
            .stdin(Stdio::null())
            .spawn()
            .expect("it starts");
        Self {
            root: root.to_owned(),
            parent,
            groups,
        }
    }

    /// Process 1 of the machine, while it runs.
    fn first_process(&self) -> Option<String> {
        let pid = self.parent.id();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
        children.split_whitespace().next().map(str::to_owned)
    }

    /// Runs a script on the machine; what it printed, or all that it said and its exit code.
    fn try_run(&self, script: &str) -> Result<String, String> {
        let first = self.first_process().ok_or("it is off")?;
        let output = Command::new("nsenter")
            .args(["--all", "--target", &first, "sh", "-ec", script])
            .env_clear()
            .env(
                "PATH",
                "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            )
            .env("DEBIAN_FRONTEND", "noninteractive")
            .stdin(Stdio::null())
            .output()
            .expect("it starts");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        if output.status.success() {
            Ok(text(&output.stdout))
        } else {
            let (out, err) = (text(&output.stdout), text(&output.stderr));
            Err(format!("{}: {out} {err}", output.status))
        }
    }

    fn run(&self, script: &str) -> String {
        self.try_run(script)
            .unwrap_or_else(|why| panic!("{script}: {why}\n{}", self.journal()))
    }

    fn journal(&self) -> String {
        self.try_run("journalctl --no-pager --lines 60")
            .unwrap_or_default()
    }

    /// Waits until a script succeeds.
    fn until(&self, script: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.try_run(script) {
                Ok(said) => return said,
                Err(why) => assert!(
                    Instant::now() < deadline,
                    "{script}: {why}\n{}",
                    self.journal()
                ),
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Tells the unit where the world is.
    fn configure(&self, machine: &Lone, pool: &Pool) {
        let folder = self.root.join("etc/systemd/system/paddock-agent.service.d");
        fs::create_dir_all(&folder).expect("made");
        let (metadata, aws) = (machine.imds().url(), pool.yard.aws.url());
        let text = format!(
            "[Service]\nEnvironment=AWS_EC2_METADATA_SERVICE_ENDPOINT={metadata}\n\
             Environment=AWS_ENDPOINT_URL={aws}\nWatchdogSec=6\n"
        );
        fs::write(folder.join("test.conf"), text).expect("written");
    }

    /// What systemd says of the agent's unit.
    fn unit(&self, property: &str) -> String {
        self.run(&format!(
            "systemctl show --property {property} --value paddock-agent.service"
        ))
    }

    /// Waits until the unit has been restarted so often, and the agent is at work again.
    fn until_restarted(&self, times: u32) {
        self.until(&format!(
            "[ $(systemctl show --property NRestarts --value paddock-agent.service) = {times} ]
             paddock-agent status"
        ));
    }

    /// Waits until it is off.
    fn until_off(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        while self.parent.try_wait().expect("its status").is_none() {
            assert!(Instant::now() < deadline, "{}", self.journal());
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Booted {
    fn drop(&mut self) {
        // The end of process 1 is that of all others. It may have come before.
        let _ = self.parent.kill();
        let _ = self.parent.wait();
        if let Some(newer) = self.groups.last() {
            let _ = fs::write(newer.join("cgroup.kill"), "1");
        }
        for group in &self.groups {
            remove_groups(group);
        }
    }
}

fn remove_groups(group: &Path) {
    for entry in fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_groups(&entry.path());
        }
    }
    let deadline = Instant::now() + Duration::from_secs(5);
    while fs::remove_dir(group).is_err() && group.exists() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The pool's side of the machine.
struct Owner<'a> {
    pool: &'a Pool,
    machine: &'a Lone,
}

impl Owner<'_> {
    async fn step(&self, step: Transition) {
        let change = step.change(SystemClock.now());
        let table = &self.pool.table;
        let done = table.change_instance(self.machine.arn(), &change).await;
        assert!(
            matches!(done, Ok(Outcome::Applied(_))),
            "{step:?}: {done:?}"
        );
    }

    async fn claim(&self, label: &str, timeout: Duration) {
        let config = self.pool.table.config().await.expect("read");
        let token = config.github_tokens.expect("tokens").registration;
        let label = label.parse().expect("a label");
        self.step(Transition::Claim {
            label,
            token,
            timeout,
        })
        .await;
        self.until("registered", Signal::RegOk).await;
    }

    /// Once the record tells that so many jobs have ended: a machine at work is not released.
    async fn release(&self, label: &str, jobs: u32) {
        self.machine
            .until_record(self.pool, "idle hands", |record| {
                record.job.is_none() && record.jobs == jobs
            })
            .await;
        let config = self.pool.table.config().await.expect("read");
        let token: Secret = config.github_tokens.expect("tokens").removal;
        let label = label.parse().expect("a label");
        self.step(Transition::Release {
            label,
            generation: None,
            token: Some(token),
            idle_time: Duration::from_hours(1),
        })
        .await;
        self.until("clean", Signal::RemoveRegOk).await;
    }

    async fn until(&self, what: &str, signal: Signal) {
        self.machine
            .until_record(self.pool, what, |record| record.says(signal))
            .await;
    }

    fn enqueue(&self, run: u64, steps: &[&str]) -> JobId {
        self.pool.yard.github.enqueue(Job {
            run_id: run,
            name: "build".to_owned(),
            labels: vec![run.to_string()],
            steps: steps.iter().map(|step| (*step).to_owned()).collect(),
            ..Job::default()
        })
    }

    async fn finished(&self, job: JobId) -> JobView {
        let done = self.pool.yard.github.wait_job(job, PATIENCE).await;
        done.expect("the job ends")
    }
}

/// What a job may do, and leaves behind.
const JOB: &str = "
sudo --non-interactive id --user
echo '* * * * * touch /tmp/harm' | crontab -
echo 'touch /tmp/harm' | at now + 1 hour
cat /proc/self/cgroup /proc/self/oom_score_adj >/tmp/job
setsid sleep 700 >/dev/null 2>&1 &
tar -cPh /bin/sleep $(ldd /bin/sleep | grep -o '/[^ ]*') | sudo docker import - tiny
sudo docker volume create left
sudo docker network create left
sudo docker run --detach --restart always --network none --volume left:/left --volume /nameless \
  tiny /bin/sleep 701
touch /tmp/at-work
until [ -e /tmp/go ]; do sleep 0.1; done
";

/// A job's containers, volumes and networks.
const OF_DOCKER: &str = "
docker ps --all --quiet; docker volume ls --quiet; docker network ls --filter type=custom --quiet
pgrep --full '^/bin/sleep 701' || true";

/// Docker, as a test can have it: in a folder, without a say in the computer's network. What is
/// installed into a folder must not be started there.
const DOCKER: &str = "
printf '#!/bin/sh\\nexit 101\\n' >/usr/sbin/policy-rc.d
chmod 755 /usr/sbin/policy-rc.d
apt-get update
apt-get install --yes --no-install-recommends docker.io
rm /usr/sbin/policy-rc.d
mkdir -p /etc/docker
cat >/etc/docker/daemon.json <<'END'
{\"storage-driver\": \"vfs\", \"bridge\": \"none\", \"ip-forward\": false, \"iptables\": false, \"ip6tables\": false}
END
";

/// Where the Debian is, for the test that runs inside its network.
const INSIDE: &str = "PADDOCK_TEST_DEBIAN";
/// More than the machine needs, and soon used up, in bytes.
const MEMORY: &str = "500000000";
const LISTENER: &str = "pgrep --oldest --full 'Runner.Listener run'";

/// Starts this very program again, in a network of its own: the agent makes rules for it.
#[test]
#[ignore = "two minutes, as root, with debootstrap: .ci/run does it"]
fn a_machine_under_systemd_serves_its_runs_and_no_end_of_the_agent_harms_a_job() {
    if let Some(root) = std::env::var_os(INSIDE) {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        return runtime.block_on(life(Path::new(&root)));
    }
    let debian = Debian::new();
    fs::copy("/etc/resolv.conf", debian.at("/etc/resolv.conf")).expect("copied");
    debian.run(DOCKER);
    debian.install(&Stage::new("1.0.0").deb());
    fs::copy(Stage::new("1.1.0").deb(), debian.at("/later.deb")).expect("copied");
    let bin = debian.at("/opt/paddock/runner/bin");
    fs::create_dir(&bin).expect("made");
    let runner = Binaries::build().expect("the programs build").runner;
    for name in ["Runner.Listener", "Runner.Worker"] {
        fs::copy(&runner, bin.join(name)).expect("copied");
    }
    let this =
        "booted::a_machine_under_systemd_serves_its_runs_and_no_end_of_the_agent_harms_a_job";
    let status = Command::new("unshare")
        .args(["--net", "sh", "-ec", "ip link set lo up; exec \"$@\"", "sh"])
        .arg(std::env::current_exe().expect("a program"))
        .args(["--exact", this, "--ignored", "--nocapture"])
        .env(INSIDE, debian.at("/"))
        .status();
    assert!(status.is_ok_and(|status| status.success()), "see above");
}

async fn life(root: &Path) {
    let pool = Pool::new(Duration::ZERO).await;
    let github_url = format!("{}/acme/widgets", pool.yard.github.url());
    let stranger = Lone::new(
        &pool.binaries.agent,
        &pool.binaries.runner,
        Vec::new(),
        &pool.yard.aws.url(),
    )
    .await;
    let member = Lone::of(&pool, |config, record| {
        record.state = State::Idle;
        config.github_url = github_url;
        config.times.heartbeat = 0.5;
        config.times.grace = 1.0;
    })
    .await;

    // A machine that is no pool's: the agent does no harm, and says why it does nothing.
    let mut machine = Booted::start(root);
    machine.configure(&stranger, &pool);
    machine.until("systemctl is-active paddock-agent.service");
    machine.until("systemctl daemon-reload; systemctl restart paddock-agent.service");
    let said = machine.until("paddock-agent status || [ $? = 1 ]");
    assert!(said.contains("belongs to no pool"), "{said}");
    machine.configure(&member, &pool);
    machine.run("systemctl daemon-reload; systemctl restart paddock-agent.service");

    let owner = Owner {
        pool: &pool,
        machine: &member,
    };
    owner.until("booted", Signal::RemoveRegOk).await;
    assert_eq!(machine.unit("Result"), "success");
    assert!(
        machine.unit("StatusText").contains("waiting"),
        "{}",
        machine.journal()
    );
    owner.claim("77", Duration::from_mins(30)).await;
    let job = owner.enqueue(77, &[JOB]);
    machine.until("[ -e /tmp/at-work ]");
    let listener = machine.run(LISTENER);

    // The runner has a scope of its own, and is mortal; the agent is not.
    let agent = machine.unit("MainPID");
    // In a sandbox nobody may be protected: not even this script could protect itself.
    let protected = machine
        .try_run("echo -900 >/proc/self/oom_score_adj")
        .map_or("0", |_| "-900");
    assert_eq!(
        machine.run(&format!("cat /proc/{agent}/oom_score_adj")),
        protected
    );
    let told = machine.run("cat /tmp/job");
    let slice = format!(
        "/paddock_{}.slice/run-",
        member.arn().id().as_str().replace('-', "")
    );
    assert!(told.contains(&slice) && told.ends_with("\n0"), "{told}");
    // Every line tells whose it is.
    let fields = format!("INSTANCE={} LABEL=77 --output cat", member.arn().id());
    machine.until(&format!(
        "journalctl {fields} | grep --quiet 'a job starts'"
    ));

    end_agents(&machine);
    assert_eq!(machine.run(LISTENER), listener);
    machine.until("paddock-agent status | grep --quiet '^label *77$'");
    let status = machine.run("paddock-agent status");
    assert!(status.contains("running a job"), "{status}");
    machine.run("touch /tmp/go");
    let done = owner.finished(job).await;
    assert_eq!(done.conclusion, Some(Conclusion::Success), "{}", done.log);
    assert!(done.log.contains("\n0\n"), "{}", done.log);

    // Short of memory, the kernel takes what the job runs; neither agent nor runner.
    if let [memory, _] = &*machine.groups {
        fs::write(memory.join("memory.limit_in_bytes"), MEMORY).expect("limited");
    }
    let agent = machine.unit("MainPID");
    let job = owner.enqueue(77, &["tail /dev/zero || echo ended with $?"]);
    let done = owner.finished(job).await;
    assert_eq!(done.conclusion, Some(Conclusion::Success), "{}", done.log);
    assert!(done.log.contains("ended with 137"), "{}", done.log);
    assert_eq!(
        (machine.unit("MainPID"), machine.run(LISTENER)),
        (agent, listener)
    );

    // Nothing of the run is left: its container, that one's two volumes, a network, a process.
    let docker = machine.run(OF_DOCKER);
    assert_eq!(docker.lines().count(), 5, "{docker}");
    machine.run("crontab -l -u runner && [ -n \"$(atq)\" ]");
    owner.release("77", 2).await;
    machine.run("[ -z \"$(pgrep --uid runner; crontab -l -u runner 2>/dev/null; atq)\" ]");
    machine.run("[ -z \"$(find /tmp /var/tmp /dev/shm -user runner)\" ]");
    assert_eq!(machine.run(OF_DOCKER), "");
    // Images stay, for they make a machine warm.
    machine.run("docker image inspect tiny");
    let scopes = machine.run("systemctl list-units --plain --no-legend 'run-*.scope'");
    assert_eq!(scopes, "");

    // Its time passes while nobody ends it: it switches itself off.
    owner.claim("78", Duration::from_secs(10)).await;
    machine.until_off();
    let record = pool.table.instance(member.arn()).await.expect("read");
    let record = record.expect("a record");
    let why = record.unhealthy().unwrap_or_default();
    assert!(why.contains("the threshold passed"), "{record:?}");
    pool.yard.stop().await;
}

/// A crash of the agent, a stop, an upgrade, a hang.
fn end_agents(machine: &Booted) {
    machine.run("systemctl kill --kill-who main --signal KILL paddock-agent.service");
    machine.until_restarted(1);
    machine.run("systemctl stop paddock-agent.service");
    let gone = machine.try_run("paddock-agent status");
    assert!(gone.is_err_and(|why| why.contains("no agent runs")));
    machine.run("systemctl start paddock-agent.service");
    machine.until_restarted(0);
    let before = machine.unit("MainPID");
    machine.run("dpkg --install /later.deb");
    machine.until_restarted(0);
    assert_ne!(machine.unit("MainPID"), before);
    machine.run("systemctl kill --kill-who main --signal STOP paddock-agent.service");
    machine.until_restarted(1);
    let journal = machine.run("journalctl --unit paddock-agent.service --output cat");
    assert!(journal.contains("Watchdog timeout"), "{journal}");
}
