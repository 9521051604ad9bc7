//! Which idle machines a provision gets, and what becomes of those that will not do.

use std::time::Duration;

use nix::sys::signal::Signal;
use proto::{
    config::ConfigItem,
    instance::{InstanceRecord, UsageClass},
    message::PoolMessage,
    state::State,
    table::Table,
    time::{Clock, SystemClock, Time},
};
use tests::{clients, pool::Pool};

use super::warm;

/// One of the idle machines.
async fn idle(pool: &Pool) -> InstanceRecord {
    let idle = pool.table.instances_in(State::Idle, None).await;
    idle.expect("listed").remove(0)
}

async fn queue(pool: &Pool) -> (aws_sdk_sqs::Client, String) {
    let config = pool.table.config().await.expect("read");
    let large = config
        .resource_classes
        .iter()
        .find(|class| class.name.as_str() == "large");
    let url = large.expect("a class").queue_url.clone();
    (clients::sqs(&pool.yard.aws.url()), url)
}

/// Takes so many messages out of the queue, for good.
async fn lose_messages(pool: &Pool, count: usize) {
    let (sqs, url) = queue(pool).await;
    let mut lost = 0;
    while lost < count {
        let received = sqs
            .receive_message()
            .queue_url(&url)
            .max_number_of_messages(10)
            .wait_time_seconds(1)
            .send()
            .await
            .expect("received");
        for message in received.messages() {
            let handle = message.receipt_handle().expect("a handle");
            let delete = sqs.delete_message().queue_url(&url).receipt_handle(handle);
            delete.send().await.expect("deleted");
            lost += 1;
        }
    }
}

async fn send(pool: &Pool, body: &str) {
    let (sqs, url) = queue(pool).await;
    let sent = sqs.send_message().queue_url(url).message_body(body);
    sent.send().await.expect("sent");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_machine_whose_message_is_lost_is_claimed_all_the_same() {
    let pool = Pool::new(Duration::ZERO).await;
    warm(&pool, 501, "2").await;
    lose_messages(&pool, 2).await;
    let step = pool.provision(502, "2").await;
    let got = (step.code, step.number("reused"), step.number("created"));
    assert_eq!(got, (0, Some(2), Some(0)), "{}", step.log);
    assert_eq!(pool.alive(), 2);
    pool.yard.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_that_are_of_no_use_are_deleted_and_said_so() {
    let pool = Pool::new(Duration::ZERO).await;
    send(&pool, "{\"v\": 1}").await;
    let gone = PoolMessage {
        v: proto::message::VERSION,
        id: "i-0aaaaaaaaaaaaaaa1".parse().expect("an id"),
        resource_class: "large".parse().expect("a class"),
        instance_type: "c5.large".into(),
        cpu: 2,
        mmem: 4096,
        usage_class: UsageClass::OnDemand,
        template_version: 1,
        pooled_at: Time::EPOCH,
    };
    send(&pool, &gone.body()).await;
    warm(&pool, 511, "1").await;
    let step = pool.provision(512, "1").await;
    assert_eq!(
        (step.code, step.number("reused")),
        (0, Some(1)),
        "{}",
        step.log
    );
    for said in [
        "a message of the pool is deleted",
        "its message was stale and is deleted",
    ] {
        assert!(step.log.contains(said), "{said}: {}", step.log);
    }
    pool.yard.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_was_asked_for_is_claimed_and_the_rest_stays_for_others() {
    let pool = Pool::new(Duration::ZERO).await;
    let spot = [("usage-class", "spot")];
    assert_eq!(pool.provision_with(521, &spot).await.code, 0);
    assert_eq!(pool.release(521).await.code, 0);
    let exact = [("allowed-instance-types", "m5.large")];
    let step = pool.provision_with(522, &exact).await;
    assert_eq!(step.number("created"), Some(1), "{}", step.log);
    assert!(step.summary.contains("| m5.large |"), "{}", step.summary);
    assert_eq!(pool.release(522).await.code, 0);

    // Two are idle, and none of them will do.
    let step = pool
        .provision_with(523, &[("allowed-instance-types", "c5.*")])
        .await;
    assert_eq!(step.number("created"), Some(1), "{}", step.log);
    let step = pool
        .provision_with(524, &[("allowed-instance-types", "m5.*")])
        .await;
    assert_eq!(step.number("reused"), Some(1), "{}", step.log);
    let step = pool.provision_with(525, &spot).await;
    assert_eq!(step.number("reused"), Some(1), "{}", step.log);
    pool.yard.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reused_machine_that_falls_silent_is_replaced() {
    let pool = Pool::new(Duration::ZERO).await;
    warm(&pool, 531, "2").await;
    pool.hurry(|parameters| parameters.claim_timeout_sec = 10)
        .await;
    let silent = idle(&pool).await.id().to_string();
    assert!(pool.yard.machines.kill_agent(&silent, Signal::SIGSTOP));
    let step = pool.provision(532, "2").await;
    let got = (step.code, step.number("reused"), step.number("created"));
    assert_eq!(got, (0, Some(1), Some(1)), "{}", step.log);
    assert!(!step.machines().contains(&silent), "{}", step.log);
    assert!(
        step.log.contains("terminated, to be replaced"),
        "{}",
        step.log
    );
    pool.until_alive(2).await;
    pool.yard.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_whose_heartbeat_is_stale_is_terminated_at_its_claim() {
    let pool = Pool::new(Duration::ZERO).await;
    warm(&pool, 541, "1").await;
    pool.hurry(|parameters| parameters.healthy_within_sec = 3)
        .await;
    let idle = idle(&pool).await;
    let machines = &pool.yard.machines;
    assert!(machines.kill_agent(idle.id().as_str(), Signal::SIGSTOP));
    let last_beat = idle.heartbeat.expect("a heartbeat");
    pool.until("its heartbeat is stale", || {
        SystemClock.now().since(last_beat) > Duration::from_secs(4)
    })
    .await;
    let step = pool.provision(542, "1").await;
    assert_eq!(step.number("created"), Some(1), "{}", step.log);
    assert!(
        step.log.contains("unfit (its heartbeat is stale)"),
        "{}",
        step.log
    );
    pool.until_alive(1).await;
    pool.yard.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_of_an_old_launch_template_is_not_pooled_again() {
    let pool = Pool::new(Duration::ZERO).await;
    assert_eq!(pool.provision(551, "1").await.code, 0);
    let config = pool.table.config().await.expect("read");
    let mut template = config.launch_template.expect("a template");
    template.version += 1;
    let newer = ConfigItem::LaunchTemplate(template);
    pool.table.put_config(&newer).await.expect("written");
    let step = pool.release(551).await;
    assert_eq!(step.code, 0, "{}", step.log);
    assert!(
        step.log.contains("its launch template is old"),
        "{}",
        step.log
    );
    assert!(
        step.summary.contains("terminated: its launch template"),
        "{}",
        step.summary
    );
    pool.until_alive(0).await;
    pool.yard.stop().await;
}
