//! The provision record, as its one writer holds it.

use std::{pin::pin, time::Duration};

use proto::{
    ids::{InstanceId, Label},
    provision::{Phase, ProvisionRecord},
    state::RECORD_KEPT,
    table::{Outcome, TableError},
};

use crate::world::World;

/// How old the beat of a journal at work may become: six times within
/// [`proto::provision::DEAD_AFTER`], so that a few lost writes do no harm.
const BEAT: Duration = Duration::from_secs(10);

/// The journal could not be written.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The table could not be asked.
    #[error(transparent)]
    Table(#[from] TableError),
    /// Somebody else wrote it meanwhile.
    #[error("another step or refresh has taken over the provision of label {0}")]
    TakenOver(Label),
}

/// An open provision record. Each write follows the last one, or is refused.
pub struct Journal<'a> {
    world: &'a World,
    record: ProvisionRecord,
}

impl<'a> Journal<'a> {
    /// Writes the record for the first time.
    ///
    /// # Errors
    ///
    /// When the table refuses, or already has one that this one does not follow.
    pub async fn open(world: &'a World, record: ProvisionRecord) -> Result<Self, JournalError> {
        let mut journal = Self {
            world,
            record: record.clone(),
        };
        journal.put(record).await?;
        Ok(journal)
    }

    /// Takes up a record that was read.
    pub fn resume(world: &'a World, record: ProvisionRecord) -> Self {
        Self { world, record }
    }

    /// As it was last written.
    pub fn record(&self) -> &ProvisionRecord {
        &self.record
    }

    /// Writes the next revision. A closed record may be forgotten after a while.
    ///
    /// # Errors
    ///
    /// When the table refuses, or somebody else wrote a revision meanwhile.
    pub async fn write(
        &mut self,
        change: impl FnOnce(&mut ProvisionRecord),
    ) -> Result<(), JournalError> {
        let now = self.world.now();
        let mut next = self.record.next(now);
        change(&mut next);
        next.expires_at = match next.phase {
            Phase::Open | Phase::RollingBack => None,
            // The run may keep its machines for longer than closed records are kept, and its
            // release finds them by this one.
            Phase::Committed => {
                let run = Duration::from_secs(next.request.max_runtime_sec);
                Some((now + run + RECORD_KEPT).as_secs())
            }
            Phase::RolledBack | Phase::Released => Some((now + RECORD_KEPT).as_secs()),
        };
        self.put(next).await
    }

    /// Renews the beat if it is time: whoever waits long shows that it lives, or else refresh takes
    /// the journal over.
    ///
    /// # Errors
    ///
    /// When somebody took it over. A table that cannot be asked is no error: there is time for
    /// another try.
    pub async fn keep_alive(&mut self) -> Result<(), JournalError> {
        if self.world.now().since(self.record.beat) < BEAT {
            return Ok(());
        }
        match self.write(|_| ()).await {
            Err(JournalError::Table(error)) => {
                tracing::warn!("the journal's beat could not be renewed: {error}");
                Ok(())
            }
            written => written,
        }
    }

    /// Does something that may take long, and keeps the journal alive meanwhile.
    ///
    /// # Errors
    ///
    /// When somebody took the journal over; then `work` is dropped.
    pub async fn during<T>(&mut self, work: impl Future<Output = T>) -> Result<T, JournalError> {
        let mut work = pin!(work);
        loop {
            tokio::select! {
                biased;
                done = &mut work => return Ok(done),
                () = tokio::time::sleep(BEAT) => self.keep_alive().await?,
            }
        }
    }

    /// Takes note that launched machines are terminated; the next write says so.
    pub fn forget_launched(&mut self, ids: &[InstanceId]) {
        self.record.launched.retain(|id| !ids.contains(id));
    }

    /// Takes note of machines without writing: for an undo that follows at once.
    pub fn note_launched(&mut self, ids: impl IntoIterator<Item = InstanceId>) {
        for id in ids {
            if !self.record.launched.contains(&id) {
                self.record.launched.push(id);
            }
        }
    }

    /// Takes note that candidates turned out not to be ours; the next write says so.
    pub fn forget_claims(&mut self, ids: &[InstanceId]) {
        self.record.claimed.retain(|id| !ids.contains(id));
    }

    async fn put(&mut self, mut next: ProvisionRecord) -> Result<(), JournalError> {
        loop {
            match self.world.table.put_provision(&next).await? {
                Outcome::Applied(_) => break,
                // A repeat of a write that was applied, whose answer was lost.
                Outcome::Conflict(Some(current)) if current == next => break,
                // An earlier write of ours that was given up, but applied: go on behind it.
                // (Whoever takes over changes the phase; a beat does not.)
                Outcome::Conflict(Some(current))
                    if current.revision == next.revision
                        && current.client_token == self.record.client_token
                        && current.phase == Phase::Open
                        && self.record.phase == Phase::Open =>
                {
                    next.revision += 1;
                }
                Outcome::Conflict(_) => return Err(JournalError::TakenOver(next.label)),
            }
        }
        self.record = next;
        Ok(())
    }
}
