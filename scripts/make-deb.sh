#!/usr/bin/env bash
# Makes a Debian package of the built program: target/debian/fetchfs_VERSION_ARCH.deb. `make deb` builds the program first.
#
#   DEBFULLNAME="Ann Example" DEBEMAIL=ann@example.org scripts/make-deb.sh BINARY OUTPUT_DIRECTORY
#
# Without these variables the maintainer is the current user of this machine.
# Needs dpkg-dev. What the package needs is found by dpkg-shlibdeps from the program itself.
set -euo pipefail
cd "$(dirname "$0")/.."

binary=$(realpath "$1")
output=$2
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
architecture=$(dpkg --print-architecture)
# As in Debian's own tools.
maintainer="${DEBFULLNAME:-$(id -un)} <${DEBEMAIL:-$(id -un)@$(hostname)}>"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
stage=$work/stage
umask 022

make --no-print-directory install DESTDIR="$stage" BINARY="$binary" PREFIX=/usr SBINDIR=/usr/sbin LIBEXECDIR=/usr/libexec \
    ZSHDIR=/usr/share/zsh/vendor-completions UDEVDIR=/usr/lib/udev/rules.d
strip --strip-unneeded --remove-section=.comment --remove-section=.note "$stage/usr/bin/fetchfs"
find "$stage/usr/share/man" -type f -exec gzip -9n {} +

doc=$stage/usr/share/doc/fetchfs
install -d "$doc/examples"
cp docs/*.md README.md CHANGELOG.md "$doc/"
cp mount-helpers/examples/* examples/library.toml "$doc/examples/"
{
    printf 'fetchfs (%s) unstable; urgency=medium\n\n  * See CHANGELOG.md.\n\n' "$version"
    printf ' -- %s  %s\n' "$maintainer" "$(date -R -r CHANGELOG.md)"
} | gzip -9n >"$doc/changelog.gz"
{
    echo "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/"
    echo "Upstream-Name: fetchfs"
    echo
    echo "Files: *"
    echo "Copyright: $(sed -n 's/^Copyright (c) //p' LICENSE)"
    echo "License: MIT"
    sed -n '/^Permission/,$p' LICENSE | sed -e 's/^$/./' -e 's/^/ /'
} >"$doc/copyright"

# dpkg-shlibdeps wants a source package around it.
mkdir -p "$work/debian"
printf 'Source: fetchfs\n\nPackage: fetchfs\nArchitecture: any\n' >"$work/debian/control"
depends=$(cd "$work" && dpkg-shlibdeps -O "$stage/usr/bin/fetchfs" 2>/dev/null | sed -n 's/^shlibs:Depends=//p')

install -d "$stage/DEBIAN"
cat >"$stage/DEBIAN/control" <<CONTROL
Package: fetchfs
Version: $version
Architecture: $architecture
Maintainer: $maintainer
Installed-Size: $(du -sk --exclude=DEBIAN "$stage" | cut -f 1)
Depends: $depends
Recommends: fuse3
Section: utils
Priority: optional
Description: mount remote files of HTTP, WebDAV and S3 as a directory
 fetchfs mounts index pages of web servers, WebDAV collections, S3 buckets,
 lists of URLs, playlists and Metalinks as a local, read-only directory.
 Files are fetched when they are read, by range, into a sparse cache that
 survives restarts. Media players can jump, and copies are made with several
 connections.
CONTROL
# A cache is worth nothing without the program; Debian's policy has it and logs removed with the package's settings.
cat >"$stage/DEBIAN/postrm" <<'POSTRM'
#!/bin/sh
set -e
if [ "$1" = purge ]; then rm -rf /var/cache/fetchfs /var/log/fetchfs; fi
POSTRM
chmod 755 "$stage/DEBIAN/postrm"
(cd "$stage" && find usr -type f -printf '%P\0' | sed -z 's|^|usr/|' | xargs -0 md5sum) >"$stage/DEBIAN/md5sums"

mkdir -p "$output"
dpkg-deb --root-owner-group --build "$stage" "$output/fetchfs_${version}_$architecture.deb"
