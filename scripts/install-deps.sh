#!/usr/bin/env bash
# Installs what a fresh Debian-like machine lacks, and does nothing where nothing is missing.
#
#   scripts/install-deps.sh build    a C compiler and linker (SQLite and ring are compiled)
#   scripts/install-deps.sh demo     that, fusermount3 and curl
#   scripts/install-deps.sh test     that, and the web servers that the tests start
#
# Rust is not among it: it comes from https://rustup.rs, because Debian's is too old.
set -euo pipefail

# Servers are in sbin, which ordinary users don't have in their PATH.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

# Each line: what has to be there, and the package that brings it.
needs() {
    echo "cc build-essential"
    [ "$1" = build ] && return
    echo "fusermount3 fuse3"
    echo "curl curl"
    [ "$1" = demo ] && return
    echo "nginx nginx"
    echo "apache2 apache2"
    echo "lighttpd lighttpd"
    echo "caddy caddy"
    echo "python3 python3"
    echo "mount mount"
}

fail() {
    echo "install-deps: $*" >&2
    exit 1
}

# Packages of servers start them, and have them start at boot. The tests run servers of their own, so neither is wanted: a
# policy (invoke-rc.d(8)) forbids the first while we install, and what was newly enabled is disabled again.
policy=/usr/sbin/policy-rc.d

install() {
    local as_root=()
    if [ "$(id -u)" != 0 ]; then
        command -v sudo >/dev/null || fail "please install, as root: apt-get install $*"
        as_root=(sudo)
        echo "install-deps: installing $* (sudo may ask for your password)"
    fi
    if [ ! -e "$policy" ]; then
        # shellcheck disable=SC2064 # now is when the values are right
        trap "${as_root[*]} rm -f $policy" EXIT
        printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$policy" >/dev/null
        "${as_root[@]}" chmod 755 "$policy"
    fi
    "${as_root[@]}" apt-get update -qq
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@"
    if command -v systemctl >/dev/null; then
        local package
        for package in "$@"; do
            case $package in
                nginx | apache2 | lighttpd | caddy) "${as_root[@]}" systemctl disable --quiet "$package" || true ;;
            esac
        done
    fi
}

what=${1:-build}
case $what in
    build | demo | test) ;;
    *) fail "only build, demo or test" ;;
esac

missing=()
while read -r program package; do
    command -v "$program" >/dev/null || missing+=("$package")
done < <(needs "$what")

[ ${#missing[@]} -gt 0 ] || exit 0
command -v apt-get >/dev/null || fail "please install what Debian calls ${missing[*]}"
install "${missing[@]}"
