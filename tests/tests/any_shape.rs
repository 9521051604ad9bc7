//! What comes from the network, from jobs and from users may have any shape: it is read or refused,
//! never a panic; and what Paddock writes, it reads back as it was.

use std::{collections::HashMap, ffi::OsString, fs::File, io::Write, sync::mpsc};

use agent::{
    imds::{read_identity, read_interruption},
    listener::Follow,
    machine::Said,
};
use aws_sdk_dynamodb::types::AttributeValue;
use controller::{inputs::Inputs, output::Console};
use proptest::{collection, option, prelude::*};
use proto::{
    agent_config::AgentConfig,
    config::{LaunchTemplate, Parameters, ResourceClass},
    ids::{Home, InstanceArn},
    instance::{Health, InstanceRecord, Job, Runner, Secret},
    message::PoolMessage,
    provision::ProvisionRecord,
    signal::{Report, Signal},
    state::State,
    time::Time,
};
use serde_json::{Value, json};

/// Any JSON, with the keys and values that Paddock's own forms have among others.
fn any_json() -> impl Strategy<Value = Value> {
    let word = prop_oneof![
        Just("v".to_owned()),
        Just("id".to_owned()),
        Just("pk".to_owned()),
        Just("state".to_owned()),
        Just("idle".to_owned()),
        Just("generation".to_owned()),
        Just("i-0123456789abcdef0".to_owned()),
        Just("2026-11-21T04:05:06.789Z".to_owned()),
        any::<String>(),
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f32>().prop_map(Value::from),
        word.clone().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 64, 8, move |inner| {
        prop_oneof![
            collection::vec(inner.clone(), 0..8).prop_map(Value::from),
            collection::hash_map(word.clone(), inner, 0..8)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// A valid form of something in which any value may have been replaced or removed.
fn spoiled(valid: Value) -> impl Strategy<Value = Value> {
    let keys: Vec<String> = valid
        .as_object()
        .map(|map| map.keys().cloned().collect())
        .unwrap_or_default();
    let change = (proptest::sample::select(keys), option::of(any_json()));
    collection::vec(change, 0..3).prop_map(move |changes| {
        let mut spoiled = valid.clone();
        for (key, value) in changes {
            match (spoiled.as_object_mut(), value) {
                (Some(map), Some(value)) => drop(map.insert(key, value)),
                (Some(map), None) => drop(map.remove(&key)),
                (None, _) => {}
            }
        }
        spoiled
    })
}

fn attribute(value: &Value) -> AttributeValue {
    match value {
        Value::Null => AttributeValue::Null(true),
        Value::Bool(value) => AttributeValue::Bool(*value),
        Value::Number(value) => AttributeValue::N(value.to_string()),
        Value::String(value) => AttributeValue::S(value.clone()),
        Value::Array(values) => AttributeValue::L(values.iter().map(attribute).collect()),
        Value::Object(map) => AttributeValue::M(item(map)),
    }
}

fn item(map: &serde_json::Map<String, Value>) -> HashMap<String, AttributeValue> {
    map.iter()
        .map(|(key, value)| (key.clone(), attribute(value)))
        .collect()
}

fn times() -> impl Strategy<Value = Time> {
    (0..4_000_000_000_000_i64).prop_map(Time::from_millis)
}

fn signals() -> impl Strategy<Value = Signal> {
    prop_oneof![
        Just(Signal::Ok),
        Just(Signal::Failed),
        Just(Signal::RegOk),
        Just(Signal::RegFailed),
        Just(Signal::RemoveRegOk),
        Just(Signal::RemoveRegFailed),
        Just(Signal::Interrupted),
    ]
}

prop_compose! {
    fn records()(
        state in proptest::sample::select(&State::ALL[..]),
        label in option::of("[0-9]{1,12}(-[a-z]{1,8})?"),
        threshold in option::of(times()),
        generation in any::<u32>(),
        heartbeat in option::of(times()),
        report in option::of((signals(), any::<u32>(), times(), option::of(any::<String>()))),
        job in option::of((any::<String>(), times())),
        runner in option::of((any::<String>(), option::of(any::<String>()))),
        health in option::of((any::<bool>(), option::of(any::<String>()))),
        token in option::of(any::<String>()),
        reason in option::of(any::<String>()),
    ) -> InstanceRecord {
        InstanceRecord {
            label: label.map(|label| label.parse().expect("a valid label")),
            threshold,
            generation: generation.into(),
            heartbeat,
            report: report.map(|(signal, generation, at, detail)| Report {
                signal,
                generation: generation.into(),
                at,
                detail,
            }),
            job: job.map(|(name, since)| Job { name, since }),
            runner: runner.map(|(version, name)| Runner { version, name }),
            health: health.map(|(healthy, reason)| Health { healthy, reason }),
            token: token.map(Secret::new),
            reason,
            ..InstanceRecord::example(state)
        }
    }
}

fn a_config() -> Value {
    json!({
        "v": 1,
        "pool": "p",
        "table": "paddock-p",
        "region": "us-east-1",
        "githubUrl": "https://github.com/acme/widgets",
    })
}

fn a_document() -> Value {
    json!({
        "accountId": "123456789012",
        "architecture": "x86_64",
        "availabilityZone": "us-east-1a",
        "imageId": "ami-0123456789abcdef0",
        "instanceId": "i-0123456789abcdef0",
        "instanceType": "m6i.large",
        "pendingTime": "2026-11-21T04:05:06Z",
        "privateIp": "10.0.0.1",
        "region": "us-east-1",
        "version": "2017-09-30",
    })
}

/// What a listener says, as it prints it: its time, then its words.
fn printed(said: &Said) -> String {
    let words = match said {
        Said::Listening => "Listening for Jobs".to_owned(),
        Said::JobStarted(name) => format!("Running job: {name}"),
        Said::JobEnded => "Job build completed with result: Succeeded".to_owned(),
    };
    format!("2026-11-21 04:05:06Z: {words}\n")
}

/// What jobs and the runner print besides; nothing that says the time as the listener does.
fn noise() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("√ Connected to GitHub\n".to_owned()),
        Just("Listening for Jobs\r\n".to_owned()),
        Just("x 2026-11-21 04:05:06Z: Running job: x\n".to_owned()),
        any::<String>().prop_map(|text| format!("> {}\n", text.replace('\n', " "))),
    ]
}

fn said() -> impl Strategy<Value = Said> {
    prop_oneof![
        Just(Said::Listening),
        "[^\\r\\n]{0,80}".prop_map(Said::JobStarted),
        Just(Said::JobEnded),
    ]
}

fn in_user_data(config: &AgentConfig) -> Vec<u8> {
    userdata::render(config, None).expect("small enough")
}

proptest! {
    #[test]
    fn user_data_of_any_shape_is_read_or_refused(bytes in any::<Vec<u8>>(), json in any_json()) {
        let _ = userdata::parse(&bytes);
        let config: AgentConfig = serde_json::from_value(a_config()).expect("a valid one");
        let whole = String::from_utf8(in_user_data(&config)).expect("text");
        let valid = serde_json::to_string(&config).expect("JSON");
        let _ = userdata::parse(whole.replace(&valid, &json.to_string()).as_bytes());
        let cut = bytes.len().min(whole.len());
        let _ = userdata::parse(&whole.as_bytes()[cut..]);
        let gzip = [&[0x1f, 0x8b], bytes.as_slice()].concat();
        let _ = userdata::parse(&gzip);
    }

    #[test]
    fn a_spoiled_configuration_is_read_or_refused(json in spoiled(a_config())) {
        if let Ok(config) = serde_json::from_value::<AgentConfig>(json) {
            // What is accepted comes out of the user data as it went in, if it has the version.
            match userdata::parse(&in_user_data(&config)) {
                Ok(back) => prop_assert_eq!(
                    serde_json::to_value(back).expect("JSON"),
                    serde_json::to_value(&config).expect("JSON")
                ),
                Err(error) => prop_assert!(config.v != 1, "{}", error),
            }
        }
    }

    #[test]
    fn messages_of_any_shape_are_read_or_refused(text in any::<String>(), json in any_json()) {
        let _ = PoolMessage::parse(&text);
        let _ = PoolMessage::parse(&json.to_string());
    }

    #[test]
    fn spoiled_messages_are_read_or_refused(json in spoiled(
        serde_json::from_str(&PoolMessage::of(&InstanceRecord::example(State::Idle), Time::EPOCH).body())
            .expect("JSON")
    )) {
        let _ = PoolMessage::parse(&json.to_string());
    }

    #[test]
    fn messages_read_back(record in records(), now in times()) {
        let message = PoolMessage::of(&record, now);
        prop_assert_eq!(PoolMessage::parse(&message.body()).expect("valid"), message);
    }

    #[test]
    fn items_of_any_shape_are_read_or_refused(json in any_json()) {
        if let Value::Object(map) = &json {
            let item = item(map);
            let _ = serde_dynamo::from_item::<_, InstanceRecord>(item.clone());
            let _ = serde_dynamo::from_item::<_, ProvisionRecord>(item.clone());
            let _ = serde_dynamo::from_item::<_, Parameters>(item.clone());
            let _ = serde_dynamo::from_item::<_, LaunchTemplate>(item.clone());
            let _ = serde_dynamo::from_item::<_, ResourceClass>(item);
        }
    }

    #[test]
    fn spoiled_records_are_read_or_refused(json in spoiled(
        serde_json::to_value(InstanceRecord::example(State::Idle)).expect("JSON")
    )) {
        let map = json.as_object().expect("an object");
        let _ = serde_dynamo::from_item::<_, InstanceRecord>(item(map));
    }

    #[test]
    fn records_read_back(record in records()) {
        let item: HashMap<String, AttributeValue> =
            serde_dynamo::to_item(&record).expect("it has a form");
        let back: InstanceRecord = serde_dynamo::from_item(item).expect("valid");
        prop_assert_eq!(back, record);
    }

    #[test]
    fn metadata_of_any_shape_is_read_or_refused(
        bytes in any::<Vec<u8>>(),
        document in spoiled(a_document()),
        notice in spoiled(json!({"action": "terminate", "time": "2026-11-21T04:05:06Z"})),
    ) {
        for answer in [bytes, document.to_string().into(), notice.to_string().into()] {
            if let Ok(identity) = read_identity(&answer) {
                // It is the key of a record: whoever reads that finds the machine.
                let read = InstanceArn::try_from(identity.arn.to_string());
                prop_assert_eq!(read.as_ref(), Ok(&identity.arn));
                let home = Home::of_arn(identity.arn.as_str()).expect("an ARN");
                prop_assert_eq!(home.region, identity.region);
            }
            let _ = read_interruption(&answer);
        }
    }

    #[test]
    fn metadata_reads_back(
        region in "[a-z]{2}(-gov)?-[a-z]{4,9}-[1-9]",
        account in "[0-9]{12}",
        id in "i-[0-9a-f]{17}",
        end in times(),
    ) {
        let mut document = a_document();
        document["region"] = region.clone().into();
        document["accountId"] = account.clone().into();
        document["instanceId"] = id.clone().into();
        let identity = read_identity(document.to_string().as_bytes()).expect("a document");
        let home = Home::of_arn(identity.arn.as_str()).expect("an ARN");
        prop_assert_eq!(identity.arn.id().as_str(), id);
        prop_assert_eq!((home.region, home.account), (region, account));
        let notice = json!({"action": "hibernate", "time": end});
        let read = read_interruption(notice.to_string().as_bytes());
        prop_assert_eq!(read, Ok(end));
    }

    #[test]
    fn what_the_listener_says_is_understood_amid_noise_and_in_pieces(
        lines in collection::vec((noise(), said()), 0..6),
        cut in any::<prop::sample::Index>(),
    ) {
        let text: String = lines.iter().map(|(noise, said)| noise.clone() + &printed(said)).collect();
        let (first, second) = text.as_bytes().split_at(cut.index(text.len() + 1));
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("log");
        let mut file = File::create(&path).expect("a file");
        let mut follow = Follow::open(&path, 0).expect("opened");
        file.write_all(first).expect("written");
        let mut heard = follow.news().expect("read");
        file.write_all(second).expect("written");
        heard.extend(follow.news().expect("read"));
        let understood: Vec<&Said> = heard.iter().map(|(said, _)| said).collect();
        let printed: Vec<&Said> = lines.iter().map(|(_, said)| said).collect();
        prop_assert_eq!(understood, printed);
        // A later agent reads on from wherever this one stopped.
        for (at, (_, offset)) in heard.iter().enumerate() {
            let later = Follow::open(&path, *offset).expect("opened").news().expect("read");
            prop_assert_eq!(&later, &heard[at + 1..]);
        }
    }

    #[test]
    fn command_lines_of_any_shape_are_read_or_refused(
        mode in "(provision|release|refresh|status|destroy)?",
        words in collection::vec("(--[a-z-]{1,20}(=.*)?|.*)", 0..6),
    ) {
        let words = ["controller".to_owned(), mode].into_iter().chain(words);
        let _ = Inputs::read(words.map(OsString::from));
    }

    #[test]
    fn what_a_log_quotes_is_harmless(text in any::<String>()) {
        let (hear, heard) = mpsc::channel();
        let console = Console::heard_by(move |line| hear.send(line.to_owned()).expect("heard"));
        console.say(&text);
        let shown: String = heard.try_iter().collect();
        let terminal = |c: char| c.is_control() && c != '\n';
        prop_assert!(!shown.contains(terminal), "{:?}", shown);
        // GitHub acts upon lines that begin so.
        let command = shown.lines().any(|line| line.trim_start().starts_with("::"));
        prop_assert!(!command, "{:?}", shown);
    }
}
