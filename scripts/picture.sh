#!/usr/bin/env bash
# Makes docs/pictures/top.svg: `fetchfs top` beside a shell in which a film is played, as they look in a terminal.
#
#   scripts/picture.sh      needs root, and target/release/fetchfs or FETCHFS_BIN
#
# It runs in the sandbox of tests/docs.rs, so nothing but the picture stays. What it needs besides nginx: apt-get install
# tmux ffmpeg mpv openssl sqlite3 zip python3-venv. The terminal's text becomes SVG by rich (https://rich.readthedocs.io).
set -euo pipefail

project=$(cd "$(dirname "$0")/.." && pwd)
target=${CARGO_TARGET_DIR:-$project/target}
rich=$target/tools/rich
fetchfs=$(realpath "${FETCHFS_BIN:-$target/release/fetchfs}")
[ "$(id -u)" = 0 ] || { echo "picture: please run it as root: it mounts in namespaces of its own" >&2; exit 1; }

[ -x "$rich/bin/python" ] || { python3 -m venv "$rich" && "$rich/bin/pip" --quiet install rich==14.1.0; }

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/place"

cd "$work"
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout ca.key -out ca.pem -days 2 -subj /CN=ca 2>openssl.log
openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout server.key -out server.csr -subj /CN=server 2>>openssl.log
printf 'subjectAltName=DNS:example.org\nextendedKeyUsage=serverAuth\n' >extensions
openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -extfile extensions -out server.pem 2>>openssl.log

cat >play <<'END'
set -eu
cd "$SITE/films"
rm ./*
ffmpeg -v error -f lavfi -i testsrc2=s=640x360:r=25 -f lavfi -i sine=440:r=48000 -t 300 -c:v mpeg4 -q:v 1 -c:a flac \
    "Metropolis (1927).mkv"
for film in "Nosferatu (1922)" "The General (1926)" "Safety Last (1923)"; do
    cp "Metropolis (1927).mkv" "$film.mkv"
done
mkdir shorts
touch -d 2026-01-31 ./*
cd
fetchfs mount --bwlimit 5MB --cache-size 2GiB https://example.org/films/ ~/films

# A tmux in a tmux: the outer one is the terminal that is captured.
outer() { tmux -L outer -f /dev/null "$@"; }
inner() { tmux -L inner -f ~/tmux.conf "$@"; }
cat >~/tmux.conf <<'CONF'
set -g status off
set -g pane-border-style fg=brightblack
set -g pane-active-border-style fg=brightblack
set -g default-terminal tmux-256color
CONF
printf "PS1='\\\\[\\\\e[32m\\\\]~$\\\\[\\\\e[0m\\\\] '\n" >~/bashrc
mkdir -p ~/.config/mpv
printf 'no-video\nao=null\ndemuxer-max-bytes=2MiB\n' >~/.config/mpv/mpv.conf
export TMUX_TMPDIR=$HOME
outer new-session -d -x 96 -y 33
outer set -g status off
outer send-keys "exec tmux -L inner -f ~/tmux.conf new-session 'bash --rcfile ~/bashrc'" Enter
until inner has-session 2>/dev/null; do sleep 0.1; done
inner split-window -v -b -l 20 'fetchfs top ~/films'
inner select-pane -t 1
inner send-keys 'ls -lh films' Enter
sleep 1
inner send-keys 'mpv --start=40% films/Metropolis*' Enter
sleep "12"
outer capture-pane -e -p >"$1/screen"
inner kill-server
END

sed -i '1i set -- '"$work" play
unshare --mount --net --pid --fork --kill-child --mount-proc --propagation private \
    env -i PATH="$PATH" TERM=xterm-256color PROJECT="$project" FETCHFS="$fetchfs" WEB_SERVER="$(command -v nginx)" \
    CERTIFICATE="$work/server.pem" KEY="$work/server.key" SSL_CERT_FILE="$work/ca.pem" \
    bash "$project/tests/docs/sandbox.sh" "$work/place" "$work/play" example.org

mkdir -p "$project/docs/pictures"
"$rich/bin/python" - "$work/screen" "$project/docs/pictures/top.svg" <<'END'
import io, re, sys
from rich.console import Console
from rich.text import Text

lines = open(sys.argv[1]).read().rstrip("\n").split("\n")
console = Console(record=True, width=96, file=io.StringIO(), force_terminal=True, color_system="truecolor")
for line in lines:
    console.print(Text.from_ansi(line), no_wrap=True, crop=True)
svg = console.export_svg(title="fetchfs")
# No fonts from other servers; the picture is the same each time for the same screen.
svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.S)
svg = svg.replace("Fira Code", "DejaVu Sans Mono, Menlo, Consolas")
svg = re.sub(r"terminal-\d+", "terminal", svg)
open(sys.argv[2], "w").write(svg)
END
