//! The demo's story, as a test: on the yard's own AWS, and on one that nobody here wrote.

use std::{future::pending, time::Duration};

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_sqs::config::Credentials;
use tests::{
    anywhere,
    binaries::Binaries,
    clients,
    stand_in::{Maker, StandIn},
    story::{self, Quiet, Stage, Teller},
    yard::{Settings, Yard},
};
use tokio::sync::oneshot;

#[tokio::test(flavor = "multi_thread")]
async fn two_workflows_share_a_pool() {
    let binaries = Binaries::build().expect("the programs build");
    let settings = Settings {
        boot: Duration::from_millis(500),
        configure: Duration::from_millis(200),
        deregister: Duration::from_millis(200),
        ..Settings::new(&binaries.agent, &binaries.runner)
    };
    let yard = Yard::start(settings).await.expect("the yard starts");
    let stage = Stage::new(&yard, &binaries, "subnet-0a subnet-0b");
    if let Err(wrong) = story::play(&stage, &mut Quiet).await {
        panic!("{wrong}");
    }
    yard.stop().await;
}

/// Ministack, as the environment would name it.
async fn ministack() -> (StandIn, SdkConfig) {
    let ministack = StandIn::start(Maker::Ministack).await.expect("it starts");
    let sdk = aws_config::defaults(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .credentials_provider(Credentials::new("AKIATEST", "test", None, None, "tests"))
        .endpoint_url(ministack.url())
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .load()
        .await;
    (ministack, sdk)
}

/// Names of tables, queues and templates, and machines that live.
async fn standing(url: &str) -> Vec<String> {
    let ec2 = clients::ec2(url);
    let tables = clients::dynamodb(url).list_tables().send().await;
    let queues = clients::sqs(url).list_queues().send().await;
    let templates = ec2.describe_launch_templates().send().await;
    let templates = templates.expect("listed").launch_templates;
    let reservations = ec2.describe_instances().send().await.expect("listed");
    let reservations = reservations.reservations.unwrap_or_default().into_iter();
    let machines = reservations.flat_map(|it| it.instances.unwrap_or_default());
    let alive = machines.filter(|machine| {
        let state = machine.state.as_ref().and_then(|state| state.name.as_ref());
        state.is_none_or(|name| !["shutting-down", "terminated"].contains(&name.as_str()))
    });
    let mut names = tables.expect("listed").table_names.unwrap_or_default();
    names.extend(queues.expect("listed").queue_urls.unwrap_or_default());
    names.extend(
        templates
            .unwrap_or_default()
            .into_iter()
            .filter_map(|it| it.launch_template_name),
    );
    names.extend(alive.filter_map(|machine| machine.instance_id));
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn two_workflows_share_a_pool_on_an_independent_aws() {
    let binaries = Binaries::build().expect("the programs build");
    let (ministack, sdk) = ministack().await;
    if let Err(wrong) = anywhere::play(&sdk, &binaries, &mut Quiet, pending()).await {
        panic!("{wrong}");
    }
    assert_eq!(standing(ministack.url()).await, Vec::<String>::new());
}

/// Cancels once the first machines are there.
struct Impatient(Option<oneshot::Sender<()>>);

impl Teller for Impatient {
    fn chapter(&mut self, _: &str) {}

    fn event(&mut self, text: &str, _: Option<Duration>) {
        if text.contains("2 new machines")
            && let Some(cancel) = self.0.take()
        {
            cancel.send(()).expect("the story goes on");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_story_that_is_cancelled_takes_its_pool_down() {
    let binaries = Binaries::build().expect("the programs build");
    let (ministack, sdk) = ministack().await;
    let (cancel, cancelled) = oneshot::channel();
    let mut teller = Impatient(Some(cancel));
    let cancelled = async { cancelled.await.expect("the first machines come") };
    let played = anywhere::play(&sdk, &binaries, &mut teller, cancelled).await;
    let wrong = played.expect_err("it was cancelled").to_string();
    assert_eq!(wrong, "cancelled");
    assert_eq!(standing(ministack.url()).await, Vec::<String>::new());
}
