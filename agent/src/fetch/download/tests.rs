use std::{
    io::{BufRead, BufReader},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
};

use super::*;

/// What the server does with the next connection; the last one from then on.
#[derive(Clone, Copy)]
enum Serve {
    /// All of it, or the range that is asked for.
    Well,
    /// Breaks off after so many bytes.
    Cut(usize),
    Status(u16),
    /// Another file of the same length, which it says is the same version.
    Lie,
}

/// A file on a server that keeps its requests.
struct Server {
    url: String,
    seen: Arc<Mutex<Vec<String>>>,
}

fn content() -> Vec<u8> {
    (0..=u8::MAX).cycle().take(300_000).collect()
}

fn serve(mut plan: Vec<Serve>, tag: &'static str) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/runner.tar.gz", listener.local_addr().unwrap());
    let seen = Arc::new(Mutex::new(Vec::new()));
    let server = Server {
        url,
        seen: seen.clone(),
    };
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let next = if plan.len() > 1 {
                plan.remove(0)
            } else {
                plan[0]
            };
            answer(&stream.unwrap(), next, tag, &seen);
        }
    });
    server
}

fn answer(mut stream: &TcpStream, serve: Serve, tag: &str, seen: &Mutex<Vec<String>>) {
    let mut range = None;
    let mut condition = None;
    for line in BufReader::new(stream).lines() {
        let line = line.unwrap().to_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(text) = line.strip_prefix("range: bytes=") {
            range = Some(text.trim_end_matches('-').parse::<usize>().unwrap());
        }
        if let Some(text) = line.strip_prefix("if-range: ") {
            condition = Some(text.to_owned());
        }
    }
    let range = range.filter(|_| condition.as_deref() == Some(tag));
    seen.lock().unwrap().push(format!("{range:?}"));
    let mut bytes = content();
    let mut cut = bytes.len();
    match serve {
        Serve::Well => {}
        Serve::Cut(at) => cut = at,
        Serve::Status(status) => {
            let _ = write!(stream, "HTTP/1.1 {status} No\r\ncontent-length: 0\r\n\r\n");
            return;
        }
        Serve::Lie => bytes.reverse(),
    }
    let begin = range.unwrap_or(0);
    let head = match range {
        Some(begin) => format!(
            "HTTP/1.1 206 Partial\r\ncontent-range: bytes {begin}-{}/{}\r\n",
            bytes.len() - 1,
            bytes.len()
        ),
        None => format!("HTTP/1.1 200 OK\r\netag: {tag}\r\n"),
    };
    let length = bytes.len() - begin;
    let _ = write!(
        stream,
        "{head}connection: close\r\ncontent-length: {length}\r\n\r\n"
    );
    let _ = stream.write_all(&bytes[begin..cut.max(begin)]);
}

async fn fetch(server: &Server, to: &Path) -> Result<(), FetchError> {
    // Needed to build a client at all; the second test finds it installed.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut sum = tempfile::NamedTempFile::new().unwrap();
    sum.write_all(&content()).unwrap();
    let download = Download {
        url: &server.url,
        sha256: &sha256(sum.path()).unwrap(),
        to,
    };
    download.run().await
}

#[tokio::test]
async fn what_breaks_off_goes_on_where_it_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("archive");
    let plan = vec![Serve::Cut(100_000), Serve::Cut(200_000), Serve::Well];
    let server = serve(plan, "\"a\"");
    fetch(&server, &to).await.unwrap();
    assert_eq!(fs::read(&to).unwrap(), content());
    let seen = server.seen.lock().unwrap().clone();
    assert_eq!(seen, ["None", "Some(100000)", "Some(200000)"]);
    // It is there: nobody is asked again.
    fetch(&server, &to).await.unwrap();
    assert_eq!(server.seen.lock().unwrap().len(), 3);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[tokio::test]
async fn a_later_agent_goes_on_but_not_with_another_version() {
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("archive");
    fs::write(folder.path().join("archive.part"), &content()[..50_000]).unwrap();
    fs::write(folder.path().join("archive.version"), "\"a\"").unwrap();
    let server = serve(vec![Serve::Well], "\"a\"");
    fetch(&server, &to).await.unwrap();
    assert_eq!(server.seen.lock().unwrap().clone(), ["Some(50000)"]);

    fs::remove_file(&to).unwrap();
    fs::write(folder.path().join("archive.part"), "of an older release").unwrap();
    fs::write(folder.path().join("archive.version"), "\"old\"").unwrap();
    let server = serve(vec![Serve::Well], "\"new\"");
    fetch(&server, &to).await.unwrap();
    assert_eq!(fs::read(&to).unwrap(), content());
    assert_eq!(server.seen.lock().unwrap().clone(), ["None"]);
}

#[tokio::test]
async fn two_halves_of_different_files_are_thrown_away() {
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("archive");
    let plan = vec![Serve::Cut(100_000), Serve::Lie, Serve::Well];
    let server = serve(plan, "\"a\"");
    fetch(&server, &to).await.unwrap();
    assert_eq!(fs::read(&to).unwrap(), content());
}

#[tokio::test]
async fn a_wrong_file_is_named_with_both_sums_and_not_kept() {
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("archive");
    let server = serve(vec![Serve::Lie], "\"a\"");
    let text = fetch(&server, &to).await.unwrap_err().to_string();
    assert!(text.contains("has the SHA-256"), "{text}");
    assert!(text.contains("it is not used"), "{text}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_busy_server_is_asked_again_and_a_no_is_a_no() {
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("archive");
    let plan = vec![Serve::Status(503), Serve::Status(429), Serve::Well];
    let server = serve(plan, "\"a\"");
    fetch(&server, &to).await.unwrap();
    fs::remove_file(&to).unwrap();
    let server = serve(vec![Serve::Status(404)], "\"a\"");
    let error = fetch(&server, &to).await.unwrap_err();
    assert!(crate::ports::chain(&error).contains("404"), "{error}");
    assert_eq!(server.seen.lock().unwrap().len(), 1);
}
