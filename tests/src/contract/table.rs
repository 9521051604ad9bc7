//! What a [`Table`] promises. Each check works on records of its own, so that one table serves
//! all of them.

use std::time::Duration;

use proto::{
    change::{Assign, Change, Clause},
    config::{
        ConfigItem, FloorTrouble, GithubTokens, Image, LaunchTemplate, Parameters, RefreshJournal,
        ResourceClass, Schema,
    },
    ids::{Home, InstanceArn, Label},
    instance::{Health, InstanceRecord, Job, Runner, Secret, UsageClass},
    provision::{Phase, ProvisionRecord, Request},
    signal::{Report, Signal},
    state::{State, Terminate, Transition},
    table::{Outcome, Table},
    time::Time,
};

use super::promise::{Gap, promises, try_all};

/// Tries every promise on an empty table.
///
/// # Panics
///
/// When one is broken that is no gap, or a gap is none after all.
pub async fn check(table: &dyn Table, gaps: &[Gap]) {
    let promises = promises![table;
        a_record_is_written_once_and_read_back,
        every_field_survives,
        a_change_to_nothing_is_a_conflict_with_nothing,
        a_claim_has_one_winner_and_the_loser_sees_who,
        each_clause_holds_where_it_should,
        a_life_goes_through_every_state,
        a_token_is_forgotten_only_while_it_is_the_one_that_was_used,
        many_are_read_at_once,
        many_are_changed_at_once_each_for_itself,
        the_index_lists_by_state_and_threshold,
        a_journal_is_written_in_order,
        only_open_journals_are_listed,
        the_configuration_reads_back,
        the_journal_of_refresh_is_written_in_order,
    ];
    try_all(promises, gaps).await;
}

fn at(seconds: u64) -> Time {
    Time::from_millis(1_800_000_000_000) + Duration::from_secs(seconds)
}

fn arn(number: u32) -> InstanceArn {
    let home = Home::of_arn("arn:aws:dynamodb:us-east-1:123456789012:table/t").expect("an ARN");
    InstanceArn::new(&home, &format!("i-{number:017x}").parse().expect("an id"))
}

/// Idle and clean.
fn idle(number: u32) -> InstanceRecord {
    InstanceRecord {
        arn: arn(number),
        threshold: Some(at(100)),
        report: Some(report(Signal::RemoveRegOk, 1)),
        ..InstanceRecord::example(State::Idle)
    }
}

fn report(signal: Signal, generation: u64) -> Report {
    Report {
        signal,
        generation,
        at: at(0),
        detail: None,
    }
}

fn label(text: &str) -> Label {
    text.parse().expect("a label")
}

fn claim(text: &str) -> Transition {
    Transition::Claim {
        label: label(text),
        token: Secret::new("token"),
        timeout: Duration::from_secs(30),
    }
}

async fn insert(table: &dyn Table, record: &InstanceRecord) {
    let outcome = table.insert_instance(record).await.expect("insert");
    assert_eq!(outcome, Outcome::Applied(record.clone()));
}

async fn apply(table: &dyn Table, record: &InstanceRecord, change: &Change) -> InstanceRecord {
    match table
        .change_instance(&record.arn, change)
        .await
        .expect("change")
    {
        Outcome::Applied(record) => record,
        Outcome::Conflict(current) => panic!("{change:?} met {current:?}"),
    }
}

async fn holds(table: &dyn Table, record: &InstanceRecord, clause: Clause) -> bool {
    let change = Change {
        when: vec![clause],
        set: vec![Assign::Heartbeat(at(0))],
    };
    match table
        .change_instance(&record.arn, &change)
        .await
        .expect("change")
    {
        Outcome::Applied(_) => true,
        Outcome::Conflict(_) => false,
    }
}

async fn a_record_is_written_once_and_read_back(table: &dyn Table) {
    let record = idle(0x100);
    insert(table, &record).await;
    let other = InstanceRecord {
        label: Some(label("9")),
        ..record.clone()
    };
    let outcome = table.insert_instance(&other).await.expect("insert");
    assert_eq!(outcome, Outcome::Conflict(Some(record.clone())));
    assert_eq!(
        table.instance(&record.arn).await.expect("read"),
        Some(record)
    );
    assert_eq!(table.instance(&arn(0x1ff)).await.expect("read"), None);
}

async fn every_field_survives(table: &dyn Table) {
    let record = InstanceRecord {
        state: State::Running,
        label: Some(label("7-gpu")),
        token: Some(Secret::new("hush")),
        reason: Some("why".into()),
        expires_at: Some(1_900_000_000),
        heartbeat: Some(at(1)),
        report: Some(Report {
            signal: Signal::RegFailed,
            generation: 4,
            at: at(2),
            detail: Some("line 1\nline 2 \"ü\"".into()),
        }),
        runner: Some(Runner {
            version: "2.336.0".into(),
            name: Some("i-1-4".into()),
        }),
        job: Some(Job {
            name: "build (linux)".into(),
            since: at(3),
        }),
        jobs: 3,
        health: Some(Health {
            healthy: false,
            reason: Some("disk".into()),
        }),
        usage_class: UsageClass::Spot,
        ..idle(0x101)
    };
    insert(table, &record).await;
    assert_eq!(
        table.instance(&record.arn).await.expect("read"),
        Some(record)
    );
}

async fn a_change_to_nothing_is_a_conflict_with_nothing(table: &dyn Table) {
    let beat = Change::beat(at(0), []);
    let outcome = table
        .change_instance(&arn(0x102), &beat)
        .await
        .expect("change");
    assert_eq!(outcome, Outcome::Conflict(None));
    let unconditional = Change {
        when: Vec::new(),
        set: vec![Assign::Heartbeat(at(0))],
    };
    let outcome = table
        .change_instance(&arn(0x102), &unconditional)
        .await
        .expect("change");
    assert_eq!(outcome, Outcome::Conflict(None));
    assert_eq!(
        table.instance(&arn(0x102)).await.expect("read"),
        None,
        "a change made a record"
    );
}

async fn a_claim_has_one_winner_and_the_loser_sees_who(table: &dyn Table) {
    let record = idle(0x103);
    insert(table, &record).await;
    let contenders: Vec<Change> = (0..20)
        .map(|n| claim(&n.to_string()).change(at(1)))
        .collect();
    let claims = contenders
        .iter()
        .map(|change| table.change_instance(&record.arn, change));
    let outcomes = futures::future::join_all(claims).await;
    let mut winners = Vec::new();
    let mut seen = Vec::new();
    for outcome in outcomes {
        match outcome.expect("change") {
            Outcome::Applied(record) => winners.push(record),
            Outcome::Conflict(current) => seen.push(current.expect("the record as it is")),
        }
    }
    assert_eq!(winners.len(), 1);
    assert_eq!(seen.len(), 19);
    assert!(seen.iter().all(|current| *current == winners[0]));
    assert_eq!(winners[0].generation, 2);
}

async fn each_clause_holds_where_it_should(table: &dyn Table) {
    let record = InstanceRecord {
        label: Some(label("7")),
        report: Some(report(Signal::RegOk, 1)),
        heartbeat: Some(at(0)),
        ..idle(0x104)
    };
    insert(table, &record).await;
    let bare = InstanceRecord {
        threshold: None,
        ..idle(0x105)
    };
    insert(table, &bare).await;
    let busy = InstanceRecord {
        job: Some(Job {
            name: "build".into(),
            since: at(0),
        }),
        ..idle(0x108)
    };
    insert(table, &busy).await;
    assert!(!holds(table, &busy, Clause::Clean).await, "a job runs");
    assert!(!holds(table, &busy, Clause::NoJob).await, "a job runs");
    let stale = InstanceRecord {
        generation: 2,
        ..idle(0x109)
    };
    insert(table, &stale).await;
    assert!(!holds(table, &stale, Clause::Clean).await, "an old signal");
    let cases = [
        (Clause::Clean, false, true),
        (Clause::NoJob, true, true),
        (Clause::Exists, true, true),
        (
            Clause::StateIn(vec![State::Idle, State::Created]),
            true,
            true,
        ),
        (Clause::StateIn(vec![State::Running]), false, false),
        (Clause::LabelIs(label("7")), true, false),
        (Clause::LabelIs(label("8")), false, false),
        (Clause::NoLabel, false, true),
        (Clause::GenerationIs(1), true, true),
        (Clause::GenerationIs(2), false, false),
        (Clause::ThresholdAfter(at(99)), true, false),
        (Clause::ThresholdAfter(at(100)), false, false),
        (Clause::ThresholdReached(at(100)), true, false),
        (Clause::ThresholdReached(at(99)), false, false),
        (Clause::Reported(Signal::RegOk, 1), true, false),
        (Clause::Reported(Signal::RegOk, 2), false, false),
        (Clause::Reported(Signal::Ok, 1), false, false),
        (Clause::BeatAfter(at(0)), true, true),
        (Clause::BeatAfter(at(1)), false, false),
    ];
    for (clause, full, sparse) in cases {
        assert_eq!(
            holds(table, &record, clause.clone()).await,
            full,
            "{clause:?}"
        );
        assert_eq!(
            holds(table, &bare, clause.clone()).await,
            sparse,
            "{clause:?} of little"
        );
    }
}

async fn a_life_goes_through_every_state(table: &dyn Table) {
    let created = InstanceRecord {
        state: State::Created,
        label: Some(label("1")),
        ..idle(0x106)
    };
    insert(table, &created).await;
    let signal =
        |signal, generation| Change::beat(at(5), [Assign::Report(report(signal, generation))]);
    apply(table, &created, &signal(Signal::RegOk, 1)).await;
    let commit = Transition::Commit {
        label: label("1"),
        generation: 1,
        healthy_within: Duration::from_secs(15),
        max_runtime: Duration::from_mins(10),
    };
    let late = table
        .change_instance(&created.arn, &commit.change(at(21)))
        .await
        .expect("change");
    assert!(
        matches!(late, Outcome::Conflict(Some(_))),
        "committed on a stale heartbeat"
    );
    let running = apply(table, &created, &commit.change(at(6))).await;
    assert_eq!((running.state, running.generation), (State::Running, 2));
    assert_eq!(running.threshold, Some(at(606)));
    let release = Transition::Release {
        label: label("1"),
        generation: Some(2),
        token: Some(Secret::new("removal")),
        idle_time: Duration::from_mins(7),
    };
    let idle = apply(table, &created, &release.change(at(10))).await;
    assert_eq!(
        (idle.state, idle.generation, &idle.label),
        (State::Idle, 3, &None)
    );
    assert_eq!(idle.token, Some(Secret::new("removal")));
    let hasty = table
        .change_instance(&created.arn, &claim("2").change(at(19)))
        .await
        .expect("change");
    assert!(
        matches!(hasty, Outcome::Conflict(Some(_))),
        "claimed before it was clean"
    );
    apply(table, &created, &signal(Signal::RemoveRegOk, 3)).await;
    let claimed = apply(table, &created, &claim("2").change(at(20))).await;
    assert_eq!(
        (claimed.state, claimed.threshold),
        (State::Claimed, Some(at(50)))
    );
    let stale = Transition::Commit {
        label: label("2"),
        generation: claimed.generation,
        healthy_within: Duration::from_mins(10),
        max_runtime: Duration::from_mins(10),
    };
    let outcome = table
        .change_instance(&created.arn, &stale.change(at(21)))
        .await
        .expect("change");
    assert!(
        matches!(outcome, Outcome::Conflict(Some(_))),
        "committed on an old signal"
    );
    let expire = Transition::Terminate {
        reason: "expired".into(),
        only: Terminate::Expired,
    };
    let early = table
        .change_instance(&created.arn, &expire.change(at(49)))
        .await
        .expect("change");
    assert!(
        matches!(early, Outcome::Conflict(Some(_))),
        "expired before its threshold"
    );
    let ended = apply(table, &created, &expire.change(at(50))).await;
    assert_eq!(
        (ended.state, ended.threshold, &ended.token),
        (State::Terminated, None, &None)
    );
    assert!(ended.expires_at.is_some());
    let again = table
        .change_instance(&created.arn, &expire.change(at(60)))
        .await
        .expect("change");
    assert_eq!(again, Outcome::Conflict(Some(ended)));
}

async fn a_token_is_forgotten_only_while_it_is_the_one_that_was_used(table: &dyn Table) {
    let token = || Secret::new("t");
    let record = InstanceRecord {
        token: Some(token()),
        heartbeat: Some(at(7)),
        ..idle(0x107)
    };
    insert(table, &record).await;
    let another = Change::forget_token(Secret::new("u"), Some(at(7)));
    let late = Change::forget_token(token(), Some(at(6)));
    for change in [another, late] {
        let outcome = table.change_instance(&record.arn, &change).await;
        let outcome = outcome.expect("change");
        assert_eq!(outcome, Outcome::Conflict(Some(record.clone())));
    }
    let used = Change::forget_token(token(), Some(at(7)));
    assert_eq!(apply(table, &record, &used).await.token, None);
    let gone = table.change_instance(&record.arn, &used).await;
    assert!(matches!(gone, Ok(Outcome::Conflict(Some(_)))), "{gone:?}");
}

async fn many_are_read_at_once(table: &dyn Table) {
    let arns: Vec<InstanceArn> = (0x1000..0x1000 + 150).map(arn).collect();
    for arn in &arns {
        let record = InstanceRecord {
            arn: arn.clone(),
            ..InstanceRecord::example(State::Terminated)
        };
        insert(table, &record).await;
    }
    let wanted: Vec<InstanceArn> = arns.iter().cloned().chain([arn(0x1fff)]).collect();
    let mut found: Vec<InstanceArn> = table
        .instances(&wanted)
        .await
        .expect("read")
        .into_iter()
        .map(|record| record.arn)
        .collect();
    found.sort();
    assert_eq!(found, arns);
    assert!(table.instances(&[]).await.expect("read").is_empty());
}

async fn many_are_changed_at_once_each_for_itself(table: &dyn Table) {
    // More than a transaction takes; one in ten has moved on, and one is not there at all.
    let records: Vec<InstanceRecord> = (0..130)
        .map(|n| InstanceRecord {
            generation: 1 + u64::from(n % 10 == 3),
            ..idle(5_000 + n)
        })
        .collect();
    for record in &records {
        insert(table, record).await;
    }
    let end = Transition::Terminate {
        reason: "test".into(),
        only: Terminate::Generation(1),
    };
    let absent = arn(5_999);
    let changes: Vec<(InstanceArn, Change)> = records
        .iter()
        .map(|record| record.arn.clone())
        .chain([absent])
        .map(|arn| (arn, end.change(at(1))))
        .collect();
    let outcomes = table.change_instances(&changes).await;
    assert_eq!(outcomes.len(), changes.len());
    for (n, outcome) in outcomes.into_iter().enumerate() {
        let wanted = match records.get(n) {
            None => Outcome::Conflict(None),
            Some(record) if n % 10 == 3 => Outcome::Conflict(Some(record.clone())),
            Some(_) => Outcome::Applied(()),
        };
        assert_eq!(outcome.expect("the table answers"), wanted, "machine {n}");
        if let Some(record) = records.get(n) {
            let now = table.instance(&record.arn).await.expect("read");
            let ended = now.expect("a record").state == State::Terminated;
            assert_eq!(ended, n % 10 != 3, "machine {n}");
        }
    }
    let listed = table.live().await.expect("list").instances;
    let mut left: Vec<_> = listed
        .into_iter()
        .filter(|record| changes.iter().any(|(arn, _)| *arn == record.arn))
        .collect();
    left.sort_by(|a, b| a.arn.cmp(&b.arn));
    let moved_on: Vec<_> = records
        .into_iter()
        .filter(|it| it.generation == 2)
        .collect();
    assert_eq!(left, moved_on);
}

async fn the_journal_of_refresh_is_written_in_order(table: &dyn Table) {
    let journal = |revision, until| RefreshJournal {
        revision,
        holder: format!("refresh {revision}"),
        since: at(0),
        until,
        floor: vec![FloorTrouble {
            resource_class: "large".parse().expect("a name"),
            usage_class: UsageClass::Spot,
            failures: 2,
            not_before: at(600),
            why: "no capacity".into(),
        }],
    };
    let (first, second) = (journal(1, Some(at(60))), journal(2, None));
    let early = table.put_refresh(&second).await.expect("write");
    assert_eq!(early, Outcome::Conflict(None));
    for journal in [&first, &second] {
        let written = table.put_refresh(journal).await.expect("write");
        assert_eq!(written, Outcome::Applied(journal.clone()));
    }
    let late = table.put_refresh(&journal(2, Some(at(90)))).await;
    assert_eq!(
        late.expect("write"),
        Outcome::Conflict(Some(second.clone()))
    );
    let config = table.config().await.expect("read");
    assert_eq!(config.refresh, Some(second));
}

async fn the_index_lists_by_state_and_threshold(table: &dyn Table) {
    for (number, seconds) in [(0x201, 30), (0x202, 10), (0x203, 20)] {
        let record = InstanceRecord {
            state: State::Claimed,
            threshold: Some(at(seconds)),
            ..idle(number)
        };
        insert(table, &record).await;
    }
    let until = table
        .instances_in(State::Claimed, Some(at(20)))
        .await
        .expect("list");
    let arns: Vec<InstanceArn> = until.into_iter().map(|record| record.arn).collect();
    assert_eq!(arns, [arn(0x202), arn(0x203)]);
    let all = table
        .instances_in(State::Claimed, None)
        .await
        .expect("list");
    assert!(all.iter().any(|record| record.arn == arn(0x201)));
}

fn journal(run: &str) -> ProvisionRecord {
    ProvisionRecord {
        run: run.parse().expect("a run id"),
        label: label(run),
        revision: 1,
        attempt: 1,
        repository: Some("acme/widgets".to_owned()),
        request: Request {
            count: 2,
            resource_class: "large".parse().expect("a class"),
            usage_class: UsageClass::Spot,
            allowed_instance_types: vec!["c*".into()],
            max_runtime_sec: 1800,
        },
        phase: Phase::Open,
        client_token: "token".into(),
        claimed: Vec::new(),
        launched: Vec::new(),
        generations: std::collections::BTreeMap::new(),
        started_at: at(0),
        beat: at(0),
        error: None,
        expires_at: None,
    }
}

async fn a_journal_is_written_in_order(table: &dyn Table) {
    let first = journal("501");
    let put = table.put_provision(&first).await.expect("put");
    assert_eq!(put, Outcome::Applied(first.clone()));
    let again = table.put_provision(&first).await.expect("put");
    assert_eq!(again, Outcome::Conflict(Some(first.clone())));
    let mut second = first.next(at(1));
    second.claimed.push(arn(1).id().clone());
    let put = table.put_provision(&second).await.expect("put");
    assert_eq!(put, Outcome::Applied(second.clone()));
    let late = table.put_provision(&first.next(at(2))).await.expect("put");
    assert_eq!(late, Outcome::Conflict(Some(second.clone())));
    let read = table.provisions_of(&first.run).await.expect("read");
    assert_eq!(read, [second]);
    let gap = ProvisionRecord {
        revision: 3,
        ..journal("503")
    };
    assert_eq!(
        table.put_provision(&gap).await.expect("put"),
        Outcome::Conflict(None)
    );
}

async fn only_open_journals_are_listed(table: &dyn Table) {
    let open = journal("502");
    table.put_provision(&open).await.expect("put");
    let listed = table.live().await.expect("list").provisions;
    assert!(listed.contains(&open));
    let closed = ProvisionRecord {
        phase: Phase::Committed,
        ..open.next(at(1))
    };
    table.put_provision(&closed).await.expect("put");
    let listed = table.live().await.expect("list").provisions;
    assert!(listed.iter().all(|record| record.run != open.run));
}

async fn the_configuration_reads_back(table: &dyn Table) {
    let class = |name: &str, cpu| ResourceClass {
        name: name.parse().expect("a name"),
        cpu,
        mmem: 4096,
        queue_url: format!("http://queue/{name}"),
    };
    let items = [
        ConfigItem::Schema(Schema {
            version: 1,
            table_arn: "arn".into(),
            github_url: "https://github.com/acme/widgets".into(),
        }),
        ConfigItem::LaunchTemplate(LaunchTemplate {
            id: "lt-1".into(),
            version: 3,
            content_hash: "abc".into(),
            runner: None,
            image: Some(Image {
                id: "ami-1".into(),
                root_device: "/dev/xvda".into(),
                root_gib: 8,
            }),
        }),
        ConfigItem::ResourceClass(class("large", 2)),
        ConfigItem::ResourceClass(class("xlarge", 4)),
        ConfigItem::Parameters(Parameters {
            subnet_ids: vec!["subnet-1".into(), "subnet-2".into()],
            idle_time_sec: 1,
            keeps_idle: true,
            max_jobs: Some(7),
            max_age_sec: None,
            max_runtime_sec: 2,
            claim_timeout_sec: 3,
            fleet_timeout_sec: 4,
            release_timeout_sec: 5,
            healthy_within_sec: 6,
            metrics: true,
        }),
        ConfigItem::GithubTokens(GithubTokens {
            registration: Secret::new("a"),
            removal: Secret::new("b"),
            obtained_at: at(0),
            expires_at: at(3600),
        }),
    ];
    let mut expected = proto::config::Config::default();
    for item in items {
        table.put_config(&item).await.expect("put");
        expected.put(item);
    }
    assert_eq!(table.config().await.expect("read"), expected);
    table
        .delete_class(&"large".parse().expect("a name"))
        .await
        .expect("delete");
    let names: Vec<String> = table
        .config()
        .await
        .expect("read")
        .resource_classes
        .iter()
        .map(|c| c.name.to_string())
        .collect();
    assert_eq!(names, ["xlarge"]);
}
