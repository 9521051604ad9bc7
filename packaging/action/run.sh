#!/usr/bin/env bash
# A step of the action: finds the controller and becomes it.
#
# The released binary is fetched into the runner's tool cache once, and checked each time against
# the SHA-256 that release.env beside this script has. PADDOCK_CONTROLLER is taken as it is.
set -euo pipefail

# A signal must not be lost between here and the controller: with these traps a cancelled download
# ends the step, where bash would otherwise wait for it and go on.
trap 'exit 130' INT
trap 'exit 143' TERM

fail() {
    local code=$1
    shift
    printf '::error title=Paddock::%s\n' "$*"
    exit "$code"
}

if [[ -n ${PADDOCK_CONTROLLER:-} ]]; then
    command -v "$PADDOCK_CONTROLLER" >/dev/null ||
        fail 2 "input \`controller\`: there is no program $PADDOCK_CONTROLLER; give the path of one that" \
            "may be run, or leave it out"
    exec "$PADDOCK_CONTROLLER"
fi

# shellcheck source=packaging/action/release.env
source "$(dirname "${BASH_SOURCE[0]}")/release.env"
case "$(uname -sm)" in
    "Linux x86_64") arch=x86_64 sha256=$sha256_x86_64 ;;
    "Linux aarch64") arch=aarch64 sha256=$sha256_aarch64 ;;
    *) fail 2 "no controller is released for $(uname -sm): run this step on Linux, x64 or arm64" ;;
esac
if [[ -z $version || -z $sha256 ]]; then
    fail 2 "no release belongs to this version of the action: use a released one (@v0), or build" \
        "the controller and give its path with the input \`controller\`"
fi

folder="${RUNNER_TOOL_CACHE:-${RUNNER_TEMP:-/tmp}}/paddock-controller/$version/$arch"
controller="$folder/controller"

matches() {
    [[ -f $1 ]] && sha256sum --check --status <<<"$sha256  $1"
}

if ! matches "$controller"; then
    mkdir -p "$folder"
    part=$(mktemp "$folder/part.XXXXXXXX")
    download=
    # shellcheck disable=SC2154 # set on the way out, in the trap itself
    trap 'code=$?; [[ -z $download ]] || kill "$download" 2>/dev/null || :; rm -f "$part"; exit "$code"' EXIT
    file="releases/download/v$version/controller-$arch-unknown-linux-musl"
    causes=
    # GitHub Enterprise Server may mirror the action with its releases; else they are at GitHub.
    servers=("${GITHUB_SERVER_URL:-https://github.com}")
    [[ ${servers[0]} == https://github.com ]] || servers+=(https://github.com)
    for server in "${servers[@]}"; do
        url="$server/${repository:?}/$file"
        # In the background: `wait` answers to a signal at once.
        curl --fail --silent --show-error --location --connect-timeout 10 --max-time 300 \
            --retry 3 --retry-connrefused --output "$part" "$url" &
        download=$!
        cause=
        if ! wait "$download"; then
            cause="cannot be fetched"
        elif ! matches "$part"; then
            cause="is not what was released: its SHA-256 is not $sha256"
        fi
        download=
        if [[ -z $cause ]]; then
            causes=
            break
        fi
        causes+="$url $cause; "
    done
    [[ -z $causes ]] || fail 1 "${causes}let this runner reach the release, or give a program of your" \
        "own with the input \`controller\`"
    chmod 755 "$part"
    mv -f "$part" "$controller"
    trap - EXIT
fi
exec "$controller"
