//! Queues that have lost messages, or hold stale ones.

use super::*;

#[tokio::test]
async fn idle_machines_that_the_queue_lost_are_listed_again() {
    let scene = Scene::made().await;
    scene.instance(1, State::Idle, |_| ()).await;
    scene
        .instance(2, State::Idle, |record| {
            record.since = Time::from_millis(START);
        })
        .await;
    scene
        .instance(3, State::Idle, |record| record.report = None)
        .await;
    // A release that comes between the look at the queue and that at the records has lost nothing.
    scene.fakes.with(|world| {
        let first = PoolMessage::of(&record(1, State::Idle), Time::from_millis(START));
        let queue = world.queues.get_mut("http://sqs/paddock-p-large").unwrap();
        queue.push(first);
    });
    assert_eq!(scene.run().await.planned, []);
    scene.fakes.with(|world| {
        let queue = world.queues.get_mut("http://sqs/paddock-p-large").unwrap();
        queue.clear();
    });
    let report = scene.run().await;
    let [Step::Resend { records, .. }] = &report.planned[..] else {
        panic!("{:?}", report.planned)
    };
    assert_eq!(records.len(), 1);
    // The release that pooled the second one sends its message.
    scene.fakes.with(|world| {
        let queue = world.queues.get_mut("http://sqs/paddock-p-large").unwrap();
        assert_eq!(queue[0].id, id(1));
        queue.push(queue[0].clone());
    });
    assert_eq!(scene.settles().await, []);
}

#[tokio::test]
async fn messages_of_machines_that_have_ended_are_swept() {
    let scene = Scene::made().await;
    let past = |record: &mut InstanceRecord| record.threshold = Some(Time::from_millis(START));
    scene.instance(1, State::Idle, past).await;
    let queue = "http://sqs/paddock-p-large";
    let record = scene.table.instance(&arn(1)).await.unwrap().unwrap();
    let message = PoolMessage::of(&record, Time::from_millis(START));
    scene.fakes.with(|world| {
        world.queues.insert(queue.into(), vec![message; 12]);
    });
    let report = scene.run().await;
    assert!(
        report
            .planned
            .iter()
            .any(|step| matches!(step, Step::Sweep { surplus: 12, .. }))
    );
    scene.fakes.with(|world| {
        assert_eq!(world.queues[queue], []);
        assert!(world.leased.is_empty());
    });
    assert_eq!(scene.settles().await, []);
}

#[tokio::test]
async fn a_sweep_keeps_one_message_of_each_idle_machine() {
    let scene = Scene::made().await;
    scene.instance(1, State::Idle, |_| ()).await;
    let queue = "http://sqs/paddock-p-large";
    let message = PoolMessage::of(
        &scene.table.instance(&arn(1)).await.unwrap().unwrap(),
        Time::from_millis(START),
    );
    scene.fakes.with(|world| {
        world.queues.insert(queue.into(), vec![message.clone(); 25]);
    });
    scene.run().await;
    scene
        .fakes
        .with(|world| assert_eq!(world.queues[queue], [message]));
    assert_eq!(scene.settles().await, []);
}
