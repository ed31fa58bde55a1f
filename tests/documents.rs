//! Documents: one document names all files of a mount, with their folders. Lists of URLs, documents on this machine, and
//! what holds for documents of any format.

mod requests;

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use fetchfs::internals::events;

use crate::common::files::{assert_same, sha256, sha256_of, tree};
use crate::common::ground::Ground;
use crate::common::process::assert_refuses;
use crate::common::{Mount, fetchfs, run, temporary_directory, wait_until};
use crate::origin::{Content, Fault, Origin};

const MIB: u64 = 1 << 20;

/// A server with a list at `/l.txt` and its files, and their content.
fn list_of_three() -> (Origin, Content) {
    let (origin, content) = (Origin::start(), Content::noise(3 * MIB, 5));
    for path in ["/files/a b.bin", "/other/x", "/other/y"] {
        origin.add(path, content.clone());
    }
    let (first, second, third) = (
        origin.url("/files/a b.bin"),
        origin.url("/other/x"),
        origin.url("/other/y"),
    );
    let list = format!(
        "# three files\n{first}\n\n{second}\tfolder/sub/b.bin\t{}\n{third}\tfolder/\n{first}\n",
        3 * MIB
    );
    origin.add("/l.txt", list.as_str());
    (origin, content)
}

/// An origin that answers nothing, and the URL of a file on it.
pub(crate) fn dead_server() -> (Origin, String) {
    let dead = Origin::start();
    let url = dead.url("/image.iso");
    dead.go_down();
    (dead, url)
}

const THREE: [&str; 5] = ["a b.bin", "folder/", "folder/sub/", "folder/sub/b.bin", "folder/y"];

#[test]
fn list_of_urls_is_a_tree() {
    let (origin, content) = list_of_three();
    let mount = Mount::start_of(&origin.url("/l.txt"));
    assert_eq!(tree(&mount.root()), THREE);
    let size = fs::metadata(mount.path("folder/sub/b.bin")).expect("to stat").len();
    assert_eq!(size, 3 * MIB);
    let copy = temporary_directory();
    run(std::process::Command::new("cp")
        .arg("-r")
        .arg(mount.path("folder"))
        .arg(copy.path()))
    .succeeded();
    for name in ["sub/b.bin", "y"] {
        assert_eq!(
            sha256(&copy.path().join("folder").join(name)),
            sha256_of(&content),
            "{name}"
        );
    }
    assert_same(
        &fs::read(mount.path("a b.bin")).expect("to read"),
        &content.whole(),
        "a b.bin",
    );
}

#[test]
fn list_in_json_has_mirrors_and_dates() {
    let (origin, content) = (Origin::start(), Content::noise(MIB, 11));
    let (_dead, dead) = dead_server();
    origin.add("/pub/f", content.clone());
    let list =
        format!("[{{\"url\": [\"{dead}\", \"pub/f\"], \"name\": \"d/f\", \"size\": {MIB}, \"mtime\": 1286000000}}]");
    origin.add("/list.json", list.as_str());
    let mount = Mount::of(&origin.url("/list.json")).with("--retries", "1").start();
    assert_eq!(tree(&mount.root()), ["d/", "d/f"]);
    let modified = fs::metadata(mount.path("d/f"))
        .expect("to stat")
        .modified()
        .expect("a date");
    assert_eq!(modified, std::time::UNIX_EPOCH + Duration::from_secs(1_286_000_000));
    assert_eq!(sha256(&mount.path("d/f")), sha256_of(&content));
}

/// A folder that the document names is listed without its server.
#[test]
fn folder_of_a_known_document_needs_no_server() {
    let (origin, _) = list_of_three();
    let with_query = origin.url("/l.txt") + "?not=stored";
    let mount = Mount::of(&with_query)
        .with("--attr-ttl", "1h")
        .with("--retries", "0")
        .start();
    origin.go_down();
    assert_eq!(tree(&mount.root()), THREE);
    assert_eq!(mount.events(events::ORIGIN_DOWN), 0);
}

#[test]
fn text_is_a_list_only_by_its_lines() {
    let origin = Origin::start();
    origin.add("/readme.txt", "See https://example.org/ for more.\n");
    origin.add("/relative.txt", "dir/f\n");
    origin.add("/dir/f", "hello");
    assert_eq!(
        tree(&Mount::start_of(&origin.url("/readme.txt")).root()),
        ["readme.txt"]
    );
    assert_eq!(
        tree(&Mount::start_of(&origin.url("/relative.txt")).root()),
        ["relative.txt"]
    );
    let named = Mount::of(&origin.url("/relative.txt")).with("--type", "list").start();
    assert_eq!(fs::read_to_string(named.path("f")).expect("to read"), "hello");
    let (list, _) = list_of_three();
    let file = Mount::of(&list.url("/l.txt")).with("--type", "file").start();
    assert_eq!(tree(&file.root()), ["l.txt"]);
}

#[test]
fn files_of_one_name_are_all_shown() {
    let origin = Origin::start();
    for path in ["/1/f.txt", "/2/f.txt", "/3/g"] {
        origin.add(path, path);
    }
    let list = format!(
        "{}\n{}\n{}\tf.txt/g\n",
        origin.url("/1/f.txt"),
        origin.url("/2/f.txt"),
        origin.url("/3/g")
    );
    let without_folder = list.lines().take(2).collect::<Vec<_>>().join("\n");
    origin.add("/l.txt", without_folder.as_str());
    let mount = Mount::of(&origin.url("/l.txt")).with("--attr-ttl", "0").start();
    assert_eq!(tree(&mount.root()), ["f (2).txt", "f.txt"]);
    assert_eq!(
        fs::read_to_string(mount.path("f (2).txt")).expect("to read"),
        "/2/f.txt"
    );
    mount.wait_for_event(events::NAMES_NUMBERED, 1);
    // A folder hides files of its name, which are counted.
    origin.add("/l.txt", list.as_str());
    wait_until("the new list", || tree(&mount.root()) == ["f.txt/", "f.txt/g"]);
    mount.wait_for_event_with(events::NAMES_HIDDEN, "2 ", 1);
}

#[test]
fn changed_document_is_seen_after_the_ttl() {
    let (origin, content) = list_of_three();
    let mount = Mount::of(&origin.url("/l.txt")).with("--attr-ttl", "1s").start();
    assert_eq!(tree(&mount.root()), THREE);
    let ino = inode(&mount.path("folder/y"));
    origin.add("/other/new", content);
    let list = format!(
        "{}\tfolder/y\n{}\tfolder/sub/new\n",
        origin.url("/other/y"),
        origin.url("/other/new")
    );
    origin.add("/l.txt", list.as_str());
    let new = ["folder/", "folder/sub/", "folder/sub/new", "folder/y"];
    wait_until("the new list", || tree(&mount.root()) == new);
    assert_eq!(inode(&mount.path("folder/y")), ino, "the same file");
    // The kernel may believe the name for as long.
    wait_until("the old name is gone", || !mount.path("folder/sub/b.bin").exists());
}

/// However many directories are listed, and a document that did not change is not sent again.
#[test]
fn document_is_requested_once_for_its_tree() {
    let (origin, _) = list_of_three();
    let mut mount = Mount::of(&origin.url("/l.txt")).with("--attr-ttl", "1h").start();
    assert_eq!(tree(&mount.root()), THREE);
    let whole = |requests: &crate::origin::Requests| {
        let gets = requests.gets("/l.txt");
        gets.iter()
            .filter(|get| get.range.is_none())
            .map(|get| get.status)
            .collect::<Vec<_>>()
    };
    assert_eq!(whole(&origin.log().all()), [Some(200)]);
    mount.signal(nix::sys::signal::Signal::SIGHUP);
    mount.wait_for_event(events::REFRESH_REQUESTED, 1);
    let mark = origin.log().mark();
    assert_eq!(tree(&mount.root()), THREE);
    assert_eq!(whole(&origin.log().since(mark)), [Some(304)]);
    mount.unmount();
}

#[test]
fn tree_survives_a_remount_without_the_server() {
    let (origin, content) = list_of_three();
    let mut mount = Mount::of(&origin.url("/l.txt")).with("--retries", "0").start();
    assert_same(
        &fs::read(mount.path("a b.bin")).expect("to read"),
        &content.whole(),
        "up",
    );
    let ino = inode(&mount.path("a b.bin"));
    mount.unmount();
    origin.go_down();
    mount.start();
    // Its folders were never listed before.
    assert_eq!(tree(&mount.root()), THREE);
    assert_eq!(inode(&mount.path("a b.bin")), ino);
    assert_same(
        &fs::read(mount.path("a b.bin")).expect("to read"),
        &content.whole(),
        "down",
    );
    origin.come_back();
    assert_eq!(sha256(&mount.path("folder/y")), sha256_of(&content));
}

#[test]
fn folder_of_a_document_is_pinned_and_evicted() {
    let (origin, _) = list_of_three();
    let mount = Mount::start_of(&origin.url("/l.txt"));
    let (folder, file) = (mount.path("folder"), mount.path("folder/sub/b.bin"));
    run(fetchfs().arg("prefetch").arg("-r").arg(&folder)).succeeded();
    run(fetchfs().arg("pin").arg(&folder)).succeeded();
    let kept = run(fetchfs().args(["evict", "-r"]).arg(&folder));
    assert!(kept.err.contains("pinned"), "{kept:?}");
    run(fetchfs().arg("unpin").arg(&folder)).succeeded();
    run(fetchfs().args(["evict", "-r"]).arg(&folder)).succeeded();
    let mark = origin.log().mark();
    fs::read(&file).expect("to read");
    assert!(
        origin.log().since(mark).body_bytes("/other/x") >= 3 * MIB,
        "it was evicted"
    );
}

#[test]
fn document_error_is_one_sentence() {
    let origin = Origin::start();
    let ground = Ground::new();
    for (path, text, kind, words) in [
        (
            "/l.txt",
            "http://h/a\nhttp://h:99999/\n",
            "list",
            vec!["line 2", "`http://h:99999/` is not a URL"],
        ),
        (
            "/l.txt",
            "http://h/a\tx\tbig\n",
            "list",
            vec!["line 1", "`big` is not a size in bytes"],
        ),
        (
            "/l.json",
            "[{\"url\": \"http://h/a\",\n\"naem\": \"x\"}]",
            "list",
            vec!["line 2", "`naem`"],
        ),
        ("/l.txt", "# nothing\n", "list", vec!["no URL in it"]),
        (
            "/x.meta4",
            "<metalink>\n<file name='a'>\n",
            "metalink",
            vec!["is it whole?"],
        ),
        ("/x.meta4", "<html></html>", "metalink", vec!["no Metalink", "<html>"]),
        (
            "/p.m3u",
            "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nlow.m3u8\n",
            "m3u",
            vec!["HLS master playlist"],
        ),
    ] {
        origin.add(path, text);
        assert_refuses(&run(&mut ground.command(&origin.url(path), &["--type", kind])), &words);
    }
    let home = temporary_directory();
    let missing = home.path().join("none.txt");
    let missing = missing.to_str().expect("a path");
    assert_refuses(&run(&mut ground.command(missing, &[])), &[missing, "No such file"]);
    let local = home.path().join("l.txt");
    fs::write(&local, "http://h/a\nrelative\n").expect("to write");
    let refused = run(&mut ground.command(local.to_str().expect("a path"), &[]));
    assert_refuses(&refused, &["l.txt", "line 2", "`relative` is not a whole URL"]);
    let two = format!("{}\n{}\n", origin.url("/a"), origin.url("/b"));
    origin.add("/l.txt", two.as_str());
    let few = run(&mut ground.command(&origin.url("/l.txt"), &["--max-entries", "1"]));
    assert_refuses(&few, &["more than 1 names", "--max-entries"]);
    ground.assert_nothing_is_left();
}

/// A file on this machine, and its changes.
#[test]
fn local_document_is_a_tree() {
    let (origin, content) = list_of_three();
    let home = temporary_directory();
    let path = home.path().join("urls");
    let first = format!("{}\tdir/x\n", origin.url("/other/x"));
    fs::write(&path, &first).expect("to write");
    let mut mount = Mount::of(path.to_str().expect("a path"))
        .with("--attr-ttl", "0")
        .start();
    assert_eq!(tree(&mount.root()), ["dir/", "dir/x"]);
    assert_eq!(sha256(&mount.path("dir/x")), sha256_of(&content));
    let ino = inode(&mount.path("dir/x"));
    fs::write(&path, first.clone() + &origin.url("/other/y")).expect("to write");
    wait_until("the new list", || tree(&mount.root()) == ["dir/", "dir/x", "y"]);
    // A file with a mistake, or none, takes nothing away.
    fs::write(&path, "http://h:99999/\n").expect("to write");
    assert_eq!(tree(&mount.root()), ["dir/", "dir/x", "y"]);
    fs::remove_file(&path).expect("to remove");
    assert_eq!(tree(&mount.root()), ["dir/", "dir/x", "y"]);
    mount.unmount();
    fs::write(&path, &first).expect("to write");
    mount.start();
    assert_eq!(
        (tree(&mount.root()), inode(&mount.path("dir/x"))),
        (vec!["dir/".into(), "dir/x".into()], ino)
    );
}

#[test]
fn local_document_is_of_any_kind() {
    let (origin, content) = (Origin::start(), Content::noise(MIB, 12));
    origin.add("/f.bin", content.clone());
    let url = origin.url("/f.bin");
    let home = temporary_directory();
    for (name, text, file) in [
        ("a.m3u", format!("#EXTINF:1,Title\n{url}\n"), "Title.bin"),
        ("playlist", format!("#EXTM3U\n#EXTINF:1,Title\n{url}\n"), "Title.bin"),
        (
            "a.xml",
            format!("<metalink><file name='m'><url>{url}</url></file></metalink>"),
            "m",
        ),
        ("a.json", format!("[{{\"url\": \"{url}\", \"name\": \"j\"}}]"), "j"),
    ] {
        let path = home.path().join(name);
        fs::write(&path, text).expect("to write");
        for source in [
            path.to_str().expect("a path").to_owned(),
            format!("file://{}", path.display()),
        ] {
            let mount = Mount::start_of(&source);
            assert_eq!(tree(&mount.root()), [file], "{source}");
            assert_eq!(sha256(&mount.path(file)), sha256_of(&content), "{source}");
        }
    }
}

/// In the background too, and beside another source.
#[test]
fn standard_input_is_a_source() {
    let (origin, content) = list_of_three();
    let list = format!("{}\tdir/x\n", origin.url("/other/x"));
    let ground = Ground::new();
    let mount = |list: &str, ground: &Ground| {
        let mut command = ground.command("-", &[]);
        let mut child = command
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("to start");
        child
            .stdin
            .take()
            .expect("piped")
            .write_all(list.as_bytes())
            .expect("to write");
        child.wait_with_output().expect("to wait")
    };
    assert!(mount(&list, &ground).status.success());
    assert_eq!(tree(&ground.mountpoint()), ["dir/", "dir/x"]);
    assert_eq!(sha256(&ground.mountpoint().join("dir/x")), sha256_of(&content));
    ground.unmount(&[]).succeeded();
    // Nothing of the last list is left.
    let other = origin.url("/other/y");
    assert!(mount(&other, &ground).status.success());
    assert_eq!(tree(&ground.mountpoint()), ["y"]);
    ground.unmount(&[]).succeeded();
    let failed = mount("no URL\n", &ground);
    let said = String::from_utf8_lossy(&failed.stderr).into_owned();
    assert!(said.contains("standard input") && said.contains("line 1"), "{said}");
    ground.assert_nothing_is_left();
}

/// The user's own list may say as whom to log in.
#[test]
fn logins_in_a_local_document_are_used() {
    let origin = Origin::start();
    origin.add("/f", "hello");
    origin
        .on("/f")
        .fault(Fault::Demand("authorization", "Basic YW5uOnNlY3JldA==".to_owned()));
    origin
        .on("/f")
        .fault(Fault::Header("WWW-Authenticate", "Basic realm=x"));
    let home = temporary_directory();
    let path = home.path().join("l.txt");
    fs::write(&path, origin.url("/f").replace("http://", "http://ann:secret@")).expect("to write");
    let mount = Mount::start_of(path.to_str().expect("a path"));
    assert_eq!(fs::read_to_string(mount.path("f")).expect("to read"), "hello");
    mount.log().assert_hides("secret");
}

/// A list that a server sends may not choose as whom the user logs in elsewhere.
#[test]
fn logins_in_a_servers_document_are_dropped() {
    let origin = Origin::start();
    origin.add("/f", "hello");
    let with_login = origin.url("/f").replace("http://", "http://ann:secret@");
    origin.add("/l.txt", with_login.as_str());
    let mount = Mount::start_of(&origin.url("/l.txt"));
    assert_eq!(fs::read_to_string(mount.path("f")).expect("to read"), "hello");
    assert_eq!(mount.events(events::LOGINS_DROPPED), 1);
    mount.log().assert_hides("secret");
    assert!(
        origin
            .log()
            .all()
            .0
            .iter()
            .all(|request| request.header("authorization").is_none())
    );
}

fn inode(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    fs::metadata(path).expect("to stat").ino()
}

/// What a mount with `--type` has stored of a URL does not decide what the URL is without it.
#[test]
fn type_counts_for_its_own_mount_only() {
    let origin = Origin::start();
    origin.add("/a.mp3", "music");
    let playlist = format!("#EXTM3U\n#EXTINF:1,One\n{}\n", origin.url("/a.mp3"));
    origin.add("/list.m3u", playlist.as_str());
    let url = origin.url("/list.m3u");
    let mut as_file = Mount::of(&url).with("--type", "file").start();
    let read = |mount: &Mount| fs::read_to_string(mount.path("list.m3u")).expect("its text");
    assert_eq!(read(&as_file), playlist);
    as_file.unmount();
    let cache = as_file.cache();
    let cache = cache.to_str().expect("a path of the harness");
    let mut mount = Mount::of(&url).with("--cache-dir", cache).start();
    assert_eq!(fs::read_to_string(mount.path("One.mp3")).expect("its bytes"), "music");
    mount.unmount();
    // Both are known without the server.
    origin.go_down();
    mount.start();
    assert_eq!(fs::read_to_string(mount.path("One.mp3")).expect("its bytes"), "music");
    mount.unmount();
    as_file.start();
    assert_eq!(read(&as_file), playlist);
}
