//! One refresh at a time.
//!
//! The lease is the table's journal of refresh. It is taken after the plan is made and only if
//! there is something to do, with the revision that was read before the world was looked at: if
//! another refresh acted meanwhile, the write is refused, and this one's plan is not worth having.

use std::{pin::pin, time::Duration};

use proto::{
    config::{FloorTrouble, RefreshJournal},
    table::{Outcome, TableError},
    time::Time,
};

use super::RefreshPorts;

/// A refresh that dies keeps the others away for so long.
const LEASE: Duration = Duration::from_mins(3);
/// One that lives renews its lease this often: twice it may fail to.
const RENEWAL: Duration = Duration::from_mins(1);

/// Why a lease is not, or no more, ours.
#[derive(Debug, thiserror::Error)]
pub(super) enum LeaseError {
    #[error(transparent)]
    Table(#[from] TableError),
    /// Another refresh has it.
    #[error("another refresh has acted since {0}")]
    Others(Time),
}

/// The right to act.
pub(super) struct Lease<'a> {
    ports: &'a RefreshPorts,
    journal: RefreshJournal,
}

impl<'a> Lease<'a> {
    /// Takes the lease, if nobody has written the journal since `read`.
    pub(super) async fn take(
        ports: &'a RefreshPorts,
        holder: &str,
        read: Option<&RefreshJournal>,
        floor: Vec<FloorTrouble>,
    ) -> Result<Self, LeaseError> {
        let now = ports.clock.now();
        let mut lease = Self {
            ports,
            journal: RefreshJournal {
                revision: read.map_or(0, |journal| journal.revision),
                holder: holder.to_owned(),
                since: now,
                until: None,
                floor,
            },
        };
        lease.write(Some(now + LEASE)).await?;
        Ok(lease)
    }

    /// Does something that may take long. Should another refresh take the lease over meanwhile,
    /// because ours could not be renewed for long, `work` is dropped.
    pub(super) async fn during<T>(
        &mut self,
        work: impl Future<Output = T>,
    ) -> Result<T, LeaseError> {
        let mut work = pin!(work);
        loop {
            tokio::select! {
                biased;
                done = &mut work => return Ok(done),
                () = tokio::time::sleep(RENEWAL) => {
                    let until = self.ports.clock.now() + LEASE;
                    match self.write(Some(until)).await {
                        Err(LeaseError::Table(error)) => {
                            tracing::warn!("the lease could not be renewed: {error}");
                        }
                        written => written?,
                    }
                }
            }
        }
    }

    /// Lets the next refresh in, with what it has to know.
    pub(super) async fn give_back(mut self, floor: Vec<FloorTrouble>) -> Result<(), LeaseError> {
        self.journal.floor = floor;
        self.write(None).await
    }

    async fn write(&mut self, until: Option<Time>) -> Result<(), LeaseError> {
        let next = RefreshJournal {
            revision: self.journal.revision + 1,
            until,
            ..self.journal.clone()
        };
        match self.ports.table.put_refresh(&next).await? {
            Outcome::Applied(_) => {}
            // A repeat of a write that was applied, whose answer was lost.
            Outcome::Conflict(Some(current)) if current == next => {}
            Outcome::Conflict(current) => {
                let since = current.map_or(next.since, |current| current.since);
                return Err(LeaseError::Others(since));
            }
        }
        self.journal = next;
        Ok(())
    }
}
