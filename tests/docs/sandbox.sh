#!/usr/bin/env bash
# A machine to run a shell block of the documents on: sandbox.sh PLACE SCRIPT HOSTS
#
# tests/docs.rs calls it in new namespaces of mounts, processes and the network, so it may mount over everything, and
# nothing of it stays. All HOSTS are here: an nginx serves one small site for all of them, by HTTP, HTTPS and WebDAV,
# and lists a bucket. ~/pub and /mnt/pub are mounted for a script that uses them and does not mount them itself.
set -euo pipefail
place=$1 script=$2 hosts=$3

# The namespace begins with a copy of other tests' mounts, which would keep those alive.
umount --all --lazy --types fuse.fetchfs 2>/dev/null || :
ip link set lo up
mount -t tmpfs tmpfs "$place"
cd "$place"
mkdir bin sbin site etc work
for directory in /home /mnt /srv /run /var/cache /var/log; do
    mount -t tmpfs -o mode=755 tmpfs "$directory"
done
# Here before: an ordinary user's namespace can't write files that belong to the real root.
printf '127.0.0.1 %s\n' $hosts localhost >etc/hosts
touch etc/fstab
mount -t overlay -o "lowerdir=/etc,upperdir=$place/etc,workdir=$place/work" overlay /etc

# What is installed
printf '#!/bin/sh\nexec "$@"\n' >bin/sudo
sed "s|^BINDIR=.*|BINDIR=$place/bin|" "$PROJECT/mount-helpers/mount.fetchfs" >sbin/mount.fetchfs
sed "s|^BINDIR=.*|BINDIR=$place/bin|" "$PROJECT/mount-helpers/umount.fuse.fetchfs" >sbin/umount.fuse.fetchfs
# In the place of the AWS CLI
printf '#!/bin/sh\necho https://example.org/film.mkv\n' >bin/aws
chmod 755 bin/* sbin/*
ln -s mount.fetchfs sbin/mount.fuse.fetchfs
ln -s "$FETCHFS" bin/fetchfs
mount -t overlay -o "lowerdir=$place/sbin:/usr/sbin" overlay /usr/sbin
export PATH="$place/bin:$PATH" HOME=/home/ann LANG=C.UTF-8 LC_ALL=C.UTF-8 COLUMNS=80

# The site
cd site
mkdir -p pub/{photos/2024,manuals,incoming} films iso collection media private remote.php/dav/files/ann/shorts
printf 'hello\n' | tee pub/hello.txt pub/photos/2024/{beach,hill}.jpg pub/manuals/intro.txt \
    films/{heat.mkv,heat.srt} remote.php/dav/files/ann/{a.txt,shorts/b.txt} >/dev/null
printf 'ID3' >media/0815.mp3
# A film, incompressible at its ends and sparse between them.
head -c 4M /dev/urandom >pub/film.mkv
truncate -s 64M pub/film.mkv
head -c 1M /dev/urandom >>pub/film.mkv
cp pub/film.mkv film.mkv
cp pub/hello.txt pub/clip.mp4
cp pub/hello.txt image.iso
touch -d 2026-01-31 pub/*
sqlite3 data.db 'CREATE TABLE t (n); WITH RECURSIVE r(n) AS (SELECT 1 UNION SELECT n + 1 FROM r LIMIT 10000) INSERT INTO t SELECT n FROM r'
(cd pub && zip -q ../archive.zip hello.txt manuals/intro.txt)
mke2fs -q -t ext2 -d pub/manuals disk.iso 256k >/dev/null
printf 'https://example.org/pub/film.mkv\nhttps://example.org/archive.zip\tdocs/\n' | tee list.txt urls >/dev/null
printf 'https://example.org/a\nhttps://example.org/b\nhttps://example.org/c\tc\t12k\n' >bad.txt
printf '#EXTM3U\n#EXTINF:215,Artist - Title\nhttps://example.org/media/0815.mp3\n' >list.m3u
cat >release.meta4 <<END
<metalink xmlns="urn:ietf:params:xml:ns:metalink"><file name="film.mkv">
<size>$(stat -c %s film.mkv)</size><hash type="sha-256">$(sha256sum <film.mkv | cut -d ' ' -f 1)</hash>
<url location="de">https://example.org/film.mkv</url>
</file></metalink>
END
cd ..

# Its server
sed "s|PLACE|$place|g; s|CERTIFICATE|$CERTIFICATE|; s|KEY|$KEY|" "$PROJECT/tests/docs/nginx.conf" >nginx.conf
mkdir log
"$WEB_SERVER" -e "$place/log/error" -c "$place/nginx.conf" </dev/null >log/output 2>&1 || {
    cat log/output >&2
    exit 1
}

# The user's home, and the machine's directories
mkdir -p ~/{pub,mnt,remote,cloud,films,goes,data} /mnt/{pub,library,nas/films,films,iso,collection} /srv/films /etc/fetchfs
cd ~
mkdir .aws
printf '[%s]\naws_access_key_id = AKIDEXAMPLE\naws_secret_access_key = secret\n' default work >.aws/credentials
(umask 077 && printf 'secret\n' | tee .cloud ann.secret secret /etc/fetchfs/ann.secret >/dev/null)
cp "$place/site/list.txt" urls.txt
printf 'hello\n' >/mnt/nas/films/heat.txt
printf '[[source]]\nurl = "https://example.org/pub/"\nat = "pub"\n' >library.toml

# What the script takes for granted
mounted() {
    local named=${2/#\~/$HOME}
    if grep -qF "$2" "$script" && ! grep -qE "(^| )mount .*$2( |\$)" "$script"; then
        fetchfs mount "$1" "$named"
        ls -R "$named" >/dev/null
    fi
}
mounted https://example.org/pub/ '~/pub'
mounted https://example.org/pub/ /mnt/pub
mounted https://example.org/films/ /srv/films
mounted library.toml /mnt/library

export SITE="$place/site"
bash "$script" </dev/null
