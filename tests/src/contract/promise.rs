//! Promises by name, and the forms of a port that cannot keep some of them.

use std::{any::Any, panic::AssertUnwindSafe, time::Duration};

use futures::{FutureExt, future::BoxFuture};

/// No promise takes longer; a form that hangs breaks it.
const WITHIN: Duration = Duration::from_mins(1);

/// A promise, and what tries it on a form: it panics where the promise is broken.
pub(super) type Promise<'a> = (&'static str, BoxFuture<'a, ()>);

/// A promise that a stand-in cannot keep.
#[derive(Clone, Copy, Debug)]
pub struct Gap {
    /// The promise's name.
    pub promise: &'static str,
    /// What the stand-in lacks.
    pub reason: &'static str,
}

/// The promises of these names, tried on one form.
macro_rules! promises {
    ($form:expr; $($promise:ident),+ $(,)?) => {
        vec![$((
            stringify!($promise),
            Box::pin($promise($form)) as futures::future::BoxFuture<'_, ()>,
        )),+]
    };
}
pub(super) use promises;

/// Tries every promise, one after the other.
///
/// # Panics
///
/// When a promise is broken that is no gap, when a gap is none after all, and when a gap names no
/// promise.
pub(super) async fn try_all(promises: Vec<Promise<'_>>, gaps: &[Gap]) {
    let mut wrong = Vec::new();
    for gap in gaps {
        if !promises.iter().any(|(name, _)| *name == gap.promise) {
            wrong.push(format!("no promise is called {}", gap.promise));
        }
    }
    for (name, trial) in promises {
        let gap = gaps.iter().find(|gap| gap.promise == name);
        let tried = AssertUnwindSafe(trial).catch_unwind();
        let broken = match tokio::time::timeout(WITHIN, tried).await {
            Ok(Ok(())) => None,
            Ok(Err(panic)) => Some(words(&*panic)),
            Err(_) => Some(format!("nothing came of it in {WITHIN:?}")),
        };
        match (broken, gap) {
            (None, None) => {}
            (None, Some(gap)) => wrong.push(format!("{name} is kept, though {}", gap.reason)),
            (Some(seen), None) => wrong.push(format!("{name}: {seen}")),
            (Some(_), Some(gap)) => println!("cannot: {name}, since {}", gap.reason),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("it panicked").to_owned()
}
