//! What a command works on: the ports, the pool's home, the clock.

use std::sync::Arc;

use proto::{
    ids::{Home, InstanceArn, InstanceId, PoolName},
    instance::InstanceRecord,
    table::{Table, TableError, TableErrorKind},
    time::{Clock, Time},
};

use crate::{
    output::chain,
    ports::{Fleet, Pool},
};

/// One pool, as provision and release see it.
#[derive(Clone)]
pub struct World {
    /// The pool's name.
    pub pool_name: PoolName,
    /// The account and region of its machines.
    pub home: Home,
    /// The pool's table.
    pub table: Arc<dyn Table>,
    /// The pool's queues.
    pub pool: Arc<dyn Pool>,
    /// EC2.
    pub fleet: Arc<dyn Fleet>,
    /// The present.
    pub clock: Arc<dyn Clock>,
    /// A random number in 0..1, for pauses that are not to be alike.
    pub chance: Arc<dyn Fn() -> f64 + Send + Sync>,
}

impl World {
    /// The present instant.
    pub fn now(&self) -> Time {
        self.clock.now()
    }

    /// The records of machines that are being waited for; none when the table is out of reach for
    /// a moment: whoever waits until `deadline` has time for another look.
    ///
    /// # Errors
    ///
    /// When the table refuses, or is still out of reach at the deadline.
    pub async fn look(
        &self,
        arns: &[InstanceArn],
        deadline: Time,
    ) -> Result<Option<Vec<InstanceRecord>>, TableError> {
        let found = self.table.instances(arns).await;
        patiently(found, self.now(), deadline)
    }

    /// The key of an instance's record.
    pub fn arn(&self, id: &InstanceId) -> InstanceArn {
        InstanceArn::new(&self.home, id)
    }
}

/// The table's answer to somebody who waits until `deadline`; none when it is out of reach for a
/// moment and there is time to ask again.
///
/// # Errors
///
/// When the table refuses, or is still out of reach at the deadline.
pub fn patiently<T>(
    answer: Result<T, TableError>,
    now: Time,
    deadline: Time,
) -> Result<Option<T>, TableError> {
    match answer {
        Err(error) if error.kind == TableErrorKind::Unavailable && now < deadline => {
            tracing::warn!("{}; trying again", chain(&error));
            Ok(None)
        }
        answer => answer.map(Some),
    }
}
