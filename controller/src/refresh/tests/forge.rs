//! Runners and runs at GitHub.

use super::*;

fn runner(id: u64, name: &str) -> ForgeRunner {
    ForgeRunner {
        id,
        name: name.to_owned(),
        online: false,
        busy: false,
    }
}

#[tokio::test]
async fn runners_go_whose_machine_is_gone_and_no_others() {
    let scene = Scene::made().await;
    scene.instance(1, State::Terminated, |_| ()).await;
    scene.instance(2, State::Running, |_| ()).await;
    scene.instance(3, State::Terminated, |_| ()).await;
    scene.fakes.with(|world| {
        // The first has ended, the third is about to be ended by this very refresh.
        world.machines[0].alive = false;
        world.runners = vec![
            runner(11, &format!("{}-4", id(1))),
            runner(12, &format!("{}-4", id(2))),
            runner(13, &format!("{}-4", id(3))),
            // Another pool's, and somebody's own.
            runner(14, &format!("{}-4", id(9))),
            runner(15, "build-server"),
            ForgeRunner {
                online: true,
                ..runner(16, &format!("{}-3", id(1)))
            },
            ForgeRunner {
                busy: true,
                ..runner(17, &format!("{}-2", id(1)))
            },
        ];
    });
    let report = scene.run().await;
    assert!(report.failed.is_empty(), "{:?}", report.failed);
    let gone = format!(
        "- runner {}-4 at GitHub (offline, its machine is gone)",
        id(1)
    );
    assert!(
        lines(&report.planned).contains(&gone),
        "{:?}",
        report.planned
    );
    let steps = scene.settles().await;
    assert_eq!(
        steps,
        [Step::DeleteRunner(runner(13, &format!("{}-4", id(3))))]
    );
    let left = scene.fakes.with(|world| {
        let left = world.runners.iter().map(|runner| runner.id);
        left.collect::<Vec<_>>()
    });
    assert_eq!(left, [12, 14, 15, 16, 17]);
}

#[tokio::test]
async fn without_ec2_or_github_no_runner_is_deleted() {
    let scene = Scene::made().await;
    scene.instance(1, State::Terminated, |_| ()).await;
    scene.fakes.with(|world| {
        world.machines.clear();
        world.runners = vec![runner(11, &format!("{}-4", id(1)))];
    });
    for source in ["machines", "runners"] {
        scene.fakes.with(|world| world.broken = Some(source));
        let report = scene.run().await;
        assert_eq!(report.planned, [], "{source}");
        assert_eq!(report.failed.len(), 1, "{source}");
    }
}
