//! The demo's story, as a test: on the yard's own AWS, and on one that nobody here wrote.

use std::time::Duration;

use tests::{
    binaries::Binaries,
    stand_in::{Maker, StandIn},
    story::{self, Quiet},
    yard::{Settings, Yard, aws},
};

async fn play(aws: aws::Settings, subnets: &str) {
    let binaries = Binaries::build().expect("the programs build");
    let settings = Settings {
        boot: Duration::from_millis(500),
        configure: Duration::from_millis(200),
        deregister: Duration::from_millis(200),
        aws,
        ..Settings::new(&binaries.agent, &binaries.runner)
    };
    let yard = Yard::start(settings).await.expect("the yard starts");
    if let Err(wrong) = story::play(&yard, &binaries, subnets, &mut Quiet).await {
        panic!("{wrong}");
    }
    yard.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_workflows_share_a_pool() {
    play(aws::Settings::default(), "subnet-0a subnet-0b").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_workflows_share_a_pool_on_an_independent_aws() {
    let ministack = StandIn::start(Maker::Ministack)
        .await
        .expect("ministack starts");
    let upstream = Some(ministack.url().to_owned());
    play(
        aws::Settings {
            upstream,
            ..aws::Settings::default()
        },
        "subnet-0a subnet-0b",
    )
    .await;
}
