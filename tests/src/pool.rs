//! A pool that has been refreshed once, and the steps that workflows run on it.

use std::time::{Duration, Instant};

use proto::{
    config::{ConfigItem, Parameters},
    provision::ProvisionRecord,
    state::State,
    table::{Table, dynamo::DynamoTable},
};

use crate::{
    binaries::Binaries,
    clients,
    story::refresh_inputs,
    workflow::{Step, Workflow},
    yard::{Settings, Yard},
};

/// How long anything may take that has no time limit of its own.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A yard whose pool has been refreshed. Its methods panic when the world itself is broken.
#[derive(Debug)]
pub struct Pool {
    /// The world.
    pub yard: Yard,
    /// The programs.
    pub binaries: Binaries,
    /// The pool's table.
    pub table: DynamoTable,
}

#[expect(clippy::missing_panics_doc, reason = "a test's kit: its type says so")]
impl Pool {
    /// A pool whose machines take `boot` from their launch to the start of their agent.
    pub async fn new(boot: Duration) -> Self {
        Self::with(|settings| settings.boot = boot).await
    }

    /// A pool in a yard of this kind.
    pub async fn with(change: impl FnOnce(&mut Settings)) -> Self {
        let binaries = Binaries::build().expect("the programs build");
        let mut settings = Settings::new(&binaries.agent, &binaries.runner);
        change(&mut settings);
        let yard = Yard::start(settings).await.expect("the yard starts");
        let table = DynamoTable::new(&clients::dynamodb(&yard.aws.url()), "paddock-acme-widgets");
        let pool = Self {
            yard,
            binaries,
            table,
        };
        let step = pool.refresh().await;
        assert_eq!(step.code, 0, "{}", step.log);
        pool
    }

    /// The steps of a run.
    pub fn run(&self, id: u64) -> Workflow<'_> {
        Workflow::new(&self.yard, &self.binaries, id)
    }

    /// A refresh, as a schedule runs it.
    pub async fn refresh(&self) -> Step {
        self.refresh_with([]).await
    }

    /// A refresh with these inputs besides.
    pub async fn refresh_with(
        &self,
        more: impl IntoIterator<Item = (&'static str, String)>,
    ) -> Step {
        let mut inputs = refresh_inputs(&self.yard, "subnet-0a subnet-0b");
        inputs.extend(more);
        let inputs: Vec<(&str, &str)> = inputs
            .iter()
            .map(|(name, value)| (*name, &**value))
            .collect();
        let step = self.run(1).step("refresh", &inputs).await;
        step.expect("refresh runs")
    }

    /// A provision of so many machines.
    pub async fn provision(&self, run: u64, count: &str) -> Step {
        self.provision_with(run, &[("instance-count", count)]).await
    }

    /// A provision with these inputs.
    pub async fn provision_with(&self, run: u64, inputs: &[(&str, &str)]) -> Step {
        let step = self.run(run).step("provision", inputs).await;
        step.expect("provision runs")
    }

    /// A release of all that a run has.
    pub async fn release(&self, run: u64) -> Step {
        let step = self.run(run).step("release", &[]).await;
        step.expect("release runs")
    }

    /// An operator's command with flags, and the login for GitHub as an input.
    pub async fn operate(&self, mode: &str, flags: &[&str]) -> Step {
        let mut run = self.run(1);
        run.flags = flags.iter().map(ToString::to_string).collect();
        let token = self.yard.github.token();
        let step = run.step(mode, &[("github-token", &token)]).await;
        step.expect("it runs")
    }

    /// Alters the pool's times, as an operator with little patience would.
    pub async fn hurry(&self, change: impl FnOnce(&mut Parameters)) {
        let config = self.table.config().await.expect("a configuration");
        let mut parameters = config.parameters.expect("parameters");
        change(&mut parameters);
        self.table
            .put_config(&ConfigItem::Parameters(parameters))
            .await
            .expect("written");
    }

    /// Machines that live at EC2.
    pub fn alive(&self) -> usize {
        self.yard
            .aws
            .instances()
            .iter()
            .filter(|view| view.alive())
            .count()
    }

    /// Records in a live state.
    pub async fn records(&self, state: State) -> usize {
        self.table
            .instances_in(state, None)
            .await
            .expect("listed")
            .len()
    }

    /// The provision records of a run.
    pub async fn journals(&self, run: u64) -> Vec<ProvisionRecord> {
        let run = run.to_string().parse().expect("a run");
        self.table.provisions_of(&run).await.expect("read")
    }

    /// Waits until so many machines are alive at EC2.
    pub async fn until_alive(&self, count: usize) {
        self.until(&format!("{count} machines are alive"), || {
            self.alive() == count
        })
        .await;
    }

    /// Waits until something holds.
    pub async fn until(&self, what: &str, holds: impl Fn() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !holds() {
            assert!(
                Instant::now() < deadline,
                "not in time: {what}; {} machines are alive",
                self.alive()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// How many calls of an action (`*` for all) AWS has seen of controllers.
    pub fn calls(&self, action: &str) -> usize {
        let calls = self.yard.aws.calls();
        calls
            .iter()
            .filter(|call| call.caller == "AKIAYARD")
            .filter(|call| action == "*" || call.action == action)
            .count()
    }
}
