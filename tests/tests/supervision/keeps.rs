//! An agent whose folder takes nothing any more: the disk is full, has no room for one more file, or
//! can only be read.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use futures::future::join_all;
use nix::unistd::Uid;
use proto::{
    instance::Secret,
    signal::Signal,
    state::{State, Transition},
    table::{Outcome, Table},
    time::{Clock, SystemClock},
};
use tests::{lone::Lone, pool::Pool};

use super::{machine, runner::runner};

/// A job that lasts until it may end.
const ONE_JOB: &str = r#"
say Listening for Jobs
wait_for job
say Running job: build
"$home/bin/Runner.Worker" 600 &
echo $! >"$home/../worker"
wait_for done
kill $!
say Job build completed with result: Succeeded
while :; do sleep 0.1; done"#;

/// What happens to the folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Harm {
    Full,
    NoMoreFiles,
    ReadOnly,
}

/// A small disk of its own. Dropped, it is not there any more.
struct Disk(PathBuf);

impl Disk {
    fn at(path: PathBuf) -> Self {
        fs::create_dir(&path).expect("a folder");
        mount(
            &["-t", "tmpfs", "-o", "size=96k,nr_inodes=64", "none"],
            &path,
        );
        Self(path)
    }

    fn harm(&self, harm: Harm) {
        match harm {
            Harm::Full => {
                // Up to the last page.
                let _ = fs::write(self.0.join("filling"), vec![0; 1 << 20]);
            }
            Harm::NoMoreFiles => {
                let more = (0..).map(|number| self.0.join(format!("filling-{number}")));
                let made = more.take_while(|path| fs::write(path, "").is_ok()).count();
                assert!(made < 64);
            }
            // A file system itself stays writable as long as somebody writes to a file of it.
            Harm::ReadOnly => {
                let own = self.0.to_str().expect("text");
                mount(&["--bind", own], &self.0);
                mount(&["-o", "remount,bind,ro"], &self.0);
            }
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        while Command::new("umount")
            .arg("--lazy")
            .arg(&self.0)
            .output()
            .is_ok_and(|it| it.status.success())
        {}
    }
}

fn mount(arguments: &[&str], path: &Path) {
    let output = Command::new("mount").args(arguments).arg(path).output();
    let output = output.expect("it runs");
    assert!(output.status.success(), "{output:?}");
}

fn is_alive(pid: &str) -> bool {
    fs::read_to_string(format!("/proc/{}/stat", pid.trim()))
        .is_ok_and(|stat| !stat.contains(") Z "))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_cannot_keep_its_state_says_so_and_harms_no_job() {
    if !Uid::effective().is_root() {
        eprintln!("SKIPPED: only root makes a disk that fills");
        return;
    }
    let pool = Pool::new(Duration::ZERO).await;
    let harms = [Harm::Full, Harm::NoMoreFiles, Harm::ReadOnly];
    join_all(harms.map(|harm| job_outlives(&pool, harm))).await;
    join_all(harms.map(|harm| takes_no_tenant(&pool, harm))).await;
    pool.yard.stop().await;
}

async fn says_why(machine: &Lone, pool: &Pool) {
    machine
        .until_record(pool, "unhealthy", |record| {
            record
                .unhealthy()
                .is_some_and(|why| why.starts_with("the agent cannot keep its state: cannot write"))
        })
        .await;
}

async fn step(machine: &Lone, pool: &Pool, step: Transition) {
    let change = step.change(SystemClock.now());
    let outcome = pool.table.change_instance(machine.arn(), &change).await;
    let outcome = outcome.expect("an answer");
    assert!(matches!(outcome, Outcome::Applied(_)), "{outcome:?}");
}

/// Said once, whatever was tried how often.
fn said_once(machine: &Lone) {
    let console = machine.console();
    let count = |words: &str| console.matches(words).count();
    assert_eq!(
        count("WARN the agent cannot keep its state"),
        1,
        "{console}"
    );
    assert!(count("cannot write") < 4, "{console}");
}

async fn job_outlives(pool: &Pool, harm: Harm) {
    let mut machine = machine(pool, |_, record| record.state = State::Claimed).await;
    let disk = Disk::at(machine.path("state"));
    let worker = machine.path("runner/bin/Runner.Worker");
    fs::remove_file(&worker).expect("removed");
    fs::copy("/bin/sleep", &worker).expect("copied");
    machine.replace_runner(&runner(ONE_JOB));
    machine.start(&[]);
    machine
        .until_record(pool, "registered", |record| record.says(Signal::RegOk))
        .await;
    fs::write(machine.path("job"), "").expect("written");
    machine
        .until_record(pool, "a job", |record| record.job.is_some())
        .await;
    disk.harm(harm);
    says_why(&machine, pool).await;
    said_once(&machine);
    // Not even the end of the agent is the job's; the next one finds it.
    machine.kill().await;
    machine.start(&[]);
    let adopted = "the runner of an earlier agent goes on";
    machine
        .until("adopted", |machine| machine.console().contains(adopted))
        .await;
    says_why(&machine, pool).await;
    let pid = fs::read_to_string(machine.path("worker")).expect("a worker");
    assert!(is_alive(&pid), "{harm:?}: {}", machine.console());

    fs::write(machine.path("done"), "").expect("written");
    machine
        .until_record(pool, "without a job", |record| record.job.is_none())
        .await;
    let release = Transition::Release {
        label: "77".parse().expect("a label"),
        generation: None,
        token: Some(Secret::new("remove")),
        idle_time: Duration::from_hours(1),
    };
    step(&machine, pool, release).await;
    // Given back, it tells whoever would pool it.
    machine
        .until_record(pool, "an answer", |record| {
            record.says(Signal::RemoveRegOk) || record.says(Signal::RemoveRegFailed)
        })
        .await;
    let last = machine
        .until_record(pool, "not to be pooled", |record| {
            record.unhealthy().is_some()
        })
        .await;
    assert!(last.says(Signal::RemoveRegFailed) || harm != Harm::ReadOnly);
    drop(disk);
}

async fn takes_no_tenant(pool: &Pool, harm: Harm) {
    let mut machine = machine(pool, |_, record| {
        record.state = State::Idle;
        record.label = None;
        record.token = None;
    })
    .await;
    let disk = Disk::at(machine.path("state"));
    machine.replace_runner(&runner(ONE_JOB));
    machine.start(&[]);
    machine
        .until_record(pool, "fit", |record| {
            let well = record.health.as_ref().is_some_and(|health| health.healthy);
            well && record.says(Signal::RemoveRegOk)
        })
        .await;
    disk.harm(harm);
    says_why(&machine, pool).await;
    said_once(&machine);
    let claim = Transition::Claim {
        label: "78".parse().expect("a label"),
        token: Secret::new("register"),
        timeout: Duration::from_mins(30),
    };
    step(&machine, pool, claim).await;
    let record = machine
        .until_record(pool, "refused", |record| record.says(Signal::RegFailed))
        .await;
    let detail = record.report.and_then(|report| report.detail);
    assert!(
        detail
            .as_ref()
            .is_some_and(|why| why.contains("cannot keep its state")),
        "{detail:?}"
    );
    drop(disk);
}
