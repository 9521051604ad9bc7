//! The agent's Debian and RPM packages, and the recipes of machine images.
//!
//! The packages are made by the tools that the release uses, in older versions that pip installs.
//! Those cannot read this workspace's manifest, so they get one of their own with the very section
//! that is meant for them.

use std::{
    fs,
    os::unix::fs::{MetadataExt, symlink},
    path::{Path, PathBuf},
    process::Command,
};

use tests::{
    binaries::Binaries,
    tools::{Tools, run},
};

use super::debian::{Debian, text};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A workspace that the packagers understand.
pub(super) struct Stage {
    folder: tempfile::TempDir,
    tools: Tools,
}

impl Stage {
    pub(super) fn new(version: &str) -> Self {
        let tools = Tools::packaging().expect("the tools");
        let binaries = Binaries::build().expect("the programs build");
        let folder = tempfile::tempdir().expect("a folder");
        let at = |path: &str| folder.path().join(path);
        fs::create_dir_all(at("agent/src")).expect("made");
        fs::create_dir_all(at("target/release")).expect("made");
        fs::copy(&binaries.agent, at("target/release/agent")).expect("copied");
        manuals::write(&at("target/manuals")).expect("written");
        symlink(root().join("packaging"), at("packaging")).expect("linked");
        fs::write(at("agent/src/main.rs"), "fn main() {}\n").expect("written");
        fs::write(at("Cargo.toml"), "[workspace]\nmembers = [\"agent\"]\n").expect("written");
        let manifest = fs::read_to_string(root().join("agent/Cargo.toml")).expect("a manifest");
        let sections = manifest.split_once("[package.metadata.deb]").expect("deb");
        fs::write(
            at("agent/Cargo.toml"),
            format!(
                "[package]\nname = \"agent\"\nversion = \"{version}\"\nedition = \"2021\"\n\
                 license = \"Apache-2.0\"\ndescription = \"Paddock's daemon on each machine\"\n\
                 [package.metadata.deb]{}",
                sections.1
            ),
        )
        .expect("written");
        Self { folder, tools }
    }

    pub(super) fn deb(&self) -> PathBuf {
        let deb = self.folder.path().join("agent.deb");
        run(Command::new(self.tools.program("cargo-deb"))
            .current_dir(self.folder.path().join("agent"))
            .args(["--no-build", "--no-strip", "--fast", "--output"])
            .arg(&deb))
        .expect("a Debian package");
        deb
    }

    fn rpm(&self) -> PathBuf {
        let rpm = self.folder.path().join("agent.rpm");
        run(Command::new(self.tools.program("cargo-generate-rpm"))
            .current_dir(self.folder.path())
            .args(["--package", "agent", "--auto-req", "no"])
            .args(["--payload-compress", "none", "--output"])
            .arg(&rpm))
        .expect("an RPM package");
        rpm
    }
}

/// Where every package has what.
const FILES: [&str; 6] = [
    "/opt/paddock/bin/agent",
    "/lib/systemd/system/paddock-agent.service",
    "/usr/lib/sysusers.d/paddock.conf",
    "/usr/lib/tmpfiles.d/paddock.conf",
    "/usr/share/man/man1/paddock-agent-status.1.gz",
    "/usr/share/bash-completion/completions/paddock-agent",
];

#[test]
fn the_debian_package_is_whole() {
    let stage = Stage::new("1.2.3");
    let deb = stage.deb();
    let files = text(Command::new("dpkg-deb").arg("--contents").arg(&deb));
    for file in FILES {
        assert!(files.contains(file.trim_start_matches('/')), "{files}");
    }
    let control = text(Command::new("dpkg-deb").arg("--field").arg(&deb));
    assert!(control.contains("Package: paddock-agent\n"), "{control}");
    assert!(control.contains("Version: 1.2.3-1\n"), "{control}");
}

#[test]
fn the_rpm_package_is_whole() {
    let stage = Stage::new("1.2.3");
    let bytes = fs::read(stage.rpm()).expect("the package");
    let holds = |needle: &[u8]| bytes.windows(needle.len()).any(|window| window == needle);
    assert_eq!(bytes[..4], [0xED, 0xAB, 0xEE, 0xDB], "an RPM package");
    for name in [
        "paddock-agent",
        "/opt/paddock/bin/",
        "/usr/lib/sysusers.d/",
        "paddock-agent-status.1",
        "/usr/share/bash-completion/completions/",
    ] {
        assert!(holds(name.as_bytes()), "{name}");
    }
    // Each of its three scripts.
    let scripts = [
        &b"systemctl restart paddock-agent.service"[..],
        b"systemctl stop paddock-agent.service",
        b"systemctl daemon-reload",
    ];
    for script in scripts {
        assert!(holds(script), "{}", String::from_utf8_lossy(script));
    }
}

const SYSTEMCTL: &str = r#"#!/bin/sh
echo "$*" >> /systemctl.log
for word; do
    case "$word" in start | stop | restart | daemon-reload | is-active) exit 0 ;; esac
done
exec systemctl.real --root=/ "$@"
"#;

/// What was asked of systemd for the agent's unit since the last question.
fn asked_of_systemd(debian: &Debian) -> Vec<String> {
    let log = fs::read_to_string(debian.at("/systemctl.log")).unwrap_or_default();
    debian.write("/systemctl.log", "");
    let lines = log.lines().filter(|line| line.contains("paddock-agent"));
    let verbs = lines.filter_map(|line| {
        let mut words = line.split(' ').filter(|word| !word.starts_with('-'));
        words.next().map(str::to_owned)
    });
    verbs
        .filter(|verb| ["start", "stop", "restart"].contains(&verb.as_str()))
        .collect()
}

const WANTED: &str = "/etc/systemd/system/multi-user.target.wants/paddock-agent.service";

/// A Debian in which systemd does not run: what is asked of it is noted. Which units are enabled the
/// real one knows from its files.
fn without_systemd() -> Debian {
    let debian = Debian::new();
    debian.run("mv /bin/systemctl /bin/systemctl.real && mkdir -p /run/systemd/system");
    debian.write("/bin/systemctl", SYSTEMCTL);
    debian.run("chmod +x /bin/systemctl");
    debian
}

/// The agent runs, and its jobs' user and folders are there.
fn is_ready(debian: &Debian) {
    let version = debian.run("paddock-agent --version");
    assert!(version.starts_with("agent "), "{version}");
    let runner: u32 = debian.run("id -u runner").trim().parse().expect("an id");
    let owner = |path| debian.at(path).metadata().expect("there").uid();
    assert_eq!(
        (owner("/home/runner"), owner("/opt/paddock/runner")),
        (runner, 0)
    );
}

#[test]
#[ignore = "two minutes, as root, with debootstrap: .ci/run does it"]
fn the_debian_package_installs_upgrades_and_goes() {
    let debian = without_systemd();
    debian.install(&Stage::new("1.0.0").deb());
    for file in FILES {
        assert!(debian.exists(file), "{file}");
    }
    assert!(debian.exists(WANTED), "it is enabled");
    assert_eq!(asked_of_systemd(&debian), ["start"]);
    is_ready(&debian);

    // An upgrade restarts the agent, and never stops it: a job goes on beside it.
    debian.run("mkdir -p /var/lib/paddock && touch /var/lib/paddock/state");
    debian.install(&Stage::new("1.1.0").deb());
    assert_eq!(asked_of_systemd(&debian), ["restart"]);
    let unit = fs::read_to_string(debian.at("/lib/systemd/system/paddock-agent.service"));
    assert!(unit.expect("a unit").contains("\nKillMode=process\n"));
    assert!(debian.exists(WANTED) && debian.exists("/var/lib/paddock/state"));

    debian.run("apt-get remove --yes paddock-agent");
    assert_eq!(asked_of_systemd(&debian), ["stop"]);
    for file in FILES.iter().chain(&["/usr/bin/paddock-agent"]) {
        assert!(!debian.exists(file), "{file}");
    }
    assert!(debian.exists("/var/lib/paddock/state"));
    debian.run("apt-get purge --yes paddock-agent");
    assert!(!debian.exists("/var/lib/paddock") && !debian.exists(WANTED));
}

/// With Debian's own `rpm`: what the package needs of Amazon Linux is not looked for.
#[test]
#[ignore = "a minute, as root, with debootstrap: .ci/run does it"]
fn the_rpm_package_installs_upgrades_and_goes() {
    let debian = without_systemd();
    let with_rpm = |what: &str, version: &str| {
        fs::copy(Stage::new(version).rpm(), debian.at("/agent.rpm")).expect("copied");
        debian.run(&format!("rpm {what} --nodeps /agent.rpm"));
    };
    let files = FILES.map(|file| file.trim_end_matches(".gz"));
    with_rpm("--install", "1.0.0");
    for file in files {
        assert!(debian.exists(file), "{file}");
    }
    assert!(debian.exists(WANTED), "it is enabled");
    assert_eq!(asked_of_systemd(&debian), ["restart"]);
    is_ready(&debian);

    debian.run("mkdir -p /var/lib/paddock && touch /var/lib/paddock/state");
    with_rpm("--upgrade", "1.1.0");
    assert_eq!(asked_of_systemd(&debian), ["restart"]);
    assert!(debian.exists(WANTED) && debian.exists("/var/lib/paddock/state"));
    is_ready(&debian);

    debian.run("rpm --erase --nodeps paddock-agent");
    assert_eq!(asked_of_systemd(&debian), ["stop"]);
    for file in files.iter().chain(&["/usr/bin/paddock-agent", WANTED]) {
        assert!(!debian.exists(file), "{file}");
    }
    assert!(debian.exists("/var/lib/paddock/state"));
}

/// The blocks that open with this line, and their last line, left out.
fn without(text: &str, opens: &str) -> String {
    let indent: String = opens.chars().take_while(|c| *c == ' ').collect();
    let closes = format!("{indent}}}");
    let mut within = false;
    let kept = text.lines().filter(|line| {
        let was = within;
        within = *line == opens || within && *line != closes;
        !was && !within
    });
    kept.flat_map(|line| [line, "\n"]).collect()
}

#[test]
#[ignore = "with Packer, which .ci/run installs"]
fn packer_has_nothing_to_say() {
    let image = root().join("packaging/image");
    run(Command::new("packer").args(["fmt", "-check"]).arg(&image)).expect("in its form");
    // The one that Debian has carries the plugin in itself, and is too old for two blocks.
    let template = fs::read_to_string(image.join("paddock.pkr.hcl")).expect("the template");
    let template = without(&without(&template, "packer {"), "  metadata_options {");
    let folder = tempfile::tempdir().expect("a folder");
    fs::copy(image.join("install.sh"), folder.path().join("install.sh")).expect("copied");
    let old = text(Command::new("packer").arg("version")).contains("v1.6.");
    let validate = |template: &str| {
        fs::write(folder.path().join("paddock.pkr.hcl"), template).expect("written");
        let mut validate = Command::new("packer");
        validate.args(["validate", "-var", "version=0.1.0"]);
        run(validate.arg(folder.path()))
    };
    if old {
        validate(&template).expect("valid");
        validate(&template.replace("most_recent", "most_resent")).expect_err("no such option");
    }
}

#[test]
fn the_recipes_of_images_bake_four_kinds() {
    let tools = Tools::packaging().expect("the tools");
    let image = root().join("packaging/image");
    let packer = tools.read(&image.join("paddock.pkr.hcl")).expect("HCL");
    let text = packer.to_string();
    for kind in [
        "ubuntu-x86_64",
        "ubuntu-arm64",
        "al2023-x86_64",
        "al2023-arm64",
    ] {
        assert!(
            text.contains(&format!("source.amazon-ebs.{kind}")),
            "{kind}"
        );
        let sources = packer["source"].as_array().expect("sources");
        let defined = sources
            .iter()
            .any(|source| source.to_string().contains(kind));
        assert!(defined, "{kind}");
    }
    let component = tools.read(&image.join("component.yaml")).expect("YAML");
    let phases = component["phases"].as_array().expect("phases");
    let names: Vec<_> = phases.iter().map(|phase| &phase["name"]).collect();
    assert_eq!(names, ["build", "validate"]);
    for phase in phases {
        for step in phase["steps"].as_array().expect("steps") {
            for script in step["inputs"]["commands"].as_array().expect("commands") {
                let script = script.as_str().expect("a script");
                run(Command::new("bash").args(["-n", "-c", script])).expect("it parses");
            }
        }
    }
}
