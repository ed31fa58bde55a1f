//! Published hashes: bytes that contradict what the source of a file publishes of it are not kept.

mod known;

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use fetchfs::internals::events;
use rusqlite::Connection;
use sha2::{Digest, Sha256};

use crate::common::files::{assert_same, errno_of, open_direct, pread, read_direct, sha256, sha256_of};
use crate::common::mount::fetchfs;
use crate::common::{Mount, cached, run, wait_until};
use crate::origin::{Content, Fault, Gate, Origin, Validators};

const MIB: u64 = 1 << 20;

/// The hexadecimal SHA-256 of a content.
fn digits(content: &Content) -> String {
    sha256_of(content).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A Metalink of one file `f` with this content, at these URLs.
fn metalink(content: &Content, urls: &[String]) -> String {
    let urls: String = urls.iter().map(|url| format!("<url>{url}</url>")).collect();
    format!(
        "<metalink xmlns=\"urn:ietf:params:xml:ns:metalink\"><file name=\"f\"><size>{}</size>\n\
         <hash type=\"md5\">00000000000000000000000000000000</hash>\n\
         <hash type=\"sha-256\">{}</hash>{urls}</file></metalink>",
        content.size(),
        digits(content)
    )
}

/// A Metalink of one file `f` with hashes of pieces of this length.
fn metalink_of_pieces(content: &Content, length: u64, urls: &[String]) -> String {
    let pieces = (0..content.size().div_ceil(length)).map(|piece| {
        let digest = Sha256::digest(content.read(piece * length..(piece + 1) * length));
        let digits: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("<hash>{digits}</hash>")
    });
    let (pieces, urls): (String, String) = (
        pieces.collect(),
        urls.iter().map(|url| format!("<url>{url}</url>")).collect(),
    );
    format!(
        "<metalink xmlns=\"urn:ietf:params:xml:ns:metalink\"><file name=\"f\"><size>{}</size>\n\
         <pieces length=\"{length}\" type=\"sha-256\">{pieces}</pieces>{urls}</file></metalink>",
        content.size()
    )
}

/// The same content with one other byte.
fn with_wrong_byte(content: &Content, at: u64) -> Content {
    let mut bytes = content.whole();
    bytes[at as usize] ^= 1;
    bytes.into()
}

/// Asserts that the chunks that are recorded of `/f` are right. Returns their bytes.
#[track_caller]
fn assert_recorded_chunks_are_right(cache: &Path, content: &Content) -> u64 {
    let chunks = cached::chunks(cache, "/f");
    for chunk in &chunks {
        let end = chunk.offset + chunk.bytes.len() as u64;
        assert_same(&chunk.bytes, &content.read(chunk.offset..end), "a recorded chunk");
    }
    chunks.iter().map(|chunk| chunk.bytes.len() as u64).sum()
}

/// A server with a file `/f` of this content, and the file's URL.
fn server(content: &Content) -> (Origin, String) {
    let origin = Origin::start();
    origin.add("/f", content.clone());
    let url = origin.url("/f");
    (origin, url)
}

/// How many files the index records as compared.
fn number_of_verified(mount: &Mount) -> i64 {
    let index = Connection::open(mount.cache().join("index.db")).expect("the index");
    let sql = "SELECT count(verified) FROM cache_entries";
    index.query_row(sql, [], |row| row.get(0)).expect("a row")
}

/// What the index records of a checked file.
fn verified(mount: &Mount) -> Option<String> {
    let index = Connection::open(mount.cache().join("index.db")).expect("the index");
    let sql = "SELECT max(verified) FROM cache_entries";
    index.query_row(sql, [], |row| row.get(0)).expect("a row")
}

fn getxattr(path: &Path, name: &str) -> io::Result<String> {
    let (path, name) = (
        CString::new(path.as_os_str().as_bytes()).expect("no zero"),
        CString::new(name).expect("no zero"),
    );
    let mut value = vec![0; 256];
    // SAFETY: both are strings with a zero at the end, and the buffer has the given length.
    let len = unsafe { libc::getxattr(path.as_ptr(), name.as_ptr(), value.as_mut_ptr().cast(), value.len()) };
    let len = usize::try_from(len).map_err(|_| io::Error::last_os_error())?;
    Ok(String::from_utf8_lossy(&value[..len]).into_owned())
}

/// The names of the extended attributes.
fn listxattr(path: &Path) -> Vec<String> {
    let path = CString::new(path.as_os_str().as_bytes()).expect("no zero");
    let mut names = vec![0; 4096];
    // SAFETY: the path has a zero at the end, and the buffer has the given length.
    let len = unsafe { libc::listxattr(path.as_ptr(), names.as_mut_ptr().cast(), names.len()) };
    let names = &names[..usize::try_from(len).expect("no error")];
    let names = names.split(|byte| *byte == 0).filter(|name| !name.is_empty());
    names.map(|name| String::from_utf8_lossy(name).into_owned()).collect()
}

/// The first URL of a Metalink has other bytes than the hash says. They are dropped when the file is complete, and what
/// opens it then reads the next URL, whose date differs. The result is recorded over a crash.
#[test]
fn file_with_a_wrong_hash_is_read_from_the_next_url() {
    let (right, wrong) = (Content::noise(5 * MIB + 1, 1), Content::noise(5 * MIB + 1, 2));
    let ((_liar, lying), (honest, url)) = (server(&wrong), server(&right));
    honest.add("/x.meta4", metalink(&right, &[lying.clone(), url]).as_str());
    let mut mount = Mount::of(&honest.url("/x.meta4")).with("--attr-ttl", "1h").start();
    let path = mount.path("f");
    let before = open_direct(&path);
    // What is read before the end can't be checked.
    let _ = sha256(&path);
    mount.wait_for_event_with(events::HASH_MISMATCH, &lying, 1);
    // An open file does not go on with other bytes than it began with.
    wait_until("errors", || read_direct(&before, 0, 4096).is_err());
    assert_eq!(errno_of(read_direct(&before, 0, 4096)), libc::EIO);
    assert_eq!(sha256(&path), sha256_of(&right));
    let hash = format!("sha-256:{}", digits(&right));
    wait_until("the check", || verified(&mount).as_ref() == Some(&hash));
    mount.kill();
    mount.add_option("--offline", "");
    mount.start();
    assert_eq!(sha256(&path), sha256_of(&right));
    assert_eq!(verified(&mount), Some(hash), "it is not void");
}

#[test]
fn file_without_another_url_is_an_error() {
    let (right, wrong) = (Content::noise(MIB, 3), Content::noise(MIB, 4));
    let (liar, lying) = server(&wrong);
    liar.add("/l.txt", format!("{lying}\tf\t{MIB}\t{}\n", digits(&right)).as_str());
    let mount = Mount::of(&liar.url("/l.txt")).with("--attr-ttl", "1h").start();
    let path = mount.path("f");
    let _ = fs::read(&path);
    mount.wait_for_event_with(events::HASH_MISMATCH, &digits(&right), 1);
    let read = || fs::read(&path).map(|bytes| bytes.len());
    wait_until("an error", || read().is_err());
    let mark = liar.log().mark();
    assert_eq!(errno_of(read()), libc::EIO);
    assert!(liar.log().since(mark).data("/f").is_empty(), "it is not asked again");
    assert_eq!(mount.events_with(events::HASH_MISMATCH, &digits(&wrong)), 1);
}

/// What was cached while no hash was known is checked when one is.
#[test]
fn cached_file_is_checked_when_its_hash_is_published() {
    let (right, wrong) = (Content::noise(2 * MIB, 5), Content::noise(2 * MIB, 6));
    let (liar, lying) = server(&wrong);
    liar.add("/plain.txt", format!("{lying}\tf\t{}\n", 2 * MIB).as_str());
    let list = format!("{lying}\tf\t{}\t{}\n", 2 * MIB, digits(&right));
    liar.add("/hashed.txt", list.as_str());
    let mut mount = Mount::start_of(&liar.url("/plain.txt"));
    assert_eq!(sha256(&mount.path("f")), sha256_of(&wrong));
    assert_eq!(
        getxattr(&mount.path("f"), "user.fetchfs.sha256").map_err(|error| error.raw_os_error()),
        Err(Some(libc::ENODATA))
    );
    mount.unmount();
    assert_eq!(verified(&mount), None);
    let cache = mount.cache();
    let hashed = Mount::of(&liar.url("/hashed.txt"))
        .with("--cache-dir", &cache.display().to_string())
        .start();
    let _ = fs::read(hashed.path("f"));
    hashed.wait_for_event(events::HASH_MISMATCH, 1);
}

/// No byte of a wrong piece is read, whatever lengths pieces have: the piece is fetched again from the next URL, and the
/// first one is not asked any more.
#[test]
fn wrong_piece_is_read_from_the_next_url() {
    const SIZE: u64 = 6 * MIB + 5;
    for (number, length) in [(0, 256 << 10), (1, MIB), (2, 300_007), (3, 100_003), (4, SIZE)] {
        let right = Content::noise(SIZE, 20 + number);
        let ((liar, lying), (honest, url)) = (server(&with_wrong_byte(&right, 4 * MIB + 7)), server(&right));
        let metalink = metalink_of_pieces(&right, length, &[lying.clone(), url]);
        honest.add("/x.meta4", metalink.as_str());
        let mount = Mount::of(&honest.url("/x.meta4")).with("--attr-ttl", "1h").start();
        assert_eq!(sha256(&mount.path("f")), sha256_of(&right), "pieces of {length}");
        assert_eq!(
            mount.events_with(events::HASH_MISMATCH, &lying),
            1,
            "pieces of {length}"
        );
        assert_eq!(mount.events(events::READ_FAILED), 0);
        // Each server sends every byte at most once, and what is left of pieces at the ends of fetches.
        let sent = liar.log().all().body_bytes("/f") + honest.log().all().body_bytes("/f");
        assert!(sent <= 3 * SIZE, "pieces of {length}: {sent} bytes were sent");
    }
}

/// Without another URL it is an error, and what was verified before is served.
#[test]
fn wrong_piece_without_another_url_is_an_error() {
    let right = Content::noise(8 * MIB, 30);
    let (liar, lying) = server(&with_wrong_byte(&right, 5 * MIB));
    let metalink = metalink_of_pieces(&right, MIB, std::slice::from_ref(&lying));
    liar.add("/x.meta4", metalink.as_str());
    let mut mount = Mount::of(&liar.url("/x.meta4")).with("--attr-ttl", "1h").start();
    let file = open_direct(&mount.path("f"));
    assert_same(
        &read_direct(&file, MIB, 4096).expect("to read"),
        &right.read(MIB..MIB + 4096),
        "a right piece",
    );
    assert_eq!(errno_of(read_direct(&file, 5 * MIB + 4096, 4096)), libc::EIO);
    assert_eq!(errno_of(read_direct(&file, 5 * MIB + 4096, 4096)), libc::EIO, "again");
    assert_eq!(mount.events_with(events::HASH_MISMATCH, &lying), 1);
    assert_same(
        &read_direct(&file, MIB, 4096).expect("to read"),
        &right.read(MIB..MIB + 4096),
        "what is cached",
    );
    drop(file);
    mount.unmount();
    assert!(assert_recorded_chunks_are_right(&mount.cache(), &right) >= MIB);
}

/// The process is killed when one and a half pieces have come, then reads offline, then completes the file elsewhere.
#[test]
fn killed_mount_keeps_verified_pieces_only() {
    const LENGTH: u64 = 700_001;
    let (right, wrong) = (Content::noise(4 * MIB, 31), Content::noise(4 * MIB, 32));
    let mut mixed = right.whole();
    let first_wrong = LENGTH as usize;
    mixed[first_wrong..].copy_from_slice(&wrong.whole()[first_wrong..]);
    let ((liar, lying), (honest, url)) = (server(&mixed.into()), server(&right));
    honest.add(
        "/x.meta4",
        metalink_of_pieces(&right, LENGTH, &[lying.clone(), url.clone()]).as_str(),
    );
    let gate = Gate::new();
    liar.on("/f")
        .data()
        .fault(Fault::HoldAfter(LENGTH + LENGTH / 2, gate.clone()));
    let mut mount = Mount::of(&honest.url("/x.meta4")).with("--attr-ttl", "1h").start();
    let path = mount.path("f");
    assert_same(&pread(&path, 0..4096), &right.read(0..4096), "the first piece");
    mount.kill();
    gate.open();
    let kept = assert_recorded_chunks_are_right(&mount.cache(), &right);
    mount.add_option("--offline", "");
    mount.start();
    let file = open_direct(&path);
    assert_eq!(
        errno_of(read_direct(&file, MIB, 4096)),
        libc::ENETUNREACH,
        "{kept} bytes were kept"
    );
    drop(file);
    mount.unmount();
    let mut online = Mount::of(&honest.url("/x.meta4"))
        .with("--cache-dir", &mount.cache().display().to_string())
        .start();
    assert_eq!(sha256(&online.path("f")), sha256_of(&right));
    online.unmount();
    assert_eq!(assert_recorded_chunks_are_right(&mount.cache(), &right), right.size());
    cached::assert_sound(&mount.cache());
}

/// Parts of pieces are evicted, and fetched again through the same check.
#[test]
fn evicted_parts_of_pieces_are_verified_again() {
    let right = Content::noise(5 * MIB, 33);
    let (origin, url) = server(&right);
    origin.add("/x.meta4", metalink_of_pieces(&right, 300_007, &[url]).as_str());
    let mount = Mount::of(&origin.url("/x.meta4")).with("--attr-ttl", "1h").start();
    let path = mount.path("f");
    assert_eq!(sha256(&path), sha256_of(&right));
    run(fetchfs().arg("evict").arg(&path)).succeeded();
    // What is cached again does not begin at a piece.
    let file = open_direct(&path);
    for place in [3 * MIB, 2 * MIB + 512 * 1024, 0] {
        assert_same(
            &read_direct(&file, place, 4096).expect("to read"),
            &right.read(place..place + 4096),
            "a place",
        );
    }
    origin.replace_keeping_date("/f", with_wrong_byte(&right, 4 * MIB));
    origin.set_validators("/f", Validators::DateOnly);
    assert_eq!(errno_of(read_direct(&file, 4 * MIB, 4096)), libc::EIO);
}

/// Without a server, and without a mount.
#[test]
fn cache_verify_compares_with_published_hashes() {
    let (right, other) = (Content::noise(2 * MIB, 40), Content::noise(MIB, 41));
    let (origin, url) = server(&right);
    origin.add("/g", other.clone());
    origin.add("/part", Content::noise(8 * MIB, 42));
    let list = format!(
        "{url}\tf\t{}\t{}\n{}\tg\n{}\tpart\t{}\t{}\n",
        2 * MIB,
        digits(&right),
        origin.url("/g"),
        origin.url("/part"),
        8 * MIB,
        digits(&other)
    );
    origin.add("/l.txt", list.as_str());
    let mut mount = Mount::of(&origin.url("/l.txt")).with("--attr-ttl", "1h").start();
    for name in ["f", "g"] {
        sha256(&mount.path(name));
    }
    let _ = read_direct(&open_direct(&mount.path("part")), 4 * MIB, 4096);
    let cache = mount.cache();
    let verify = |words: &[&std::ffi::OsStr]| {
        let mut command = fetchfs();
        command.args(["cache", "verify", "--against-source", "--json", "--cache-dir"]);
        let ran = run(command.arg(&cache).args(words));
        let compared: serde_json::Value = serde_json::from_str(&ran.out).expect("JSON");
        let result = |one: &serde_json::Value| {
            let name = one["url"]
                .as_str()
                .expect("a URL")
                .rsplit('/')
                .next()
                .expect("a name")
                .to_owned();
            (name, one["result"].as_str().expect("a result").to_owned())
        };
        let mut results: Vec<_> = compared.as_array().expect("an array").iter().map(result).collect();
        results.sort();
        (ran.code == 0, results)
    };
    let expect = |what: &[(&str, &str)]| -> Vec<(String, String)> {
        what.iter()
            .map(|(name, result)| (name.to_string(), result.to_string()))
            .collect()
    };
    let all = [("f", "match"), ("g", "unpublished"), ("part", "incomplete")];
    // It is recorded a moment after it is read.
    wait_until("all of them", || verify(&[]) == (true, expect(&all)));
    let path = mount.path("f");
    assert_eq!(verify(&[path.as_os_str()]), (true, expect(&all[..1])), "by its path");
    mount.unmount();
    origin.go_down();
    // As a disk would do it.
    let index = Connection::open(mount.cache().join("index.db")).expect("the index");
    let sql = "SELECT entry_key FROM cache_entries WHERE url LIKE '%/f'";
    let key: String = index.query_row(sql, [], |row| row.get(0)).expect("a row");
    let data = mount.cache().join("data").join(&key[..2]).join(&key[2..]);
    std::os::unix::fs::FileExt::write_all_at(&fs::File::options().write(true).open(data).expect("a file"), b"x", MIB)
        .expect("to write");
    let wrong = [("f", "mismatch")];
    assert_eq!(
        verify(&[std::ffi::OsStr::new(&url)]),
        (false, expect(&wrong)),
        "by its URL"
    );
    assert!(!verify(&[std::ffi::OsStr::new("--repair")]).0);
    assert_eq!(verify(&[]), (true, expect(&all[1..])), "it was dropped");
}

/// `Repr-Digest` is the server's own word for the version that it sends.
#[test]
fn digest_in_the_response_is_enforced() {
    let (content, other) = (Content::noise(MIB + 9, 60), Content::noise(9, 61));
    let field = |content: &Content| {
        let value = format!("sha-256=:{}:", BASE64_STANDARD.encode(sha256_of(content)));
        Fault::Header("Repr-Digest", Box::leak(value.into_boxed_str()))
    };
    let origin = Origin::start();
    for (path, digest) in [("/d/right", &content), ("/d/wrong", &other)] {
        origin.add(path, content.clone());
        origin.on(path).data().fault(field(digest));
    }
    let mount = Mount::of(&origin.url("/d/")).with("--attr-ttl", "1h").start();
    assert_eq!(sha256(&mount.path("right")), sha256_of(&content));
    wait_until("the check", || number_of_verified(&mount) == 1);
    let _ = fs::read(mount.path("wrong"));
    mount.wait_for_event_with(events::HASH_MISMATCH, &origin.url("/d/wrong"), 1);
    wait_until("an error", || fs::read(mount.path("wrong")).is_err());
    assert_eq!(mount.events(events::HASH_MISMATCH), 1);
}

/// A difference is reported and nothing more, because either file may be the older one.
#[test]
fn checksum_file_is_compared_and_not_enforced() {
    let (good, stale) = (Content::noise(MIB, 50), Content::noise(MIB, 51));
    let origin = Origin::start();
    origin.add("/d/good", good.clone());
    origin.add("/d/stale", stale.clone());
    let sums = format!("{}  good\n{} *stale\n", digits(&good), digits(&good));
    origin.add("/d/SHA256SUMS", sums.as_str());
    let mut mount = Mount::of(&origin.url("/d/")).with("--attr-ttl", "1h").start();
    assert_eq!(fs::read_dir(mount.root()).expect("to list").count(), 3);
    assert!(
        origin.log().all().data("/d/SHA256SUMS").is_empty(),
        "a listing costs no request for it"
    );
    let sums = origin.url("/d/SHA256SUMS");
    for _ in 0..2 {
        assert_eq!(sha256(&mount.path("good")), sha256_of(&good));
        assert_eq!(sha256(&mount.path("stale")), sha256_of(&stale));
        mount.wait_for_event_with(events::CHECKSUM_DIFFERS, &sums, 1);
        wait_until("both", || number_of_verified(&mount) == 2);
        mount.remount();
    }
    assert_eq!(sha256(&mount.path("stale")), sha256_of(&stale));
    assert_eq!(mount.events_with(events::CHECKSUM_DIFFERS, &origin.url("/d/stale")), 1);
    assert_eq!(mount.events(events::HASH_MISMATCH), 0);
    let gets = origin.log().all().gets("/d/SHA256SUMS").len();
    assert_eq!(gets, 1, "one request for all files, over remounts too");
    let mut command = fetchfs();
    command.args(["cache", "verify", "--against-source", "--cache-dir"]);
    assert_ne!(run(command.arg(mount.cache())).code, 0);
}

#[test]
fn published_sha256_is_an_extended_attribute() {
    let content = Content::noise(1000, 7);
    let (origin, url) = server(&content);
    origin.add("/plain", "x");
    let list = format!("{url}\tf\t1000\t{}\n{}\n", digits(&content), origin.url("/plain"));
    origin.add("/l.txt", list.as_str());
    let mount = Mount::of(&origin.url("/l.txt")).with("--attr-ttl", "1h").start();
    let (file, plain) = (mount.path("f"), mount.path("plain"));
    for path in [&file, &plain] {
        fs::metadata(path).expect("to stat");
    }
    let mark = origin.log().mark();
    assert_eq!(
        getxattr(&file, "user.fetchfs.sha256").expect("a value"),
        digits(&content)
    );
    assert_eq!(listxattr(&file), ["user.fetchfs.sha256"]);
    assert!(listxattr(&plain).is_empty() && listxattr(&mount.root()).is_empty());
    for (name, errno) in [
        ("user.fetchfs.sha256", libc::ENODATA),
        ("user.other", libc::ENODATA),
        // After this errno `ls -l` asks no other file.
        ("security.selinux", libc::EOPNOTSUPP),
    ] {
        let error = getxattr(&plain, name).expect_err("no value");
        assert_eq!(error.raw_os_error(), Some(errno), "{name}");
    }
    assert!(origin.log().since(mark).0.is_empty(), "it costs no request");
}
