//! The operations whose calls go wrong, and the worlds in which they do.

use std::{sync::LazyLock, time::Duration};

use proto::{
    config::RefreshJournal,
    provision::Phase,
    table::{Table, dynamo::DynamoTable},
};
use tests::{
    binaries::Binaries,
    clients,
    pool::Pool,
    story::refresh_inputs,
    workflow::{REPOSITORY, Running},
    yard::{
        Settings, Yard,
        github::{Conclusion, Status},
    },
};

/// Built once: hundreds of worlds use them.
static BINARIES: LazyLock<Binaries> =
    LazyLock::new(|| Binaries::build().expect("the programs build"));

/// The run whose steps are disturbed.
pub(super) const RUN: u64 = 7;
/// A run that is over and has not released.
const OVER: u64 = 8;
/// A run whose controller died.
const DEAD: u64 = 9;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    /// Two machines, one from the pool and one new.
    Provision,
    /// Of two machines.
    Release,
    /// Nothing is there yet.
    FirstRefresh,
    /// A new launch template, an idle machine on the old one, a run that is over, and one whose
    /// controller died.
    Upkeep,
}

impl Operation {
    /// The world right before.
    pub(super) async fn prepare(self) -> Pool {
        let binaries = BINARIES.clone();
        let yard = Yard::start(Settings::new(&binaries.agent, &binaries.runner)).await;
        let yard = yard.expect("the yard starts");
        let table = DynamoTable::new(&clients::dynamodb(&yard.aws.url()), "paddock-acme-widgets");
        let pool = Pool {
            yard,
            binaries,
            table,
        };
        for run in [RUN, OVER, DEAD, 1, 2] {
            pool.yard.github.add_run(run, REPOSITORY);
        }
        if self == Self::FirstRefresh {
            return pool;
        }
        let refreshed = start_refresh(&pool, "echo one")
            .finish()
            .await
            .expect("it ends");
        assert_eq!(refreshed.code, 0, "{}", refreshed.log);
        match self {
            Self::FirstRefresh => {}
            Self::Provision => {
                provision(&pool, 1, "1").await;
                assert_eq!(pool.release(1).await.code, 0);
            }
            Self::Release => provision(&pool, RUN, "2").await,
            Self::Upkeep => {
                provision(&pool, 1, "1").await;
                provision(&pool, OVER, "1").await;
                provision(&pool, DEAD, "1").await;
                assert_eq!(pool.release(1).await.code, 0);
                pool.yard
                    .github
                    .set_run(OVER, Status::Completed, Some(Conclusion::Cancelled));
                let committed = pool.journals(DEAD).await.remove(0);
                let mut open = committed.next(committed.beat - Duration::from_mins(2));
                open.phase = Phase::Open;
                pool.table.put_provision(&open).await.expect("written");
            }
        }
        pool
    }

    /// The operation.
    pub(super) fn start(self, pool: &Pool) -> Running {
        match self {
            Self::Provision => {
                let two = [("instance-count", "2")];
                pool.run(RUN).start("provision", &two).expect("it starts")
            }
            Self::Release => pool.run(RUN).start("release", &[]).expect("it starts"),
            Self::FirstRefresh | Self::Upkeep => self.refresh(pool),
        }
    }

    /// The refresh that this operation is, or that follows it.
    pub(super) fn refresh(self, pool: &Pool) -> Running {
        let script = match self {
            Self::Upkeep => "echo two",
            Self::Provision | Self::Release | Self::FirstRefresh => "echo one",
        };
        start_refresh(pool, script)
    }
}

async fn provision(pool: &Pool, run: u64, count: &str) {
    let step = pool.provision(run, count).await;
    assert_eq!(step.code, 0, "{}", step.log);
}

fn start_refresh(pool: &Pool, script: &str) -> Running {
    let mut inputs = refresh_inputs(&pool.yard, "subnet-0a subnet-0b");
    inputs.extend([
        ("pre-runner-script", format!("#!/bin/sh\n{script}\n")),
        // Nothing expires while a loaded computer plays the case.
        ("idle-time-sec", "3600".to_owned()),
    ]);
    let inputs: Vec<_> = inputs
        .iter()
        .map(|(name, value)| (*name, &**value))
        .collect();
    pool.run(1).start("refresh", &inputs).expect("it starts")
}

/// What a few minutes change, in no time: whoever died is known to be dead.
pub(super) async fn age(pool: &Pool) {
    let Ok(live) = pool.table.live().await else {
        // There is no table yet.
        return;
    };
    for journal in live.provisions {
        let aged = journal.next(journal.beat - Duration::from_mins(2));
        pool.table.put_provision(&aged).await.expect("written");
    }
    let config = pool.table.config().await.expect("read");
    if let Some(journal) = config.refresh.filter(|journal| journal.until.is_some()) {
        let aged = RefreshJournal {
            revision: journal.revision + 1,
            until: Some(journal.since),
            ..journal
        };
        pool.table.put_refresh(&aged).await.expect("written");
    }
}
