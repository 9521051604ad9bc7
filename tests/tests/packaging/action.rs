//! `action.yml` says what the controller takes, and its script finds the right controller.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::Read,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use axum::{Router, extract::State, http::StatusCode, response::IntoResponse};
use controller::inputs::Inputs;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tests::tools::Tools;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Which commands take each input, as the controller itself says it.
fn inputs() -> BTreeMap<String, BTreeSet<String>> {
    let mut inputs: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for mode in Inputs::program().get_subcommands() {
        for arg in mode.get_arguments() {
            let env = arg.get_env().and_then(|name| name.to_str());
            if let Some(name) = env.and_then(|name| name.strip_prefix("INPUT_")) {
                let modes = inputs.entry(name.to_lowercase()).or_default();
                modes.insert(mode.get_name().to_owned());
            }
        }
    }
    inputs
}

#[test]
fn the_action_takes_what_the_controller_takes() {
    let action = Tools::packaging()
        .and_then(|tools| tools.read(&root().join("action.yml")))
        .expect("action.yml");
    let declared = action["inputs"].as_object().expect("inputs");
    let step = &action["runs"]["steps"][0];
    let handed = step["env"].as_object().expect("an environment");
    let known = inputs();
    let modes = Inputs::program().get_subcommands().count();

    for (name, takers) in &known {
        let input = declared
            .get(name)
            .unwrap_or_else(|| panic!("action.yml lacks the input {name} of {takers:?}"));
        let text = input["description"].as_str().unwrap_or_default();
        let (before, _) = text.split_once(". ").unwrap_or_default();
        let said: BTreeSet<String> = match before {
            "All modes" => takers.clone(),
            listed => listed.split(", ").map(str::to_owned).collect(),
        };
        assert_eq!(&said, takers, "the modes in the description of {name}");
        assert_eq!(
            before == "All modes",
            takers.len() == modes,
            "the modes in the description of {name}"
        );
        assert_eq!(
            handed.get(&format!("INPUT_{}", name.to_uppercase())),
            Some(&format!("${{{{ inputs.{name} }}}}").into()),
            "how action.yml hands {name} on"
        );
    }
    let own = ["mode", "controller"];
    for (name, input) in declared {
        assert!(
            known.contains_key(name) || own.contains(&name.as_str()),
            "action.yml has an input that the controller does not know: {name}"
        );
        let text = input["description"].as_str().unwrap_or_default();
        assert!(
            text.ends_with("(required)") || text.contains(" [default: ") && text.ends_with(']'),
            "the description of {name} does not end with its default: {text}"
        );
    }
    for name in handed.keys() {
        let name = name.trim_start_matches("INPUT_").to_lowercase();
        assert!(
            declared.contains_key(&name) || name == "paddock_controller",
            "action.yml hands on what it does not take: {name}"
        );
    }
    for (name, output) in action["outputs"].as_object().expect("outputs") {
        assert_eq!(
            output["value"],
            format!("${{{{ steps.controller.outputs.{name} }}}}")
        );
    }
}

/// A runner whose step runs the action's script; releases come from a server of its own.
struct Runner {
    folder: tempfile::TempDir,
    url: String,
    served: Arc<AtomicUsize>,
}

/// What the release server sends: a program that says who it is.
const PROGRAM: &str = "#!/bin/sh\necho \"controller $$\"\n";

impl Runner {
    /// Its action belongs to release 1.2.3, whose controller hashes to `sha256`.
    async fn new(sha256: &str, answer: Answer) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let script = root().join("packaging/action/run.sh");
        fs::copy(script, folder.path().join("run.sh")).expect("copied");
        let release = format!(
            "repository=acme/paddock\nversion=1.2.3\nsha256_x86_64={sha256}\nsha256_aarch64={sha256}\n"
        );
        fs::write(folder.path().join("release.env"), release).expect("written");
        let served = Arc::new(AtomicUsize::new(0));
        let routes = Router::new()
            .fallback(serve)
            .with_state((answer, Arc::clone(&served)));
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0))
            .await
            .expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        tokio::spawn(async move { axum::serve(listener, routes).await });
        Self {
            folder,
            url,
            served,
        }
    }

    fn start(&self, controller: &str) -> Child {
        self.command(controller).spawn().expect("the script starts")
    }

    fn command(&self, controller: &str) -> Command {
        // A shell cannot heed a signal that was ignored when it began, as in a background job.
        let mut command = Command::new("env");
        command
            .arg("--default-signal=INT")
            .arg(self.folder.path().join("run.sh"))
            .env("PADDOCK_CONTROLLER", controller)
            .env("GITHUB_SERVER_URL", &self.url)
            .env("RUNNER_TOOL_CACHE", self.cache())
            // Nobody asks github.com from a test.
            .env("https_proxy", "http://127.0.0.1:9")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    fn step(&self) -> Output {
        self.start("").wait_with_output().expect("the script runs")
    }

    /// The step on another computer, which `uname -sm` says it is.
    fn step_on(&self, machine: &str) -> Output {
        let bin = self.folder.path().join("bin");
        fs::create_dir_all(&bin).expect("made");
        let uname = bin.join("uname");
        fs::write(&uname, format!("#!/bin/sh\necho '{machine}'\n")).expect("written");
        fs::set_permissions(uname, fs::Permissions::from_mode(0o755)).expect("set");
        let path = std::env::var("PATH").unwrap_or_default();
        let mut step = self.command("");
        step.env("PATH", format!("{}:{path}", bin.display()));
        step.output().expect("the script runs")
    }

    fn cache(&self) -> PathBuf {
        self.folder.path().join("cache")
    }

    fn cached(&self) -> Vec<PathBuf> {
        let folder = self.cache().join("paddock-controller/1.2.3");
        let arch = folder.join(std::env::consts::ARCH);
        let Ok(files) = fs::read_dir(arch) else {
            return Vec::new();
        };
        files.map(|file| file.expect("a file").path()).collect()
    }
}

#[derive(Clone, Copy)]
enum Answer {
    Program,
    Silence,
}

async fn serve(
    State((answer, served)): State<(Answer, Arc<AtomicUsize>)>,
    uri: axum::http::Uri,
) -> axum::response::Response {
    served.fetch_add(1, Ordering::SeqCst);
    let folder = "/acme/paddock/releases/download/v1.2.3";
    let files =
        ["x86_64", "aarch64"].map(|arch| format!("{folder}/controller-{arch}-unknown-linux-musl"));
    match answer {
        Answer::Program if files.iter().any(|file| file == uri.path()) => PROGRAM.into_response(),
        Answer::Program => StatusCode::NOT_FOUND.into_response(),
        Answer::Silence => std::future::pending().await,
    }
}

fn sha256(bytes: &[u8]) -> String {
    use sha2::{Digest, Sha256};
    use std::fmt::Write;

    Sha256::digest(bytes)
        .iter()
        .fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
}

#[tokio::test(flavor = "multi_thread")]
async fn the_released_controller_is_fetched_once_and_takes_the_step_over() {
    let runner = Runner::new(&sha256(PROGRAM.as_bytes()), Answer::Program).await;
    for _ in 0..2 {
        let child = runner.start("");
        let pid = child.id();
        let output = child.wait_with_output().expect("it runs");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        // Its own process: signals reach the controller and nobody else.
        assert_eq!(said, format!("controller {pid}\n"), "{output:?}");
    }
    assert_eq!(runner.served.load(Ordering::SeqCst), 1);

    // What lies in the cache is no more trusted than the network.
    let [file] = &*runner.cached() else {
        panic!("one file is cached: {:?}", runner.cached());
    };
    fs::write(file, "#!/bin/sh\necho spoiled\n").expect("written");
    let said = runner.step().stdout;
    assert!(said.starts_with(b"controller "), "{said:?}");
    assert_eq!(runner.served.load(Ordering::SeqCst), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_computer_gets_its_own_controller_or_is_told() {
    let runner = Runner::new(&sha256(PROGRAM.as_bytes()), Answer::Program).await;
    for arch in ["x86_64", "aarch64"] {
        let output = runner.step_on(&format!("Linux {arch}"));
        assert!(output.stdout.starts_with(b"controller "), "{output:?}");
        let cached = runner.cache().join("paddock-controller/1.2.3").join(arch);
        assert!(cached.join("controller").exists(), "{arch}");
    }
    assert_eq!(runner.served.load(Ordering::SeqCst), 2);
    for other in ["Darwin arm64", "Linux riscv64"] {
        let output = runner.step_on(other);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert!(
            said.contains(&format!("no controller is released for {other}")),
            "{said}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_controller_than_the_released_one_is_refused() {
    let runner = Runner::new(&sha256(b"another"), Answer::Program).await;
    let output = runner.step();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(said.starts_with("::error title=Paddock::"), "{said}");
    assert!(!said.contains("controller "), "{said}");
    // Also when nobody else has it either.
    let mirror = format!("{}/acme/paddock/releases/", runner.url);
    assert!(said.contains(&mirror), "{said}");
    assert!(said.contains("is not what was released"), "{said}");
    assert!(
        said.contains("https://github.com/acme/paddock/releases/"),
        "{said}"
    );
    assert_eq!(runner.cached(), Vec::<PathBuf>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_without_release_says_what_to_do() {
    let runner = Runner::new("", Answer::Program).await;
    let output = runner.step();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(said.contains("input `controller`"), "{said}");
    assert_eq!(runner.served.load(Ordering::SeqCst), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_own_controller_is_taken_as_it_is() {
    let runner = Runner::new("", Answer::Program).await;
    let output = runner.start("echo").wait_with_output().expect("it runs");
    assert_eq!(output.stdout, b"\n", "{output:?}");
    let output = runner.start("/no/such").wait_with_output();
    let output = output.expect("it runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(said.contains("there is no program /no/such"), "{said}");
    assert_eq!(runner.served.load(Ordering::SeqCst), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_download_ends_the_step() {
    for (signal, code) in [(Signal::SIGINT, 130), (Signal::SIGTERM, 143)] {
        let runner = Runner::new(&sha256(PROGRAM.as_bytes()), Answer::Silence).await;
        let mut child = runner.start("");
        let deadline = Instant::now() + Duration::from_secs(30);
        while runner.served.load(Ordering::SeqCst) == 0 {
            assert!(Instant::now() < deadline, "nothing was asked for");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let pid = Pid::from_raw(i32::try_from(child.id()).expect("a pid"));
        kill(pid, signal).expect("it lives");
        let status = child.wait().expect("it ends");
        let mut said = String::new();
        let _ = child.stdout.expect("piped").read_to_string(&mut said);
        assert_eq!(status.code(), Some(code), "{said}");
        assert_eq!(said, "");
        assert_eq!(runner.cached(), Vec::<PathBuf>::new());
    }
}
