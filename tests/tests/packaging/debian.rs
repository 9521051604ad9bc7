//! A Debian of its own, in a folder.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
};

use tests::tools::run;

/// What it has besides the least that there is.
const PACKAGES: &str = "systemd,systemd-sysv,ca-certificates,sudo,cron,at,procps,rpm";

pub(super) fn text(command: &mut Command) -> String {
    String::from_utf8(run(command).expect("it succeeds")).expect("text")
}

/// A Debian.
pub(super) struct Debian {
    #[expect(dead_code, reason = "held for its end")]
    folder: tempfile::TempDir,
    root: PathBuf,
}

impl Debian {
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path().join("root");
        run(Command::new("cp")
            .args(["--archive", "--reflink=auto"])
            .arg(base())
            .arg(&root))
        .expect("copied");
        Self { folder, root }
    }

    pub(super) fn at(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    pub(super) fn write(&self, path: &str, text: &str) {
        fs::write(self.at(path), text).expect("written");
    }

    pub(super) fn run(&self, script: &str) -> String {
        // With a /proc of its own, which goes when the last process does.
        let mut chroot = Command::new("unshare");
        chroot.args(["--mount", "--pid", "--fork"]);
        chroot.arg(format!("--mount-proc={}", self.at("/proc").display()));
        text(
            chroot
                .arg("chroot")
                .arg(&self.root)
                .args(["/bin/sh", "-ec", script])
                .env("DEBIAN_FRONTEND", "noninteractive")
                .env(
                    "PATH",
                    "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                ),
        )
    }

    pub(super) fn install(&self, deb: &Path) {
        fs::copy(deb, self.at("/agent.deb")).expect("copied");
        self.run("apt-get install --yes --no-install-recommends /agent.deb");
    }

    pub(super) fn exists(&self, path: &str) -> bool {
        self.at(path).symlink_metadata().is_ok()
    }
}

/// One that was made before, or is made now; each test has a copy of it.
fn base() -> PathBuf {
    let release = fs::read_to_string("/etc/os-release").expect("an operating system");
    let suite = release
        .lines()
        .find_map(|line| line.strip_prefix("VERSION_CODENAME="))
        .expect("a Debian or one of its kin");
    let base = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{suite},{PACKAGES}"));
    let lock = File::create(base.with_extension("lock")).expect("a lock");
    lock.lock().expect("locked");
    if base.exists() {
        return base;
    }
    let mirrors = text(Command::new("apt-get").args([
        "indextargets",
        "--format",
        "$(REPO_URI)",
        "Identifier: Packages",
        &format!("Suite: {suite}"),
    ]));
    let mirror = mirrors.lines().next().unwrap_or_default();
    // Moved into place: a half-made one is never taken for a whole one.
    let new = base.with_extension("new");
    let _ = fs::remove_dir_all(&new);
    run(Command::new("debootstrap")
        .arg("--variant=minbase")
        .arg(format!("--include={PACKAGES}"))
        .arg(suite)
        .arg(&new)
        .args((!mirror.is_empty()).then_some(mirror)))
    .expect("a Debian");
    fs::rename(&new, &base).expect("moved");
    base
}
