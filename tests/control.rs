//! Status, pins and eviction by command, over the mount's socket, and the socket's resistance to bad clients.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Instant;

use nix::sys::signal::Signal;

use crate::common::files::{self, drop_pages, sha256, sha256_of};
use crate::common::process::assert_refuses;
use crate::common::{Mount, PATIENCE, run};
use crate::origin::{Fault, Gate};
use crate::prefetching::{content, data_requests, fetchfs_with, prefetch, site, wait_until_no_job_is_left};

const MIB: u64 = 1 << 20;

#[test]
fn status_shows_mounts_and_activity() {
    let origin = site();
    let mount = Mount::of(&origin.url("/")).with("--cache-size", "1GiB").start();
    prefetch(&[], &[mount.path("large")]).succeeded();
    let ran = run(&mut fetchfs_with(&["status"], &[mount.root()])).succeeded();
    let has = |text: &str| ran.out.contains(text);
    assert!(ran.out.starts_with(&mount.root().display().to_string()), "{ran:?}");
    assert!(has(&origin.url("/")) && has("40.0 MiB of 1.0 GiB"), "{ran:?}");
    let ran = run(&mut fetchfs_with(&["status", "--json"], &[mount.root()])).succeeded();
    let status: serde_json::Value = serde_json::from_str(&ran.out).expect("JSON");
    assert_eq!(status[0]["pid"], mount.pid());
    assert_eq!(status[0]["fetched_bytes"], 40 * MIB);
    assert_eq!(status[0]["origins"][0]["waiters"], 0);
}

#[test]
fn status_shows_which_server_is_down_and_why() {
    let origin = site();
    let mount = Mount::start_of(&origin.url("/"));
    // Without its line breaks.
    let status = || {
        let shown = run(&mut fetchfs_with(&["status"], &[mount.root()])).succeeded().out;
        shown.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let name = format!("down http://{} for", origin.address());
    assert!(!status().contains(&name));
    origin.go_down();
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| sha256(&mount.path("small")));
        let deadline = Instant::now() + PATIENCE;
        let is_told = |shown: &str| shown.contains(&name) && shown.contains("refused the connection");
        while !is_told(&status()) {
            assert!(Instant::now() < deadline, "{}", status());
        }
        origin.come_back();
        assert_eq!(reader.join().expect("to read"), sha256_of(&content("/small", 1000)));
    });
    assert!(!status().contains(&name));
}

#[test]
fn map_shows_what_is_cached_in_flight_and_waited_for() {
    let (origin, gate) = (site(), Gate::new());
    let mount = Mount::of(&origin.url("/"))
        .with("--chunk-size", "1MiB")
        .with("--max-connections", "1")
        .start();
    let map = |name: &str| {
        let ran = run(&mut fetchfs_with(&["map", "--json"], &[mount.path(name)])).succeeded();
        let maps: serde_json::Value = serde_json::from_str(&ran.out).expect("JSON");
        maps[0].clone()
    };
    let of_none = map("large");
    assert_eq!(of_none["size"], 40 * MIB);
    assert_eq!(of_none["cached"], serde_json::json!([]));
    prefetch(&["--range", "4MiB-6MiB"], &[mount.path("large")]).succeeded();
    origin.on("/large").data().fault(Fault::Hold(gate.clone()));
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let file = files::open_direct(&mount.path("large"));
            files::read_direct(&file, 20 * MIB, 4096).expect("to read")
        });
        gate.wait_for_arrivals(1);
        let now = map("large");
        assert_eq!(now["cached"], serde_json::json!([{"start": 4 * MIB, "end": 6 * MIB}]));
        assert_eq!(now["in_flight"][0]["start"], 20 * MIB);
        assert_eq!(now["waiting"], serde_json::json!([20 * MIB]));
        let shown = run(&mut fetchfs_with(&["map"], &[mount.path("large")])).succeeded();
        assert!(
            shown.out.contains("2.0 MiB of 40.0 MiB cached (5 %)") && shown.out.contains("1 read waiting"),
            "{shown:?}"
        );
        gate.open();
        reader.join().expect("to read");
    });
    let after = map("large");
    assert_eq!(after["waiting"], serde_json::json!([]));
    assert_refuses(
        &run(&mut fetchfs_with(&["map"], &[mount.root()])),
        &["it is a directory"],
    );
    assert_refuses(&run(&mut fetchfs_with(&["map"], &[mount.path("none")])), &["none"]);
}

/// The mount's socket.
fn socket_of(mount: &Mount) -> PathBuf {
    let table = std::fs::read_to_string("/proc/net/unix").expect("the kernel's list of sockets");
    let sockets = table.lines().filter_map(|line| line.split_ascii_whitespace().nth(7));
    let mut ours = sockets.map(PathBuf::from).filter(|path| {
        let mark = std::fs::read_to_string(path.with_extension("")).unwrap_or_default();
        mark.lines().next() == Some(&mount.pid().to_string())
    });
    ours.next().expect("a socket beside the run file")
}

#[test]
fn unreachable_mount_does_not_hide_others_in_status() {
    let origin = site();
    let (mut mute, other) = (Mount::start_of(&origin.url("/")), Mount::start_of(&origin.url("/")));
    run(&mut fetchfs_with(&["pin", "--no-fetch"], &[other.path("small")])).succeeded();
    std::fs::remove_file(socket_of(&mute)).expect("to take its socket away");
    run(&mut fetchfs_with(&["status"], &[mute.root()])).succeeded();
    mute.kill();
    let told = format!("fetchfs: the process that served {} is gone", mute.root().display());
    for (words, of_other) in [
        (&["status"][..], other.root().display().to_string()),
        (&["pin", "--list"], origin.url("/small")),
        (&["prefetch", "--list"], String::new()),
    ] {
        // All mounts of this user, including those of other tests.
        let ran = run(&mut fetchfs_with(words, &[])).succeeded();
        assert!(
            ran.out.contains(&of_other) && ran.err.contains(&told),
            "{words:?}: {ran:?}"
        );
        let ran = run(&mut fetchfs_with(words, &[mute.root()]));
        assert_refuses(&ran, &["is gone"]);
    }
}

#[test]
fn stopped_mount_delays_status_only_briefly() {
    let origin = site();
    let (stopped, other) = (Mount::start_of(&origin.url("/")), Mount::start_of(&origin.url("/")));
    stopped.signal(Signal::SIGSTOP);
    let ran = run(&mut fetchfs_with(&["status"], &[]));
    stopped.signal(Signal::SIGCONT);
    let ran = ran.succeeded();
    let told = format!(
        "fetchfs: {}: its process has not responded for",
        stopped.root().display()
    );
    let of_other = other.root().display().to_string();
    assert!(ran.out.contains(&of_other) && ran.err.contains(&told), "{ran:?}");
}

#[test]
fn control_socket_rejects_other_users() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let origin = site();
    let mount = Mount::start_of(&origin.url("/"));
    let socket = socket_of(&mount);
    let mode = std::fs::metadata(&socket).expect("a socket").mode();
    assert_eq!(mode & 0o777, 0o600);
    if !crate::common::is_root() {
        return;
    }
    // Even if the permissions of the directory and the socket would allow it.
    let dir = socket.parent().expect("a directory");
    let before = std::fs::metadata(dir).expect("it").permissions();
    std::fs::set_permissions(dir, PermissionsExt::from_mode(0o755)).expect("to open it");
    std::fs::set_permissions(&socket, PermissionsExt::from_mode(0o666)).expect("to open it");
    let heard = std::thread::scope(|scope| {
        let stranger = scope.spawn(|| {
            // SAFETY: takes three numbers. The raw call changes this thread alone, which ends soon.
            assert_eq!(unsafe { libc::syscall(libc::SYS_setresuid, -1, 65534, -1) }, 0);
            let mut heard = Vec::new();
            UnixStream::connect(&socket)
                .and_then(|mut stream| stream.read_to_end(&mut heard))
                .expect("an end");
            heard
        });
        stranger.join().expect("it ends")
    });
    std::fs::set_permissions(dir, before).expect("to close it again");
    assert_eq!(heard, [0; 0], "closed without a reply");
}

#[test]
fn malformed_control_requests_are_harmless() {
    let origin = site();
    let mount = Mount::start_of(&origin.url("/"));
    let socket = socket_of(&mount);
    for line in [
        "",
        "\n",
        "{}\n",
        "{\"do\":\"status\"",
        "\u{0}\u{1}\n",
        "{\"do\":\"prefetch\",\"wanted\":{\"paths\":[\"../..\"]}}\n",
    ] {
        let mut stream = UnixStream::connect(&socket).expect("it listens");
        stream.write_all(line.as_bytes()).expect("to send");
        stream.shutdown(std::net::Shutdown::Write).expect("to end");
        let replies: Vec<String> = BufReader::new(stream).lines().map_while(Result::ok).collect();
        assert!(replies[0].contains("protocol"), "a greeting: {replies:?}");
        assert!(replies.len() <= 2, "{line:?}: {replies:?}");
    }
    // The request has no end: the server cuts it off and does not store it.
    let mut stream = UnixStream::connect(&socket).expect("it listens");
    let endless = vec![b'['; 4 << 20];
    let _ = stream.write_all(&endless);
    let replies: Vec<String> = BufReader::new(stream).lines().map_while(Result::ok).collect();
    assert!(replies.len() <= 2, "{replies:?}");
    prefetch(&[], &[mount.path("small")]).succeeded();
}

/// Whether the cache's index has this file as pinned, for each version, the oldest first.
fn pinned_versions(mount: &Mount, name: &str) -> Vec<bool> {
    let index = rusqlite::Connection::open(mount.cache().join("index.db")).expect("the index");
    let mut query = index
        .prepare("SELECT pinned FROM cache_entries WHERE url LIKE '%/' || ?1 ORDER BY entry_id")
        .expect("a query");
    let rows = query.query_map([name], |row| row.get(0)).expect("rows");
    rows.collect::<Result<_, _>>().expect("pinned or not")
}

#[test]
fn pin_fetches_and_survives_remounts_and_new_versions() {
    let origin = site();
    let mut mount = Mount::of(&origin.url("/")).with("--attr-ttl", "0").start();
    let ran = run(&mut fetchfs_with(&["pin"], &[mount.path("small"), mount.path("dir")])).succeeded();
    assert!(ran.out.starts_with("job 1 on "), "{ran:?}");
    wait_until_no_job_is_left(&mount);
    mount.remount();
    let mark = origin.log().mark();
    assert_eq!(
        sha256(&mount.path("dir/deep/d")),
        sha256_of(&content("/dir/deep/d", 5000))
    );
    assert_eq!(data_requests(&origin, mark, &["/dir/deep/d"]), 0);
    let ran = run(&mut fetchfs_with(&["pin", "--list"], &[mount.root()])).succeeded();
    assert_eq!(ran.out, format!("{}\n{}\n", origin.url("/dir/"), origin.url("/small")));

    origin.add("/small", content("/another", 2000));
    assert_eq!(sha256(&mount.path("small")), sha256_of(&content("/another", 2000)));
    prefetch(&[], &[mount.path("large")]).succeeded();
    mount.unmount();
    assert_eq!(pinned_versions(&mount, "small"), [false, true]);
    assert_eq!(pinned_versions(&mount, "deep/d"), [true]);
    assert_eq!(pinned_versions(&mount, "large"), [false]);

    mount.start();
    let unpin = |name: &str| run(&mut fetchfs_with(&["unpin"], &[mount.path(name)]));
    assert_refuses(&unpin("dir/a"), &["/dir/a: it is pinned through", "unpin that"]);
    assert_refuses(&unpin("large"), &["/large: it is not pinned"]);
    unpin("dir").succeeded();
    unpin("small").succeeded();
    let ran = run(&mut fetchfs_with(&["pin", "--list"], &[mount.root()])).succeeded();
    assert_eq!(ran.out, "");
    mount.unmount();
    assert_eq!(pinned_versions(&mount, "deep/d"), [false]);
}

#[test]
fn evicted_file_is_fetched_again() {
    let origin = site();
    let mount = Mount::start_of(&origin.url("/"));
    let evict = |words: &[&str], names: &[&str]| {
        let paths: Vec<PathBuf> = names.iter().map(|name| mount.path(name)).collect();
        run(fetchfs_with(&["evict"], &[]).args(words).args(&paths))
    };
    prefetch(&["--recursive"], &[mount.root()]).succeeded();
    let read = |name: &str, size| {
        assert_eq!(
            sha256(&mount.path(name)),
            sha256_of(&content(&format!("/{name}"), size))
        )
    };
    read("small", 1000);
    let mark = origin.log().mark();
    let ran = evict(&[], &["small", "large"]).succeeded();
    assert_eq!(ran.out, "2 files: 40.0 MiB evicted\n");
    drop_pages(&mount.path("small"));
    read("small", 1000);
    assert_eq!(data_requests(&origin, mark, &["/small"]), 1);
    read("dir/a", 3 * MIB + 17);
    assert_eq!(data_requests(&origin, mark, &["/dir/a"]), 0, "nobody has evicted that");

    assert_refuses(&evict(&[], &["dir"]), &["/dir: it is a directory", "--recursive"]);
    run(&mut fetchfs_with(&["pin", "--no-fetch"], &[mount.path("dir/a")])).succeeded();
    let ran = evict(&["--recursive"], &["dir"]);
    assert_eq!(ran.out, "2 files: 260.9 KiB evicted\n");
    assert_refuses(&ran, &["one of the files", "pinned", "--force"]);
    let open = std::fs::File::open(mount.path("dir/a")).expect("to open");
    assert_refuses(&evict(&["--force"], &["dir/a"]), &["/dir/a: it is in use"]);
    drop(open);
    evict(&["--force"], &["dir/a"]).succeeded();
    let mark = origin.log().mark();
    read("dir/a", 3 * MIB + 17);
    assert!(data_requests(&origin, mark, &["/dir/a"]) > 0);
}
