//! The kernel's keyrings, in which a job could leave secrets, or what misleads the next one.
//!
//! What the agent starts begins with an empty session keyring, so that nothing passes from one
//! program to the next. What the kernel keeps for the jobs' users goes with the cleaning.

use std::{fs, io, num::NonZeroI32, thread, time::Duration};

use keyutils_raw::{
    KEY_SPEC_THREAD_KEYRING, keyctl_get_persistent, keyctl_invalidate, keyctl_join_session_keyring,
};
use nix::unistd::{Uid, setfsuid};
use tokio::{
    process::{Child, Command},
    runtime::Handle,
};

use crate::account::Person;

/// How many keys each user has, a line for each user that has any: `1001:     4 4/4 3/200 49/20000`.
/// Not there on a kernel without keyrings.
const USERS: &str = "/proc/key-users";
/// The keys that the reader may see: `2d9f120f I--Q--- 1 perm 1f3f0000 1001 65534 keyring _uid.1001: 2`.
const KEYS: &str = "/proc/keys";
/// What the name of the keyring begins with that outlives a user's last process.
const PERSISTENT: &str = "_persistent.";
/// The kernel lets go of keys on its own time.
const LOOK: Duration = Duration::from_millis(5);

/// Keys that do not go, of these users.
#[derive(Debug, thiserror::Error)]
#[error(
    "the kernel keeps keys of the last run, those of the users {0:?} in {KEYS}: a job locked or \
     revoked a keyring, or something that is no job's has a hold of them"
)]
pub(crate) struct KeysLeft(Vec<u32>);

/// Starts a program, with a session keyring of its own wherever there are such.
pub(crate) fn spawn(command: &mut Command) -> io::Result<Child> {
    let runtime = Handle::current();
    // A keyring is joined by a thread alone, and what it starts inherits it.
    on_its_own(move || {
        let _runtime = runtime.enter();
        join_session()?;
        command.spawn()
    })?
}

/// Begins a session keyring; answers whether there are such.
fn join_session() -> io::Result<bool> {
    match keyctl_join_session_keyring(None).map_err(io::Error::from) {
        Ok(_) => Ok(true),
        // The kernel has none, or a container's rules forbid them: to jobs too.
        Err(error)
            if [io::ErrorKind::Unsupported, io::ErrorKind::PermissionDenied]
                .contains(&error.kind()) =>
        {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

/// Takes everything from the kernel's keyrings of a person and waits until it is gone, for so long.
/// The person's processes must have ended. Blocks.
pub(crate) fn forget(person: &Person, within: Duration) -> Result<(), KeysLeft> {
    if matches!(on_its_own(join_session), Ok(Ok(false))) {
        // What the kernel shows is not this container's.
        return Ok(());
    }
    let mut waited = Duration::ZERO;
    loop {
        // Not there: nobody has any.
        let counts = fs::read_to_string(USERS).unwrap_or_default();
        let left = owners(&counts, person);
        if left.is_empty() {
            return Ok(());
        }
        if waited > within {
            return Err(KeysLeft(left));
        }
        for user in left {
            if let Err(error) = on_its_own(|| invalidate(user)) {
                tracing::warn!("keyrings are not emptied: {error}");
            }
        }
        thread::sleep(LOOK);
        waited += LOOK;
    }
}

/// The users of a person that have keys.
fn owners(counts: &str, person: &Person) -> Vec<u32> {
    counts
        .lines()
        .filter_map(|line| line.split_once(':')?.0.trim().parse().ok())
        .filter(|user| person.is(*user))
        .collect()
}

/// Invalidates what this user may, its keyrings above all: what is only in those goes with them.
/// This thread must end then, for it is not root's any more.
fn invalidate(user: u32) {
    setfsuid(Uid::from_raw(user));
    let keys = fs::read_to_string(KEYS).unwrap_or_default();
    for (key, name) in keys.lines().filter_map(|line| owned(line, user)) {
        if name.starts_with(PERSISTENT) {
            // This one only whoever has it in a keyring may invalidate.
            let _ = keyctl_get_persistent(user, KEY_SPEC_THREAD_KEYRING);
        }
        // Fails for a key that only whoever has it may touch. Whether it went is seen afterwards.
        let _ = keyctl_invalidate(key);
    }
}

/// Number and name of a key, if it is this user's and not invalid already: to ask for a persistent
/// keyring that is would make a new one.
fn owned(line: &str, user: u32) -> Option<(NonZeroI32, &str)> {
    let mut fields = line.split_whitespace();
    let key = i32::from_str_radix(fields.next()?, 16).ok()?;
    let valid = !fields.next()?.ends_with('i');
    let owner: u32 = fields.nth(3)?.parse().ok()?;
    let name = fields.nth(2)?;
    (valid && owner == user).then_some((NonZeroI32::new(key)?, name))
}

/// Does this on a thread that ends with it: what a thread becomes, it stays.
fn on_its_own<T: Send>(work: impl FnOnce() -> T + Send) -> io::Result<T> {
    thread::scope(|scope| {
        thread::Builder::new()
            .spawn_scoped(scope, work)?
            .join()
            .map_err(|_| io::Error::other("the thread that was to do it panicked"))
    })
}

#[cfg(test)]
mod tests {
    use std::process::Stdio;

    use keyutils_raw::{KEY_POS_ALL, KEY_SPEC_SESSION_KEYRING, add_key, keyctl_setperm};

    use super::*;

    fn person(user: u32) -> Person {
        Person {
            name: "nobody-here".into(),
            user,
            group: user,
            home: "/nowhere".into(),
            subordinate: Vec::new(),
        }
    }

    #[test]
    fn whose_keys_there_are_is_understood() {
        let counts = "    0:    11 10/10 3/1000000 96/25000000\n 1001:     4 4/4 3/200 49/20000\n";
        assert_eq!(owners(counts, &person(1001)), [1001]);
        assert_eq!(owners(counts, &person(1002)), [0; 0]);
        let line = "319d9c4b I------     1   3d 1f030000  1001 65534 keyring   _persistent.1001: 1";
        let (key, name) = owned(line, 1001).unwrap();
        assert_eq!((key.get(), name), (0x319d_9c4b, "_persistent.1001:"));
        assert_eq!(owned(line, 1002), None);
        assert_eq!(owned(&line.replace("I------", "I-----i"), 1001), None);
        assert_eq!(owned("harm", 1001), None);
    }

    /// Whether this kernel has keyrings, and this test may use them.
    fn has_keyrings() -> bool {
        let has = join_session().unwrap();
        if !has {
            eprintln!("SKIPPED: there are no keyrings here");
        }
        has
    }

    async fn sees(child: io::Result<Child>, key: NonZeroI32) -> bool {
        let output = child.unwrap().wait_with_output().await.unwrap();
        let keys = String::from_utf8(output.stdout).unwrap();
        assert!(!keys.is_empty());
        keys.contains(&format!("{key:08x}"))
    }

    #[tokio::test]
    async fn what_is_started_has_a_session_of_its_own() {
        if !has_keyrings() {
            return;
        }
        let secret = add_key("user", "paddock-test", b"secret", KEY_SPEC_SESSION_KEYRING).unwrap();
        // Now only those see it that have it.
        keyctl_setperm(secret, KEY_POS_ALL).unwrap();
        let mut look = Command::new("cat");
        look.args([KEYS, USERS]).stdout(Stdio::piped());
        assert!(sees(look.spawn(), secret).await);
        assert!(!sees(spawn(&mut look), secret).await);
    }

    #[test]
    fn what_cannot_be_forgotten_is_named_and_what_can_be_is() {
        if !(Uid::effective().is_root() && has_keyrings()) {
            return eprintln!("SKIPPED: only root forgets another user's keys");
        }
        // Nobody's, and another one in each test at the same time.
        let person = person(2_000_000_000 + std::process::id());
        let moment = Duration::from_millis(50);
        forget(&person, moment).unwrap();
        on_its_own(|| {
            setfsuid(Uid::from_raw(person.user));
            let held = add_key("user", "paddock-test", b"secret", KEY_SPEC_THREAD_KEYRING);
            held.unwrap();
            // One more, in the keyring that outlives all; not every kernel has it.
            if let Ok(ring) = keyctl_get_persistent(person.user, KEY_SPEC_THREAD_KEYRING) {
                add_key("user", "paddock-test", b"secret", ring).unwrap();
            }
            let error = forget(&person, moment).unwrap_err().to_string();
            assert!(error.contains(&person.user.to_string()), "{error}");
        })
        .unwrap();
        forget(&person, Duration::from_secs(30)).unwrap();
    }
}
