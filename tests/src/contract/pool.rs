//! What a [`Pool`] promises. Each promise is tried on a queue of its own.

use std::{collections::BTreeSet, time::Duration};

use aws_sdk_sqs::types::QueueAttributeName;
use controller::ports::{Lease, MESSAGES_A_CALL, Pool};
use proto::{instance::InstanceRecord, message::PoolMessage, state::State};
use tokio::time::{Instant, sleep};

use super::promise::{Gap, promises, try_all};

/// Long enough that no lease of it ends while a promise is tried.
const LONG: Duration = Duration::from_mins(5);
/// A lease whose end is waited for.
const SHORT: Duration = Duration::from_secs(2);
/// Within this a message that can be had is had.
const SOON: Duration = Duration::from_secs(10);

/// A form of the port.
pub struct Form<'a> {
    /// It.
    pub pool: &'a dyn Pool,
    /// Somebody else's hands at the same queues, where there are such hands.
    pub stranger: Option<&'a aws_sdk_sqs::Client>,
}

/// Tries every promise.
///
/// # Panics
///
/// When one is broken that is no gap, or a gap is none after all.
pub async fn check(form: &Form<'_>, gaps: &[Gap]) {
    let promises = promises![form;
        a_queue_is_made_once,
        a_strangers_queue_is_adopted,
        a_queue_that_is_gone_is_none,
        what_is_sent_is_received_as_it_was,
        a_lease_hides_a_message_until_it_ends,
        what_is_deleted_never_comes_back,
        what_is_given_back_comes_at_once,
        a_lease_that_ended_is_no_error,
        many_are_sent_and_received_ten_a_call,
        two_readers_share_no_message,
        a_long_poll_ends_with_a_message,
        a_long_poll_of_nothing_takes_its_time,
        the_depth_counts_leased_messages,
    ];
    try_all(promises, gaps).await;
}

fn message(number: u32) -> PoolMessage {
    let record = InstanceRecord::example(State::Idle);
    PoolMessage {
        id: format!("i-{number:017x}").parse().expect("an id"),
        ..PoolMessage::of(&record, record.since)
    }
}

impl Form<'_> {
    /// The URL of a queue of this name, with so many messages.
    async fn queue(&self, name: &str, messages: u32) -> String {
        let name = format!("paddock-contract-{name}");
        let url = self.pool.ensure_queue(&name).await.expect("a queue");
        let messages: Vec<PoolMessage> = (0..messages).map(message).collect();
        if !messages.is_empty() {
            self.pool.send(&url, &messages).await.expect("sent");
        }
        url
    }

    async fn receive(&self, url: &str, wait: Duration, lease: Duration) -> Vec<Lease> {
        let leases = self.pool.receive(url, MESSAGES_A_CALL, wait, lease).await;
        leases.expect("received")
    }

    /// The only message of a queue, waited for.
    async fn the_one(&self, url: &str, lease: Duration) -> Lease {
        let leases = self.receive(url, SOON, lease).await;
        let [lease] = <[Lease; 1]>::try_from(leases).expect("one message");
        lease
    }
}

async fn a_queue_is_made_once(form: &Form<'_>) {
    let url = form.queue("made", 0).await;
    assert_eq!(form.queue("made", 0).await, url);
    assert_ne!(form.queue("other", 0).await, url);
    let state = form.pool.queue(&url).await.expect("seen").expect("there");
    assert_eq!((state.messages, state.odd), (0, Vec::new()));
}

async fn a_strangers_queue_is_adopted(form: &Form<'_>) {
    let sqs = form.stranger.expect("a stranger");
    let name = "paddock-contract-strange";
    let made = sqs
        .create_queue()
        .queue_name(name)
        .attributes(QueueAttributeName::VisibilityTimeout, "7");
    made.send().await.expect("made");
    let url = form.pool.ensure_queue(name).await.expect("adopted");
    let state = form.pool.queue(&url).await.expect("seen").expect("there");
    assert_eq!(state.odd, Vec::new());
}

async fn a_queue_that_is_gone_is_none(form: &Form<'_>) {
    let url = form.queue("gone", 1).await;
    form.pool.delete_queue(&url).await.expect("deleted");
    assert_eq!(form.pool.queue(&url).await.expect("seen"), None);
    form.pool.delete_queue(&url).await.expect("no error");
}

async fn what_is_sent_is_received_as_it_was(form: &Form<'_>) {
    let url = form.queue("same", 1).await;
    let lease = form.the_one(&url, LONG).await;
    assert_eq!(lease.body, message(0).body());
    assert_eq!(PoolMessage::parse(&lease.body).expect("read"), message(0));
}

async fn a_lease_hides_a_message_until_it_ends(form: &Form<'_>) {
    let url = form.queue("leased", 1).await;
    let first = form.the_one(&url, SHORT).await;
    let meanwhile = form.receive(&url, Duration::ZERO, LONG).await;
    assert!(meanwhile.is_empty(), "{meanwhile:?}");
    let again = form.the_one(&url, LONG).await;
    assert_eq!((again.id, again.body), (first.id, first.body));
}

async fn what_is_deleted_never_comes_back(form: &Form<'_>) {
    let url = form.queue("deleted", 1).await;
    let lease = form.the_one(&url, SHORT).await;
    let deleted = form.pool.delete(&url, &[lease.handle]).await;
    deleted.expect("deleted");
    let left = form.receive(&url, SHORT * 2, LONG).await;
    assert!(left.is_empty(), "{left:?}");
}

async fn what_is_given_back_comes_at_once(form: &Form<'_>) {
    let url = form.queue("back", 1).await;
    let first = form.the_one(&url, LONG).await;
    let given = form.pool.give_back(&url, &[first.handle]).await;
    given.expect("given back");
    assert_eq!(form.the_one(&url, LONG).await.id, first.id);
}

async fn a_lease_that_ended_is_no_error(form: &Form<'_>) {
    let url = form.queue("ended", 1).await;
    let first = form.the_one(&url, SHORT).await;
    let second = form.the_one(&url, LONG).await;
    let late = form.pool.give_back(&url, &[first.handle]).await;
    late.expect("no error while it is leased again");
    let handles = [second.handle];
    form.pool.delete(&url, &handles).await.expect("deleted");
    let late = form.pool.give_back(&url, &handles).await;
    late.expect("no error when it is gone");
}

async fn many_are_sent_and_received_ten_a_call(form: &Form<'_>) {
    const COUNT: u32 = 25;
    let url = form.queue("many", COUNT).await;
    let mut seen = BTreeSet::new();
    let mut handles = Vec::new();
    loop {
        let leases = form.receive(&url, Duration::from_secs(1), LONG).await;
        if leases.is_empty() {
            break;
        }
        assert!(leases.len() <= MESSAGES_A_CALL, "{}", leases.len());
        for lease in leases {
            seen.insert(PoolMessage::parse(&lease.body).expect("read").id);
            handles.push(lease.handle);
        }
    }
    assert_eq!(seen, (0..COUNT).map(|number| message(number).id).collect());
    let (first, rest) = handles.split_at(12);
    form.pool.delete(&url, first).await.expect("deleted");
    form.pool.give_back(&url, rest).await.expect("given back");
    let state = form.pool.queue(&url).await.expect("seen").expect("there");
    assert_eq!(state.messages, 13);
}

async fn two_readers_share_no_message(form: &Form<'_>) {
    let url = form.queue("shared", 10).await;
    let (one, other) = futures::join!(
        form.pool.receive(&url, 6, SOON, LONG),
        form.pool.receive(&url, 6, SOON, LONG)
    );
    let both = [one.expect("received"), other.expect("received")].concat();
    let different: BTreeSet<&str> = both.iter().map(|lease| &*lease.id).collect();
    assert_eq!(different.len(), both.len());
}

async fn a_long_poll_ends_with_a_message(form: &Form<'_>) {
    let url = form.queue("polled", 0).await;
    let send = async {
        sleep(Duration::from_millis(500)).await;
        form.pool.send(&url, &[message(1)]).await.expect("sent");
    };
    let began = Instant::now();
    let wait = form.receive(&url, Duration::from_secs(20), LONG);
    let (leases, ()) = futures::join!(wait, send);
    assert_eq!(leases.len(), 1);
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
}

async fn a_long_poll_of_nothing_takes_its_time(form: &Form<'_>) {
    let url = form.queue("nothing", 0).await;
    let began = Instant::now();
    let wait = Duration::from_secs(2);
    assert!(form.receive(&url, wait, LONG).await.is_empty());
    // The server's clock began a little earlier, perhaps.
    let took = began.elapsed() + Duration::from_millis(50);
    assert!(took >= wait, "{took:?}");
}

async fn the_depth_counts_leased_messages(form: &Form<'_>) {
    let url = form.queue("depth", 3).await;
    let leases = form.pool.receive(&url, 1, SOON, LONG).await;
    assert_eq!(leases.expect("received").len(), 1);
    let state = form.pool.queue(&url).await.expect("seen").expect("there");
    assert_eq!(state.messages, 3);
}
