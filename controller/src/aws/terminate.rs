//! `TerminateInstances`, which terminates all of a batch or none.

use std::time::Duration;

use aws_sdk_ec2::Client;
use futures::{StreamExt, stream};
use proto::ids::InstanceId;

use super::failed;
use crate::ports::{PortError, Unknown};

/// A call takes so many ids.
const BATCH: usize = 1000;
/// So many calls for single machines are under way at a time: EC2 throttles an account that makes
/// more.
const AT_A_TIME: usize = 10;
/// EC2 does not know the id (any more, or yet).
const NOT_FOUND: &str = "InvalidInstanceID.NotFound";
/// Under a policy that asks for the pool's tag, as ours do, this is said of an id that EC2 does not
/// know (any more, or yet) as well: it has no tags
/// (<https://github.com/aws/karpenter-provider-aws/issues/2100>).
const UNAUTHORIZED: &str = "UnauthorizedOperation";
/// The refusals of a batch for the sake of some of its machines: unknown ones, ill-formed ids,
/// those with termination protection, those in an odd state. After any other the single machines
/// would fare no better.
const ABOUT_SOME: [&str; 5] = [
    NOT_FOUND,
    UNAUTHORIZED,
    "InvalidInstanceID.Malformed",
    "OperationNotPermitted",
    "IncorrectInstanceState",
];
/// The pauses until a new machine must be known, 3.1 s in all: EC2 takes a second or two, and a
/// cancelled step has only six for everything.
const UNTIL_KNOWN: [Duration; 5] = [
    Duration::from_millis(100),
    Duration::from_millis(200),
    Duration::from_millis(400),
    Duration::from_millis(800),
    Duration::from_millis(1600),
];

/// Terminates machines; those that could not be.
pub(super) async fn terminate(
    client: &Client,
    ids: &[InstanceId],
    unknown: Unknown,
) -> Result<Vec<(InstanceId, PortError)>, PortError> {
    let mut left = Vec::new();
    for batch in ids.chunks(BATCH) {
        match call(client, batch).await {
            Ok(()) => {}
            Err(error) if is_about_some(&error) => {
                let single = batch.iter().cloned().map(|id| one(client, id, unknown));
                let refused: Vec<(InstanceId, PortError)> = stream::iter(single)
                    .buffer_unordered(AT_A_TIME)
                    .filter_map(|end| std::future::ready(end.err()))
                    .collect()
                    .await;
                left.extend(refused);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(left)
}

fn is_about_some(error: &PortError) -> bool {
    let code = error.code.as_deref();
    code.is_some_and(|code| ABOUT_SOME.contains(&code))
}

async fn one(
    client: &Client,
    id: InstanceId,
    unknown: Unknown,
) -> Result<(), (InstanceId, PortError)> {
    let mut pauses = UNTIL_KNOWN.into_iter();
    loop {
        let Err(error) = call(client, std::slice::from_ref(&id)).await else {
            return Ok(());
        };
        match (error.code.as_deref(), unknown) {
            (Some(NOT_FOUND), Unknown::Gone) => return Ok(()),
            (Some(NOT_FOUND | UNAUTHORIZED), Unknown::NotYet) => match pauses.next() {
                Some(pause) => tokio::time::sleep(pause).await,
                None => return Err((id, error)),
            },
            (_, Unknown::Gone | Unknown::NotYet) => return Err((id, error)),
        }
    }
}

async fn call(client: &Client, ids: &[InstanceId]) -> Result<(), PortError> {
    client
        .terminate_instances()
        .set_instance_ids(Some(ids.iter().map(ToString::to_string).collect()))
        .send()
        .await
        .map(drop)
        .map_err(failed("terminate machines"))
}
