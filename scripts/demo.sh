#!/usr/bin/env bash
# Shows fetchfs at work against a small web server of its own, and leaves it mounted to play with.
#
#   scripts/demo.sh         start; an earlier demo is replaced
#   scripts/demo.sh library the same with a library of sources of several kinds
#   scripts/demo.sh stop    unmount, end the server, remove the demo's directory
#
# Needs what `cargo build --release --workspace --bins` makes. Runs as root, and as an ordinary user
# with fusermount3. FETCHFS_BIN, SAMPLE_ORIGIN_BIN and FETCHFS_DEMO_DIR name other places.
set -euo pipefail

project=$(cd "$(dirname "$0")/.." && pwd)
target=${CARGO_TARGET_DIR:-$project/target}/release
fetchfs_bin=$(realpath -m "${FETCHFS_BIN:-$target/fetchfs}")
origin_bin=$(realpath -m "${SAMPLE_ORIGIN_BIN:-$target/sample_origin}")
demo=${FETCHFS_DEMO_DIR:-${TMPDIR:-/tmp}/fetchfs-demo-$(id -u)}

fail() {
    echo "demo: $*" >&2
    exit 1
}

fetchfs() {
    "$fetchfs_bin" "$@"
}

# A sentence about what comes.
say() {
    printf '\n%s\n' "$*"
}

# A command as one would type it in the demo's directory, and what it does.
show() {
    printf '  $ %s\n' "$1"
    eval "$1" 2>&1 | sed 's/^/  /'
}

# What the server was asked since the mark, one request a line.
asked() {
    tail -n +"$((mark + 1))" origin.log | sed 's/^/    /'
    printf '  so far %s bytes of files were sent\n' \
        "$(awk '$2 !~ /\/$/ && $1 == "GET" { sum += $5 } END { printf "%d", sum }' origin.log)"
    mark=$(wc -l <origin.log)
}

is_mounted() {
    grep -qsF " $demo/mnt " /proc/self/mountinfo
}

stop() {
    [ -d "$demo" ] || return 0
    [ -O "$demo" ] || fail "$demo belongs to somebody else; name another place by FETCHFS_DEMO_DIR"
    if is_mounted; then
        fetchfs unmount "$demo/mnt" 2>/dev/null || fetchfs unmount --lazy "$demo/mnt" 2>/dev/null ||
            fusermount3 -u -z "$demo/mnt" 2>/dev/null || umount -l "$demo/mnt" || fail "$demo/mnt can't be unmounted"
    fi
    local pid
    pid=$(cat "$demo/origin.pid" 2>/dev/null || true)
    # The number may be somebody else's by now.
    if [ -n "$pid" ] && grep -qsF sample_origin "/proc/$pid/cmdline"; then
        kill "$pid" || true
    fi
    # The mount is gone, so this removes the demo's own files and nothing of the server's.
    rm -rf --one-file-system "$demo"
}

# The servers, and the directory in which the demo happens.
prepare() {
    [ -x "$fetchfs_bin" ] && [ -x "$origin_bin" ] ||
        fail "build it first: cargo build --release --workspace --bins"
    stop
    mkdir -m 700 "$demo"
    cd "$demo"
    mkdir mnt
    : >origin.log
    mark=0

    setsid "$origin_bin" --log "$demo/origin.log" "$@" >origin.url 2>origin.err </dev/null &
    echo $! >origin.pid
    for _ in $(seq 100); do
        [ -s origin.url ] && break
        sleep 0.1
    done
    url=$(head -n 1 origin.url)
    [ -n "$url" ] || fail "the sample server does not start: $(cat origin.err)"
}

start() {
    prepare

    say "A web server with a few files runs at $url. Mount it:"
    show "fetchfs mount --cache-dir cache $url mnt"
    is_mounted || fail "nothing was mounted"
    show "ls -l mnt mnt/docs"

    say "Read 64 KiB from the middle of the large file:"
    show "dd if=mnt/big.img bs=64K skip=8192 count=1 status=none | sha256sum"
    say "So little of its gigabyte was fetched (the server's log), and is kept:"
    asked
    show "du -sh cache"

    say "Unmount, mount again, and read the same: no byte of it is fetched again."
    show "fetchfs unmount mnt"
    show "fetchfs mount --cache-dir cache $url mnt"
    show "dd if=mnt/big.img bs=64K skip=8192 count=1 status=none | sha256sum"
    asked

    say "A file through the mount is the file on the server:"
    show "sha256sum <mnt/tune.wav"
    show "curl -s ${url}tune.wav | sha256sum"

    cat <<END

It stays mounted at $demo/mnt. Try:
  mpv $demo/mnt/tune.wav          (or ffplay, aplay)
  grep -r chunk $demo/mnt/docs
  tail -f $demo/origin.log        (what the server is asked)
To end it:
  make demo-stop
END
}

library() {
    prepare --kinds
    local kinds
    kinds=$(tail -n 1 origin.url)
    printf '%s\t%s\n' "${url}tune.wav" "music/tune.wav" >names.txt
    cat >library.toml <<END
cache_dir = "cache"
attr_ttl = "1s"

[[source]]                       # an index page
url = "$url"
at = "web"

[[source]]                       # WebDAV
url = "dav${kinds#http}dav/"
at = "cloud"

[[source]]                       # a bucket
url = "s3://films/"
at = "films"
endpoint_url = "$kinds"
no_sign_request = true
include = ["Metropolis*"]

[[source]]                       # listings in JSON, merged with the bucket
url = "${kinds}api/"
at = "films"
exclude = ["sample.*"]

[[source]]                       # a list of URLs, beside this file
url = "names.txt"
at = "lists"

[[source]]                       # a Metalink
url = "${kinds}release.meta4"
at = "release"
END

    say "A library of sources of several kinds, whose servers run here:"
    show "cat library.toml"
    say "It has no mistake. Mount it:"
    show "fetchfs config check library.toml"
    show "fetchfs mount library.toml mnt"
    is_mounted || fail "nothing was mounted"
    show "find mnt -mindepth 1 | sort"
    show "cat 'mnt/films/Metropolis (1927).txt' 'mnt/cloud/shorts/A Trip to the Moon (1902).txt'"
    show "fetchfs status mnt | grep '^  /'"

    say "Another source is written into the file, and taken over without unmounting:"
    printf '\n[[source]]\nurl = "http://127.0.0.1:9/"\nat = "down"\n' >>library.toml
    show "fetchfs reload mnt"
    say "Its server is down, which concerns nothing but its own place:"
    show "ls mnt"
    show "ls mnt/down || true"

    say "A mistake in the file changes nothing:"
    printf 'max_conections = 4\n' >>library.toml
    show "fetchfs reload mnt || true"

    cat <<END

It stays mounted at $demo/mnt. Try:
  \$EDITOR $demo/library.toml && fetchfs reload $demo/mnt
To end it:
  make demo-stop
END
}

case "${1:-start}" in
    start) start ;;
    library) library ;;
    stop) stop ;;
    *) fail "only \`start\` (the default), \`library\` and \`stop\`" ;;
esac
