//! An operator's wish that this machine takes no new tenant: a file, which the running agent looks
//! for and which outlives its restarts. It says which machine, for an image made from a machine
//! carries the file.

use std::path::{Path, PathBuf};

use proto::ids::InstanceId;

use crate::files::{FileError, read_json, remove, write_json};

fn file(state_dir: &Path) -> PathBuf {
    state_dir.join("drain")
}

pub(crate) fn is_wanted(state_dir: &Path, instance: &InstanceId) -> Result<bool, FileError> {
    let whose: Option<InstanceId> = read_json(&file(state_dir))?;
    Ok(whose.as_ref() == Some(instance))
}

/// Wishes it, or no longer.
pub(crate) fn wish(
    state_dir: &Path,
    instance: &InstanceId,
    drained: bool,
) -> Result<(), FileError> {
    let path = file(state_dir);
    if drained {
        write_json(&path, instance, 0o600)
    } else {
        remove(&path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wish_for_one_machine_is_none_for_another_from_its_image() {
        let folder = tempfile::tempdir().unwrap();
        let [own, other] =
            ["i-0123456789abcdef0", "i-aaaaaaaaaaaaaaaaa"].map(|id| id.parse().unwrap());
        let wanted = |instance| is_wanted(folder.path(), instance).unwrap();
        assert!(!wanted(&own));
        wish(folder.path(), &own, true).unwrap();
        assert!(wanted(&own) && !wanted(&other));
        wish(folder.path(), &own, false).unwrap();
        assert!(!wanted(&own));
    }
}
