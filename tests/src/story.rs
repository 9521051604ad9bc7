//! The story that the demo plays and the end-to-end tests check: two workflows share a pool.
//!
//! refresh → a workflow provisions 2 machines and runs 3 jobs on them → release → a second
//! workflow gets the same 2 warm machines and 1 new one → release → idle time passes → refresh →
//! nothing is left.

use std::{
    collections::{BTreeMap, BTreeSet},
    error::Error,
    time::{Duration, Instant},
};

use crate::{
    binaries::Binaries,
    workflow::{REPOSITORY, Step, Workflow},
    yard::{
        Yard,
        aws::InstanceView,
        github::{Conclusion, Job},
    },
};

/// What is told while the story goes on.
pub trait Teller {
    /// A chapter begins.
    fn chapter(&mut self, title: &str);
    /// Something happened; `took` is how long it took, where that means something.
    fn event(&mut self, text: &str, took: Option<Duration>);
}

/// A teller that keeps quiet.
#[derive(Debug, Default)]
pub struct Quiet;

impl Teller for Quiet {
    fn chapter(&mut self, _: &str) {}
    fn event(&mut self, _: &str, _: Option<Duration>) {}
}

/// Something was not as it must be.
type Wrong = Box<dyn Error + Send + Sync>;

/// How long machines may stay idle in the story: long enough for the second workflow to come.
pub const IDLE: Duration = Duration::from_secs(15);

/// How long anything may take that has no time limit of its own.
const PATIENCE: Duration = Duration::from_mins(1);

/// The inputs of the story's refresh. The subnets are those of the AWS that it plays on.
pub fn refresh_inputs(yard: &Yard, subnets: &str) -> Vec<(&'static str, String)> {
    vec![
        ("ami", "ami-0123456789abcdef0".to_owned()),
        ("github-token", yard.github.token()),
        ("iam-instance-profile", "paddock-runner".to_owned()),
        ("security-group-ids", "sg-1".to_owned()),
        ("subnet-ids", subnets.to_owned()),
        ("idle-time-sec", IDLE.as_secs().to_string()),
        (
            "pre-runner-script",
            "#!/bin/sh\necho the machine is being prepared\n".to_owned(),
        ),
    ]
}

/// Where the story is played.
#[derive(Debug)]
pub struct Stage<'a> {
    /// The world.
    pub yard: &'a Yard,
    /// The programs.
    pub binaries: &'a Binaries,
    /// The inputs of its refresh.
    pub refresh: Vec<(&'static str, String)>,
    /// The pool's name, if it is not that of the repository.
    pub pool: Option<String>,
}

impl<'a> Stage<'a> {
    /// A yard with these subnets.
    pub fn new(yard: &'a Yard, binaries: &'a Binaries, subnets: &str) -> Self {
        Self {
            yard,
            binaries,
            refresh: refresh_inputs(yard, subnets),
            pool: None,
        }
    }

    /// The steps of a run.
    pub fn run(&self, id: u64) -> Workflow<'a> {
        let mut workflow = Workflow::new(self.yard, self.binaries, id);
        let pool = self.pool.clone();
        let pool = pool.map(|pool| ("INPUT_POOL-NAME".to_owned(), pool));
        workflow.environment.extend(pool);
        workflow
    }
}

/// Plays the story on a fresh yard.
///
/// # Errors
///
/// When anything is not as it must be: the words say what, and the step's log is with them.
pub async fn play(stage: &Stage<'_>, teller: &mut dyn Teller) -> Result<(), Wrong> {
    let yard = stage.yard;
    let inputs: Vec<(&str, &str)> = stage
        .refresh
        .iter()
        .map(|(name, value)| (*name, &**value))
        .collect();
    let scheduled = stage.run(1);

    teller.chapter("A scheduled workflow sets the pool up");
    let step = succeed(scheduled.step("refresh", &inputs).await?)?;
    teller.event(
        "controller refresh: table, launch template, queues, token",
        Some(step.took),
    );
    let step = succeed(scheduled.step("refresh", &inputs).await?)?;
    must(step.log.contains("nothing to do"), || {
        format!("a second refresh still plans:\n{}", step.log)
    })?;
    teller.event("controller refresh again: nothing to do", Some(step.took));

    teller.chapter("Workflow 1001 needs two machines; the pool is empty");
    let first = stage.run(1001);
    let cold = succeed(first.step("provision", &[("instance-count", "2")]).await?)?;
    must(counts(&cold) == (Some(0), Some(2)), || {
        format!("not two new machines:\n{}", cold.log)
    })?;
    teller.event(
        &machines("controller provision: 2 new machines", &cold.machines()),
        Some(cold.took),
    );
    jobs(yard, &first, 3, &cold.machines(), teller).await?;
    let step = succeed(first.step("release", &[]).await?)?;
    must(step.log.contains("2 back in the pool"), || {
        format!("not both pooled:\n{}", step.log)
    })?;
    no_runners(yard)?;
    teller.event(
        "controller release: deregistered, cleaned, back in the pool",
        Some(step.took),
    );

    teller.chapter("Workflow 1002 needs three; two are warm");
    let second = stage.run(1002);
    let warm = succeed(second.step("provision", &[("instance-count", "3")]).await?)?;
    must(counts(&warm) == (Some(2), Some(1)), || {
        format!("not two warm and one new:\n{}", warm.log)
    })?;
    let reused: BTreeSet<String> = cold.machines().into_iter().collect();
    let got: BTreeSet<String> = warm.machines().into_iter().collect();
    must(reused.is_subset(&got), || {
        format!("other machines were reused: {got:?}")
    })?;
    let title = "controller provision: the same 2, and 1 new";
    teller.event(&machines(title, &warm.machines()), Some(warm.took));
    jobs(yard, &second, 3, &warm.machines(), teller).await?;
    let step = succeed(second.step("release", &[]).await?)?;
    must(step.log.contains("3 back in the pool"), || {
        format!("not all pooled:\n{}", step.log)
    })?;
    teller.event("controller release", Some(step.took));
    let step = succeed(second.step("release", &[]).await?)?;
    teller.event("controller release again: changes nothing", Some(step.took));

    teller.chapter("Nobody comes; the machines' idle time passes");
    let alive = alive(yard);
    must(alive == 3, || format!("{alive} machines are alive, not 3"))?;
    let waited = Instant::now();
    tokio::time::sleep(IDLE).await;
    teller.event("3 machines waited in the pool", Some(waited.elapsed()));
    let step = succeed(scheduled.step("refresh", &inputs).await?)?;
    teller.event(
        "controller refresh: what has expired is terminated",
        Some(step.took),
    );
    nothing_left(yard).await?;
    must(step.log.contains("stale messages"), || {
        format!(
            "no queue was swept:
{}",
            step.log
        )
    })?;
    let text = "nothing is left: no machine, no process, no runner at GitHub, no message";
    teller.event(text, None);
    let step = succeed(scheduled.step("refresh", &inputs).await?)?;
    must(step.log.contains("nothing to do"), || {
        format!("the last refresh still plans:\n{}", step.log)
    })?;
    Ok(())
}

fn must(holds: bool, otherwise: impl FnOnce() -> String) -> Result<(), Wrong> {
    if holds {
        Ok(())
    } else {
        Err(otherwise().into())
    }
}

fn succeed(step: Step) -> Result<Step, Wrong> {
    must(step.code == 0, || {
        format!("the step ended with {}:\n{}", step.code, step.log)
    })?;
    Ok(step)
}

fn counts(step: &Step) -> (Option<u32>, Option<u32>) {
    (step.number("reused"), step.number("created"))
}

fn machines(title: &str, ids: &[String]) -> String {
    format!("{title} ({})", ids.join(", "))
}

fn alive(yard: &Yard) -> usize {
    yard.machines
        .list()
        .iter()
        .filter(|machine| machine.alive())
        .count()
}

fn no_runners(yard: &Yard) -> Result<(), Wrong> {
    let runners = yard.github.runners();
    must(runners.is_empty(), || {
        format!("runners are still registered: {runners:?}")
    })
}

/// Runs jobs on the run's machines, and checks where each ran.
async fn jobs(
    yard: &Yard,
    workflow: &Workflow<'_>,
    count: usize,
    machines: &[String],
    teller: &mut dyn Teller,
) -> Result<(), Wrong> {
    let began = Instant::now();
    yard.github.add_run(workflow.run, REPOSITORY);
    let jobs: Vec<_> = (1..=count)
        .map(|number| {
            yard.github.enqueue(Job {
                run_id: workflow.run,
                name: format!("job {number}"),
                labels: vec![workflow.run.to_string()],
                steps: vec![
                    format!("echo \"job {number} of run $GITHUB_RUN_ID on $RUNNER_NAME\""),
                    // What an earlier run left behind must be gone.
                    "ls left-by-* 2>/dev/null | grep -v \"$GITHUB_RUN_ID\" && exit 1; \
                     touch \"left-by-$GITHUB_RUN_ID\"; sleep 0.5"
                        .to_owned(),
                ],
                env: BTreeMap::new(),
            })
        })
        .collect();
    let mut used = BTreeSet::new();
    for job in jobs {
        let view = yard.github.wait_job(job, PATIENCE).await?;
        let conclusion = view.conclusion.map(Conclusion::as_str);
        must(conclusion == Some("success"), || {
            format!("{}: {conclusion:?}\n{}", view.name, view.log)
        })?;
        let runner = view.runner.unwrap_or_default();
        let machine = machines.iter().find(|id| runner.starts_with(id.as_str()));
        must(machine.is_some(), || {
            format!("{} ran on {runner}, not on {machines:?}", view.name)
        })?;
        must(
            view.log.contains(&format!("of run {}", workflow.run)),
            || view.log.clone(),
        )?;
        used.extend(machine);
    }
    let text = format!("{count} jobs ran on {} machines", used.len());
    teller.event(&text, Some(began.elapsed()));
    Ok(())
}

/// Waits until no machine, process or runner is left; within a deadline.
async fn nothing_left(yard: &Yard) -> Result<(), Wrong> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let ec2: Vec<_> = yard
            .aws
            .instances()
            .into_iter()
            .filter(InstanceView::alive)
            .collect();
        let processes: Vec<_> = yard
            .machines
            .list()
            .iter()
            .flat_map(|machine| yard.machines.processes(&machine.id))
            .collect();
        if ec2.is_empty() && alive(yard) == 0 && processes.is_empty() {
            return no_runners(yard);
        }
        must(Instant::now() < deadline, || {
            format!("left: {ec2:?}, processes {processes:?}")
        })?;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
