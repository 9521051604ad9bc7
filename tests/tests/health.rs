//! A machine that is not fit for a tenant is not handed out.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use proto::{state::State, table::Table};
use tests::{
    pool::{PATIENCE, Pool},
    story::refresh_inputs,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixListener,
};

/// Docker, as far as whoever asks whether it is there can tell.
fn docker(socket: &Path) {
    let listener = UnixListener::bind(socket).expect("a socket");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut question = [0; 128];
            let _ = stream.read(&mut question).await;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nOK").await;
        }
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_that_needs_docker_keeps_only_machines_on_which_it_answers() {
    let pool = Pool::new(Duration::ZERO).await;
    let mut inputs = refresh_inputs(&pool.yard, "subnet-0a");
    inputs.push(("requires-docker", "true".to_owned()));
    let inputs: Vec<(&str, &str)> = inputs.iter().map(|(name, text)| (*name, &**text)).collect();
    let step = pool.run(1).step("refresh", &inputs).await.expect("it runs");
    assert_eq!(step.code, 0, "{}", step.log);

    assert_eq!(pool.provision(11, "1").await.code, 0);
    let step = pool.release(11).await;
    assert!(step.log.contains("Docker does not answer"), "{}", step.log);
    pool.until_alive(0).await;

    let step = pool.provision(12, "1").await;
    let id = step.machines().remove(0);
    let machine = pool.yard.machines.get(&id).expect("it is there");
    docker(&machine.folder.join("docker.sock"));
    let step = pool.release(12).await;
    assert!(step.log.contains("back in the pool"), "{}", step.log);
    // Docker dies while the machine waits: whoever would claim it does not get it.
    std::fs::remove_file(machine.folder.join("docker.sock")).expect("removed");
    let idle = async || {
        pool.table
            .instances_in(State::Idle, None)
            .await
            .expect("listed")
    };
    let deadline = Instant::now() + PATIENCE;
    while idle()
        .await
        .iter()
        .any(|record| record.unhealthy().is_none())
    {
        assert!(Instant::now() < deadline, "{:?}", idle().await);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let step = pool.provision(13, "1").await;
    assert_eq!(
        (step.code, step.number("reused")),
        (0, Some(0)),
        "{}",
        step.log
    );
    pool.yard.stop().await;
}
