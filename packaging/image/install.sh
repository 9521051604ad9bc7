#!/usr/bin/env bash
# Bakes a Paddock machine: the agent of a release, GitHub's official runner, warmed up, and Docker.
# For Ubuntu 24.04 and Amazon Linux 2023, on x86_64 and arm64; run as root.
#
#   install.sh VERSION [RUNNER_VERSION]    e.g. install.sh 0.1.0; the newest runner by default
set -euo pipefail
version=${1:?"usage: install.sh VERSION [RUNNER_VERSION]"}
runner_version=${2:-latest}
releases=${PADDOCK_RELEASES:-https://github.com/paddock-runners/paddock/releases/download}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

fetch() {
    curl --fail --silent --show-error --location --retry 5 --connect-timeout 10 --max-time 600 \
        --output "$1" "$2"
}

# shellcheck source=/dev/null
. /etc/os-release
case "$(uname -m)" in
    x86_64) deb_arch=amd64 runner_arch=x64 ;;
    aarch64) deb_arch=arm64 runner_arch=arm64 ;;
    *) echo "no agent is released for $(uname -m)" >&2 && exit 1 ;;
esac
case "$ID" in
    ubuntu | debian)
        package="paddock-agent_$version-1_$deb_arch.deb"
        export DEBIAN_FRONTEND=noninteractive
        apt-get update
        apt-get install --yes --no-install-recommends ca-certificates curl docker.io git jq unzip zstd
        install_package() { apt-get install --yes --no-install-recommends "$1"; }
        ;;
    amzn)
        package="paddock-agent-$version-1.$(uname -m).rpm"
        dnf install --assumeyes docker git jq libicu tar unzip zstd
        install_package() { dnf install --assumeyes "$1"; }
        ;;
    *) echo "this is neither Ubuntu nor Amazon Linux: $ID" >&2 && exit 1 ;;
esac

# The agent. It starts, finds no pool, and idles; what it wrote is not for the image.
fetch "$work/SHA256SUMS" "$releases/v$version/SHA256SUMS"
fetch "$work/$package" "$releases/v$version/$package"
(cd "$work" && grep --fixed-strings "  $package" SHA256SUMS | sha256sum --check --strict)
chmod 755 "$work"
install_package "$work/$package"
systemctl stop paddock-agent.service
rm -rf /var/lib/paddock

# Docker, for jobs that use containers.
systemctl enable docker.service
usermod --append --groups docker runner

# The runner: what GitHub's API says it hashes to is what it must hash to.
tag=$([[ $runner_version == latest ]] && echo latest || echo "tags/v$runner_version")
fetch "$work/release.json" "https://api.github.com/repos/actions/runner/releases/$tag"
asset=$(jq --exit-status --arg arch "$runner_arch" \
    '.assets[] | select(.name | test("^actions-runner-linux-\($arch)-[0-9.]+\\.tar\\.gz$"))' \
    "$work/release.json")
sha256=$(jq --raw-output '.digest | ltrimstr("sha256:")' <<<"$asset")
fetch "$work/runner.tar.gz" "$(jq --raw-output .browser_download_url <<<"$asset")"
sha256sum --check --strict <<<"$sha256  $work/runner.tar.gz"
# Root's, as the agent would make it: jobs use it and cannot change it.
tar --extract --gzip --no-same-owner --file "$work/runner.tar.gz" --directory /opt/paddock/runner \
    --no-overwrite-dir
# Loads every assembly once, so that the first job does not wait for the disk.
runuser --user runner -- /opt/paddock/runner/bin/Runner.Listener warmup
