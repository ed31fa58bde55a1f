//! `fetchfs cache`: it finds damage and nothing else, and does not touch what a mount uses.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use rusqlite::Connection;

use crate::common::files::{assert_same, pread};
use crate::common::mount::fetchfs;
use crate::common::{Mount, program};
use crate::origin::{Content, Origin};

/// The default chunk size.
const CHUNK: u64 = 256 * 1024;
const SIZE: u64 = 5 * CHUNK + 100;

/// Runs `fetchfs cache ARGUMENTS` over this cache.
fn cache(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = fetchfs();
    command.arg("cache").args(arguments).arg("--cache-dir").arg(folder);
    command.output().expect("to run")
}

#[track_caller]
fn printed(output: &Output, status: i32) -> String {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "{text}{said}");
    text
}

/// A cache with `/a` and `/b`, both read completely, without a mount.
fn two_files() -> (Origin, Content, Mount) {
    let (origin, content) = (Origin::start(), Content::noise(SIZE, 5));
    origin.add("/a", content.clone());
    origin.add("/b", content.clone());
    let mut mount = Mount::start_of(&origin.url("/"));
    for name in ["a", "b"] {
        pread(&mount.path(name), 0..SIZE);
    }
    mount.unmount();
    (origin, content, mount)
}

fn sql(folder: &Path, sql: &str) {
    let connection = Connection::open(folder.join("index.db")).expect("the index");
    connection.execute_batch(sql).expect("to change it");
}

/// The data file of the file at this path.
fn data_file(folder: &Path, path: &str) -> std::path::PathBuf {
    let connection = Connection::open(folder.join("index.db")).expect("the index");
    let sql = "SELECT entry_key FROM cache_entries WHERE url LIKE '%' || ?1";
    let key: String = connection.query_row(sql, [path], |row| row.get(0)).expect("its row");
    folder.join("data").join(&key[..2]).join(&key[2..])
}

fn overwrite(path: &Path, offset: u64) {
    let file = File::options().write(true).open(path).expect("a data file");
    file.write_all_at(b"wrong", offset).expect("to write");
}

#[test]
fn verify_accepts_an_intact_cache() {
    let (_origin, _, mount) = two_files();
    let text = printed(&cache(&mount.cache(), &["verify"]), 0);
    assert_eq!(text, "12 chunks with 2.5 MiB of 2 files were checked\n");
}

#[test]
fn closed_pipe_is_silent_and_full_disk_is_reported() {
    let (_origin, _, mount) = two_files();
    for action in ["list", "stats", "verify"] {
        let command = || {
            let mut command = fetchfs();
            command.args(["cache", action, "--cache-dir"]).arg(mount.cache());
            command
        };
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let output = command().stdout(writer).output().expect("to run");
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{action}");
        assert_eq!(output.status.code(), Some(141), "{action}");

        let full = File::options().write(true).open("/dev/full").expect("/dev/full");
        let output = command().stdout(full).output().expect("to run");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains("can't write to standard output: No space left"), "{said}");
        assert_eq!(output.status.code(), Some(1), "{action}");
    }
}

#[test]
fn verify_finds_all_damage_and_repair_drops_only_that() {
    let (origin, content, mut mount) = two_files();
    let folder = mount.cache();
    let a = data_file(&folder, "/a");
    overwrite(&a, CHUNK + 7);
    let file = File::options().read(true).write(true).open(&a).expect("a data file");
    let zeros = nix::fcntl::FallocateFlags::FALLOC_FL_PUNCH_HOLE | nix::fcntl::FallocateFlags::FALLOC_FL_KEEP_SIZE;
    nix::fcntl::fallocate(&file, zeros, (3 * CHUNK) as i64, CHUNK as i64).expect("to punch a hole");
    // The open handle keeps it from being repaired.
    drop(file);
    fs::remove_file(data_file(&folder, "/b")).expect("to delete");
    sql(
        &folder,
        "UPDATE cache_entries SET chunks_present = 4 WHERE url LIKE '%/a';
         INSERT INTO cache_chunks SELECT entry_id, 77, 0 FROM cache_entries WHERE url LIKE '%/a'",
    );
    let orphan = folder.join("data/ff/00000000000000000000000000000f");
    fs::create_dir_all(orphan.parent().expect("its shard")).expect("a shard");
    fs::write(&orphan, "nobody's").expect("to write");

    let found = |text: &str| -> Vec<String> {
        let mut lines: Vec<_> = text
            .lines()
            .filter(|line| !line.ends_with(" checked"))
            .map(|line| line.replace(&origin.url("/"), ""))
            .collect();
        lines.sort();
        lines
    };
    let expected = [
        "a data file of 4.0 KiB has no record in the index",
        "a: chunk 1 does not match its checksum",
        "a: chunk 3 is a hole in the data file",
        "a: chunk 77 is recorded past the file's end",
        "a: the entry counts 5 chunks, but 7 are recorded",
        "b: its data file is missing",
    ];
    let looked_at = cache(&folder, &["verify"]);
    assert_eq!(found(&printed(&looked_at, 1)), expected);
    assert!(String::from_utf8_lossy(&looked_at.stderr).contains("6 problems found"));
    let repaired = expected.map(|line| format!("{line}; dropped"));
    assert_eq!(found(&printed(&cache(&folder, &["verify", "--repair"]), 1)), repaired);
    assert!(!orphan.exists());
    printed(&cache(&folder, &["verify"]), 0);

    let mark = origin.log().mark();
    mount.start();
    for name in ["a", "b"] {
        assert_same(&pread(&mount.path(name), 0..SIZE), &content.whole(), name);
    }
    let log = origin.log().since(mark);
    assert_eq!((log.distinct_bytes("/a"), log.distinct_bytes("/b")), (2 * CHUNK, SIZE));
}

#[test]
fn verify_and_clear_spare_files_in_use() {
    let (_origin, content, mut mount) = two_files();
    mount.start();
    let open = File::open(mount.path("a")).expect("to open");
    assert_same(&pread(&mount.path("a"), 0..SIZE), &content.whole(), "a");
    printed(&cache(&mount.cache(), &["verify"]), 0);
    overwrite(&data_file(&mount.cache(), "/a"), 2 * CHUNK);
    let text = printed(&cache(&mount.cache(), &["verify", "--repair"]), 1);
    assert!(
        text.contains("/a: chunk 2 does not match its checksum; kept, because it is in use"),
        "{text}"
    );

    let text = printed(&cache(&mount.cache(), &["clear"]), 0);
    assert!(
        text.contains("/a: kept, because a mount uses it")
            && text.ends_with("1 in use; `fetchfs evict` deletes what a mount uses\n"),
        "{text}"
    );
    assert!(text.contains("1 file with 1.3 MiB deleted, 1 in use"), "{text}");
    drop(open);
    mount.unmount();
    let text = printed(&cache(&mount.cache(), &["verify", "--repair"]), 1);
    assert!(
        text.contains("/a: chunk 2 does not match its checksum; dropped"),
        "{text}"
    );
    mount.start();
    assert_same(&pread(&mount.path("a"), 0..SIZE), &content.whole(), "a");
}

#[test]
fn list_stats_and_clear_work_on_a_cache() {
    let (origin, _, mount) = two_files();
    let listed = printed(&cache(&mount.cache(), &["list"]), 0);
    let urls: Vec<_> = listed
        .lines()
        .filter_map(|line| line.split_whitespace().last())
        .collect();
    assert_eq!(
        urls,
        [origin.url("/b"), origin.url("/a")],
        "the last one that was opened comes first"
    );
    assert!(
        listed.lines().all(|line| line.contains("1.3 MiB of    1.3 MiB  100%")),
        "{listed}"
    );
    let stats = printed(&cache(&mount.cache(), &["stats"]), 0);
    assert!(
        stats.contains("files     2 (2 complete)\nchunks    12\ncached    2.5 MiB\n"),
        "{stats}"
    );

    let as_json = |words: &[&str]| -> serde_json::Value {
        serde_json::from_str(&printed(&cache(&mount.cache(), words), 0)).expect("JSON")
    };
    let listed = as_json(&["list", "--json"]);
    assert_eq!(listed[1]["url"], origin.url("/a"));
    assert_eq!(listed[1]["cached_bytes"], listed[1]["size"]);
    assert_eq!(listed[1]["is_complete"], true);
    let stats = as_json(&["stats", "--json"]);
    assert_eq!((&stats["files"], &stats["chunks"]), (&2.into(), &12.into()));

    let url = origin.url("/a");
    printed(&cache(&mount.cache(), &["clear", &url]), 0);
    assert_eq!(printed(&cache(&mount.cache(), &["list"]), 0).lines().count(), 1);
    printed(&cache(&mount.cache(), &["clear", &url]), 1);
    printed(&cache(&mount.cache(), &["clear"]), 0);
    assert_eq!(printed(&cache(&mount.cache(), &["list"]), 0), "");
}

/// Overwrites the middle of the index: SQLite opens it, and finds the damage only when it reads all of it.
fn damage_index(folder: &Path) {
    sql(folder, "PRAGMA wal_checkpoint(TRUNCATE)");
    let connection = Connection::open(folder.join("index.db")).expect("the index");
    let number = |sql: &str| -> u64 {
        let number: i64 = connection.query_row(sql, [], |row| row.get(0)).expect("a number");
        number as u64
    };
    let page_size = number("PRAGMA page_size");
    let page = number("SELECT rootpage FROM sqlite_schema WHERE name = 'cache_chunks'");
    let offset = (page - 1) * page_size;
    drop(connection);
    let file = File::options()
        .write(true)
        .open(folder.join("index.db"))
        .expect("the index");
    file.write_all_at(&vec![0xa5; page_size as usize], offset)
        .expect("to write");
}

#[test]
fn repair_moves_a_damaged_index_aside() {
    let garbage =
        |folder: &Path| fs::write(folder.join("index.db"), "no database at all".repeat(100)).expect("to write");
    let mark = |folder: &Path| fs::write(folder.join("index.is-damaged"), "").expect("to write");
    let ways = [
        (damage_index as fn(&Path), "a page"),
        (garbage, "garbage"),
        (mark, "a mark"),
    ];
    for (damage, which) in ways {
        let (origin, content, mut mount) = two_files();
        let folder = mount.cache();
        damage(&folder);
        let found = cache(&folder, &["verify"]);
        let text = printed(&found, 1);
        assert!(text.starts_with("the index is damaged: "), "{which}: {text}");
        let said = String::from_utf8_lossy(&found.stderr);
        assert!(
            said.contains("verify --repair") && !said.contains("make room"),
            "{which}: {said}"
        );
        assert!(!folder.join("index.db.damaged").exists(), "{which}: it only looks");

        let text = printed(&cache(&folder, &["verify", "--repair"]), 1);
        assert!(text.contains("moved to index.db.damaged"), "{which}: {text}");
        assert!(folder.join("index.db.damaged").is_file(), "{which}");
        let text = printed(&cache(&folder, &["verify"]), 0);
        assert!(
            text.starts_with("0 chunks"),
            "{which}: what it recorded is gone: {text}"
        );

        let mark = origin.log().mark();
        mount.start();
        assert_same(&pread(&mount.path("a"), 0..SIZE), &content.whole(), which);
        assert_eq!(origin.log().since(mark).distinct_bytes("/a"), SIZE, "{which}");
    }
}

#[test]
fn damaged_index_in_use_is_kept() {
    let (_origin, content, mut mount) = two_files();
    mount.start();
    pread(&mount.path("a"), 0..1);
    fs::write(mount.cache().join("index.is-damaged"), "").expect("to write");
    let text = printed(&cache(&mount.cache(), &["verify", "--repair"]), 1);
    assert!(text.contains("kept, because it is in use"), "{text}");
    assert_same(&pread(&mount.path("a"), 0..SIZE), &content.whole(), "a");
    assert!(!mount.cache().join("index.db.damaged").exists());
}

#[test]
fn directory_without_a_cache_is_an_error_and_unchanged() {
    let folder = crate::common::temporary_directory();
    for action in ["list", "verify", "stats", "clear"] {
        let output = cache(folder.path(), &[action]);
        printed(&output, 1);
        assert!(String::from_utf8_lossy(&output.stderr).contains("there is no cache in it"));
    }
    assert_eq!(fs::read_dir(folder.path()).expect("to list").count(), 0);
}

#[test]
fn pins_are_listed_and_removed_without_a_mount() {
    let (origin, _, mut mount) = two_files();
    mount.start();
    let pin = fetchfs().args(["pin", "--no-fetch"]).arg(mount.path("a")).output();
    assert!(pin.expect("to run").status.success());
    mount.unmount();
    let url = origin.url("/a");
    assert_eq!(printed(&cache(&mount.cache(), &["pins"]), 0), format!("{url}\n"));
    let pins = printed(&cache(&mount.cache(), &["pins", "--json"]), 0);
    let pins: Vec<String> = serde_json::from_str(&pins).expect("JSON");
    assert_eq!(pins, [url.as_str()]);
    let kept = printed(&cache(&mount.cache(), &["clear", "--yes"]), 0);
    assert!(kept.contains("1 pinned file kept"), "{kept}");
    let other = cache(&mount.cache(), &["unpin", &origin.url("/b")]);
    assert_eq!(printed(&other, 1), "");
    assert!(
        String::from_utf8_lossy(&other.stderr).contains("is not pinned"),
        "{other:?}"
    );
    assert_eq!(printed(&cache(&mount.cache(), &["unpin", &url]), 0), "");
    assert_eq!(printed(&cache(&mount.cache(), &["pins"]), 0), "");
    let gone = printed(&cache(&mount.cache(), &["clear"]), 0);
    assert!(gone.contains("1 file with"), "{gone}");
}

/// script(1) runs it on a terminal.
#[test]
fn clear_asks_on_a_terminal() {
    let (_origin, _, mount) = two_files();
    let command = format!(
        "{} cache clear --cache-dir {}",
        env!("CARGO_BIN_EXE_fetchfs"),
        mount.cache().display()
    );
    let clear = |answer: &str| {
        let mut child = Command::new(program("script", "bsdutils"))
            .args(["--quiet", "--return", "--command", &command, "/dev/null"])
            .env("FETCHFS_CONFIG", "/dev/null")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("to run");
        let mut stdin = child.stdin.take().expect("piped");
        stdin.write_all(answer.as_bytes()).expect("to answer");
        let output = child.wait_with_output().expect("to end");
        drop(stdin);
        (
            output.status.success(),
            String::from_utf8_lossy(&output.stdout).into_owned(),
        )
    };
    let (is_done, said) = clear("n\n");
    assert!(
        !is_done && said.contains("Delete 2 cached files with") && said.contains("nothing was deleted"),
        "{said}"
    );
    let (is_done, said) = clear("y\n");
    assert!(is_done && said.contains("2 files with"), "{said}");
}
