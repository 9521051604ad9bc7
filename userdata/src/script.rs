//! The shell script around the configuration.

use proto::agent_config::{Download, Downloads};

/// The line before the configuration: opens a here-document that goes nowhere, and whose quoted
/// end word keeps the shell from reading anything in it.
pub(crate) const BEGIN: &str = ": <<'PADDOCK_CONFIGURATION'";
/// The line after it. JSON on one line begins with a brace, so it is never this line.
pub(crate) const END: &str = "PADDOCK_CONFIGURATION";

const HEAD: &str = "\
#!/bin/sh
# Paddock: a warm machine for GitHub Actions. The agent reads its configuration out of this text.
";

const UNIT: &str = include_str!("../../packaging/systemd/paddock-agent.service");

/// `@UNIT@` stands for the agent's unit.
const START: &str = r#"set -eu
home="${PADDOCK_HOME:-/opt/paddock}"
agent="$home/bin/agent"
unit=/etc/systemd/system/paddock-agent.service

say() { printf 'paddock: %s\n' "$*" >&2; }
with_systemd() { [ -z "${PADDOCK_HOME:-}" ] && [ -d /run/systemd/system ]; }

# A machine without agent would never end itself: after a while, in which one can look, it does.
fail() {
  say "$*"
  if with_systemd; then
    shutdown -h +10 "paddock: $*" || say "cannot switch off"
  fi
  exit 1
}

start() {
  with_systemd || exec "$agent" run
  if systemctl cat paddock-agent.service >/dev/null 2>&1; then
    exit 0
  fi
  id runner >/dev/null 2>&1 || useradd --system --create-home --shell /bin/bash runner ||
    fail "cannot create the user runner, under which jobs run"
  # The agent keeps jobs from the machine's role with it, and says so if it cannot.
  command -v nft >/dev/null 2>&1 ||
    { command -v apt-get >/dev/null 2>&1 && apt-get update -qq && apt-get install -y -qq nftables; } ||
    dnf install -y -q nftables || say "this image has no nftables"
  cat >"$unit" <<UNIT
@UNIT@UNIT
  # As the package has it, for people and for Systems Manager's documents.
  ln -sfn "$agent" /usr/bin/paddock-agent
  systemctl daemon-reload
  systemctl enable --now --no-block paddock-agent.service
  exit 0
}

if [ -x "$agent" ]; then
  start
fi
"#;

const FETCH: &str = r#"
mkdir -p "$home/bin" || fail "cannot make the folder $home/bin"
new="$home/bin/.agent.$$"
trap 'rm -f "$new"' EXIT
if command -v curl >/dev/null 2>&1; then
  curl -fsSL --retry 5 --retry-connrefused --connect-timeout 10 --max-time 300 -o "$new" "$url" ||
    fail "cannot fetch the agent from $url"
elif command -v wget >/dev/null 2>&1; then
  wget -q -T 30 -O "$new" "$url" || fail "cannot fetch the agent from $url"
else
  fail "this image has neither curl nor wget to fetch the agent with"
fi
printf '%s  %s\n' "$sha256" "$new" | sha256sum -c - >/dev/null 2>&1 ||
  fail "the agent from $url has not the SHA-256 $sha256 that the pool expects; it was not started"
chmod 755 "$new" && mv -f "$new" "$agent" || fail "cannot put the agent in place"
start
"#;

const NO_AGENT: &str = r#"
fail "this image carries no agent at $agent, and the pool names none to fetch: bake one in, or let the pool's desired state name a download"
"#;

/// The whole text.
pub(crate) fn text(json: &str, agent: Option<&Downloads>) -> String {
    let rest = match agent {
        None => NO_AGENT.to_owned(),
        Some(Downloads { x86_64, aarch64 }) => format!(
            "\ncase \"$(uname -m)\" in\n{}{}  *) fail \"there is no agent for this machine's \
             architecture, $(uname -m)\" ;;\nesac\n{FETCH}",
            case("x86_64", x86_64),
            case("aarch64", aarch64),
        ),
    };
    let start = START.replace("@UNIT@", &unit());
    format!("{HEAD}{BEGIN}\n{json}\n{END}\n{start}{rest}")
}

/// The unit of a baked image, without what it says to people. User data is short.
fn unit() -> String {
    UNIT.lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
        .map(|line| line.replace("/opt/paddock/bin/agent", "$agent") + "\n")
        .collect()
}

fn case(machine: &str, download: &Download) -> String {
    format!(
        "  {machine}) url={} sha256={} ;;\n",
        quoted(&download.url),
        quoted(&download.sha256)
    )
}

/// A text that the shell takes as it is.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}
