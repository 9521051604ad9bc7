#!/usr/bin/env bash
# Writes release.env beside this script: the release of REPOSITORY (owner/name) with this VERSION,
# whose controllers stand in the checksum file SHA256SUMS.
set -euo pipefail
repository=$1 version=$2 sums=$3

sum_of() {
    local sum
    sum=$(awk -v file="controller-$1-unknown-linux-musl" '$2 == file { print $1 }' "$sums")
    if [[ ! $sum =~ ^[0-9a-f]{64}$ ]]; then
        echo "$sums has no checksum of the controller for $1" >&2
        exit 1
    fi
    echo "$sum"
}
x86_64=$(sum_of x86_64)
aarch64=$(sum_of aarch64)

cat >"$(dirname "${BASH_SOURCE[0]}")/release.env" <<END
# The release that belongs to this version of the action, and what its binaries must hash to.
repository=$repository
version=$version
sha256_x86_64=$x86_64
sha256_aarch64=$aarch64
END
