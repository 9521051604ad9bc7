//! The provision record, as its one writer holds it.

use proto::{
    ids::{InstanceId, Label},
    provision::ProvisionRecord,
    state::RECORD_KEPT,
    table::{Outcome, TableError},
};

use crate::world::World;

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
        next.expires_at = (!next.phase.is_open()).then(|| (now + RECORD_KEPT).as_secs());
        self.put(next).await
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

    async fn put(&mut self, next: ProvisionRecord) -> Result<(), JournalError> {
        match self.world.table.put_provision(&next).await? {
            Outcome::Applied(_) => {}
            // A repeat of a write that was applied, whose answer was lost.
            Outcome::Conflict(Some(current)) if current == next => {}
            Outcome::Conflict(_) => return Err(JournalError::TakenOver(next.label)),
        }
        self.record = next;
        Ok(())
    }
}
