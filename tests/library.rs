//! What a Rust program gets: files by `std`'s traits, mounts that end with their guard, and the examples.

use std::collections::HashSet;
use std::fs;
use std::io::{self, Cursor, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use fetchfs::{Cache, CacheBuilder, Error, ErrorKind, Mount, RemoteFile};
use tempfile::TempDir;

use crate::common::files::{assert_same, write_file};
use crate::common::mount::{fetchfs, is_mounted};
use crate::common::proxies::Proxy;
use crate::common::servers::{Certificates, PASSWORD, USER, WebServer};
use crate::common::{run, temporary_directory, wait_until};
use crate::origin::{Content, Fault, Gate, Origin};

const MIB: u64 = 1 << 20;

/// A cache in a folder of its own, beside room for a mountpoint.
struct Place {
    home: TempDir,
    cache: Cache,
}

impl Place {
    fn new() -> Place {
        let home = temporary_directory();
        fs::create_dir(home.path().join("mnt")).expect("a mountpoint");
        let cache = open(&home.path().join("cache"));
        Place { home, cache }
    }

    fn mountpoint(&self) -> PathBuf {
        self.home.path().join("mnt")
    }

    fn mount(&self, origin: &Origin) -> Mount {
        let builder = Mount::builder().source(origin.url("/")).mountpoint(self.mountpoint());
        builder.cache(&self.cache).spawn().expect("to mount")
    }
}

fn open(folder: &Path) -> Cache {
    Cache::builder().dir(folder).open().expect("a cache")
}

fn origin_with(path: &str, size: u64) -> (Origin, Content) {
    let (origin, content) = (Origin::start(), Content::noise(size, size));
    origin.add(path, content.clone());
    (origin, content)
}

#[track_caller]
fn kind_of(error: &io::Error) -> ErrorKind {
    Error::of_io(error).expect("an error of the library").kind()
}

fn read_at(file: &RemoteFile, at: u64, len: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; len];
    let read = file.read_at(&mut bytes, at)?;
    bytes.truncate(read);
    Ok(bytes)
}

#[test]
fn remote_file_implements_read_and_seek() {
    let (origin, content) = origin_with("/f", 3 * MIB + 5);
    let place = Place::new();
    let mut file = place.cache.open_url(&origin.url("/f")).expect("to open");
    let mut local = tempfile::tempfile().expect("a file");
    local.write_all(&content.whole()).expect("to write");
    local.rewind().expect("to seek");
    assert_eq!(file.len(), content.size());
    let seeks = [
        SeekFrom::Start(MIB - 3),
        SeekFrom::End(-7),
        SeekFrom::Current(-100),
        SeekFrom::Current(i64::MIN),
        SeekFrom::End(-i64::from(i32::MAX)),
        SeekFrom::End(10),
        SeekFrom::Start(0),
    ];
    for seek in seeks {
        let [ours, theirs] = [file.seek(seek), local.seek(seek)].map(|sought| sought.map_err(|error| error.kind()));
        assert_eq!(ours, theirs, "{seek:?}");
        let mut buffers = [[0; 5000]; 2];
        let read = [&mut file as &mut dyn Read, &mut local];
        let read = read
            .into_iter()
            .zip(&mut buffers)
            .map(|(file, buffer)| file.read(buffer).expect("to read"));
        let read: Vec<usize> = read.collect();
        assert_eq!((read[0], buffers[0]), (read[1], buffers[1]), "{seek:?}");
    }
    let mut all = Vec::new();
    file.rewind().expect("to seek");
    file.read_to_end(&mut all).expect("to read");
    assert_same(&all, &content.whole(), "all of it");
    assert_eq!(file.read(&mut [0; 10]).expect("to read"), 0);
    assert_eq!(read_at(&file, u64::MAX, 10).expect("past the end"), b"");
    assert!(file.is_cached(0..u64::MAX));
}

#[test]
fn remote_file_debug_has_no_secrets() {
    let (origin, _) = origin_with("/f", 1000);
    let place = Place::new();
    let url = format!("{}?key=secret", origin.url("/f")).replace("http://", "http://ann:secret@");
    let file = place.cache.open_url(&url).expect("to open");
    assert_eq!(file.url(), format!("{}?key=...", origin.url("/f")));
    assert!(!format!("{file:?} {:?}", place.cache).contains("secret"));
    assert!(file.version().is_strong() && file.version().validator().is_some());
    assert_eq!((file.version().size(), file.is_empty()), (1000, false));
    assert!(file.modified().is_some());
}

#[test]
fn file_and_mount_of_one_cache_fetch_bytes_once() {
    let (origin, content) = origin_with("/f", 8 * MIB);
    let place = Place::new();
    let file = place.cache.open_url(&origin.url("/f")).expect("to open");
    let mount = place.mount(&origin);
    let path = mount.mountpoint().join("f");
    assert_same(&fs::read(&path).expect("to read"), &content.whole(), "the mount");
    let read = origin.log().all().body_bytes("/f");
    assert!(read < 8 * MIB + MIB / 2, "{read}");
    let mark = origin.log().mark();
    assert_same(
        &read_at(&file, 0, 8 << 20).expect("to read"),
        &content.whole(),
        "the file",
    );
    assert_eq!(origin.log().since(mark).body_bytes("/f"), 0);
}

#[test]
fn mount_ends_with_its_guard_and_cache_remains() {
    let (origin, content) = origin_with("/f", 2 * MIB);
    let place = Place::new();
    for _ in 0..2 {
        let mount = place.mount(&origin);
        assert!(is_mounted(&place.mountpoint()));
        assert_eq!(
            fs::read(mount.mountpoint().join("f")).expect("to read"),
            content.whole()
        );
        drop(mount);
        assert!(!is_mounted(&place.mountpoint()));
    }
    let file = place.cache.open_url(&origin.url("/f")).expect("to open");
    assert_eq!(
        read_at(&file, MIB, 1000).expect("to read"),
        content.read(MIB..MIB + 1000)
    );
}

/// The command waited ten seconds for the end of the program's process, and then said that it had failed.
#[test]
fn unmount_command_ends_the_mount_of_a_living_program() {
    let (origin, content) = origin_with("/f", 2 * MIB);
    let place = Place::new();
    let mount = place.mount(&origin);
    let (mountpoint, file) = (place.mountpoint(), place.mountpoint().join("f"));
    assert_eq!(fs::read(&file).expect("to read"), content.whole());
    run(fetchfs().arg("unmount").arg(&mountpoint)).succeeded();
    assert!(!is_mounted(&mountpoint));
    mount.wait();
    // What remains of the ended mount leaves the next one alone, which is likely to have its device number.
    let next = place.mount(&origin);
    drop(mount);
    assert_eq!(fs::read(&file).expect("to read"), content.whole());
    run(fetchfs().arg("status").arg(&mountpoint)).succeeded();
    drop(next);
    assert!(!is_mounted(&mountpoint));
}

#[test]
fn lazily_unmounted_program_mount_serves_open_files() {
    let (origin, content) = origin_with("/f", 2 * MIB);
    let place = Place::new();
    let mount = place.mount(&origin);
    let mut file = fs::File::open(mount.mountpoint().join("f")).expect("to open");
    let busy = run(fetchfs().arg("unmount").arg(mount.mountpoint()));
    assert!(busy.code != 0 && busy.err.contains("busy"), "{busy:?}");
    run(fetchfs().args(["unmount", "--lazy"]).arg(mount.mountpoint())).succeeded();
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).expect("to read");
    assert_same(&bytes, &content.whole(), "the open file");
    drop(file);
    mount.wait();
}

#[test]
fn dropped_mount_ends_its_blocked_reads() {
    let (origin, content) = origin_with("/f", 2 * MIB);
    let gate = Gate::new();
    origin.on("/f").data().fault(Fault::Hold(gate.clone()));
    let place = Place::new();
    let mount = place.mount(&origin);
    let path = mount.mountpoint().join("f");
    std::thread::scope(|scope| {
        let blocked = scope.spawn(|| fs::read(&path));
        gate.wait_for_arrivals(1);
        drop(mount);
        blocked.join().expect("no panic").expect_err("it has no bytes");
    });
    assert!(!is_mounted(&place.mountpoint()));
    gate.open();
    let file = place.cache.open_url(&origin.url("/f")).expect("to open");
    assert_same(
        &read_at(&file, 0, 2 << 20).expect("to read"),
        &content.whole(),
        "the cache goes on",
    );
}

#[test]
fn mount_errors_distinguish_mountpoint_and_source() {
    let (origin, _) = origin_with("/d/f", 10);
    let place = Place::new();
    let builder = || Mount::builder().mountpoint(place.mountpoint()).cache(&place.cache);
    let error = builder().source(origin.url("/none/")).spawn().expect_err("a source");
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    fs::write(place.mountpoint().join("x"), "").expect("to write");
    let error = builder().source(origin.url("/d/")).spawn().expect_err("a mountpoint");
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
}

#[test]
fn open_errors_have_a_kind() {
    let (origin, _) = origin_with("/d/f", 10);
    origin.add("/denied", "x");
    origin.on("/denied").fault(Fault::Status(403));
    let place = Place::new();
    let kind = |url: &str| place.cache.open_url(url).expect_err(url).kind();
    assert_eq!(kind(&origin.url("/none")), ErrorKind::NotFound);
    assert_eq!(kind(&origin.url("/denied")), ErrorKind::Denied);
    assert_eq!(kind(&origin.url("/d")), ErrorKind::IsADirectory);
    let offline = Cache::builder().dir(place.home.path().join("other")).offline(true);
    let offline = offline.open().expect("a cache");
    let error = offline.open_url(&origin.url("/d/f")).expect_err("nothing is there");
    assert_eq!(error.kind(), ErrorKind::Offline);
}

#[test]
fn credentials_go_to_the_first_server_only() {
    let (origin, content) = origin_with("/f", 1000);
    let (other, _) = origin_with("/f", 1000);
    let home = temporary_directory();
    let open = |name: &str| Cache::builder().dir(home.path().join(name));
    let cache = open("a").bearer_token("t").header("X-Key", "k").user_agent("u").open();
    let cache = cache.expect("a cache");
    let file = cache.open_url(&origin.url("/f")).expect("to open");
    assert_eq!(read_at(&file, 0, 1000).expect("to read"), content.whole());
    let asked = origin.log().all().0;
    assert!(!asked.is_empty());
    for request in &asked {
        let headers = ["authorization", "x-key", "user-agent"].map(|name| request.header(name));
        assert_eq!(headers, [Some("Bearer t"), Some("k"), Some("u")], "{request:?}");
    }
    let error = cache.open_url(&other.url("/f")).expect_err("another server");
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    let mountpoint = home.path().join("mnt");
    fs::create_dir(&mountpoint).expect("a mountpoint");
    let mount = Mount::builder().source(other.url("/")).mountpoint(&mountpoint);
    let error = mount.cache(&cache).spawn().expect_err("another server");
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    assert_eq!(other.log().all().0.len(), 0);
    // A file of logins by host is for any server.
    let netrc = home.path().join("netrc");
    fs::write(&netrc, "machine 127.0.0.1 login ann password pw").expect("to write");
    let cache = open("b").netrc_file(netrc).open().expect("a cache");
    for server in [&origin, &other] {
        cache.open_url(&server.url("/f")).expect("to open");
    }
}

#[test]
fn login_opens_a_guarded_file() {
    let (root, content) = (temporary_directory(), Content::noise(MIB, 5));
    write_file(&root.path().join("f"), &content);
    let server = WebServer::nginx_guarded(root.path());
    let home = temporary_directory();
    let builder = || Cache::builder().dir(home.path().join("cache"));
    let kind = |cache: Cache| cache.open_url(&server.url("/f")).map_err(|error| error.kind());
    let open = |builder: CacheBuilder| kind(builder.open().expect("a cache")).map(|file| file.len());
    assert_eq!(open(builder()), Err(ErrorKind::Denied));
    assert_eq!(open(builder().login(USER, "wrong")), Err(ErrorKind::Denied));
    assert_eq!(open(builder().login(USER, PASSWORD)), Ok(content.size()));
}

#[test]
fn tls_settings_and_proxy_lead_to_guarded_servers() {
    let (root, content) = (temporary_directory(), Content::noise(MIB, 6));
    write_file(&root.path().join("f"), &content);
    let (certificates, home) = (Certificates::new(), temporary_directory());
    let server = WebServer::nginx_for_certified_clients(root.path(), &certificates);
    let builder = || Cache::builder().dir(home.path().join("cache")).retries(0);
    let open = |builder: CacheBuilder| builder.open().expect("a cache").open_url(&server.url("/f"));
    let trusting = || builder().ca_cert(certificates.path("ca.pem"));
    let certified = |builder: CacheBuilder| {
        let builder = builder.client_cert(certificates.path("client.pem"));
        builder.client_key(certificates.path("client.key"))
    };
    open(builder()).expect_err("it is not trusted");
    open(trusting()).expect_err("it wants to know who asks");
    open(certified(builder().insecure(true))).expect("to open");
    let proxy = Proxy::start();
    let by_proxy = certified(trusting()).proxy(format!("http://{}", proxy.address()));
    let file = open(by_proxy).expect("to open");
    assert_same(
        &read_at(&file, 0, 1 << 20).expect("to read"),
        &content.whole(),
        "all of it",
    );
    assert!(proxy.seen().iter().all(|one| one.starts_with("connect 127.0.0.1:")) && !proxy.seen().is_empty());
}

#[test]
fn named_kind_decides_what_is_mounted() {
    let (origin, _) = origin_with("/d/f", 10);
    let place = Place::new();
    let builder = || {
        Mount::builder()
            .source(origin.url("/d/"))
            .mountpoint(place.mountpoint())
    };
    let names = |mount: &Mount| -> Vec<_> {
        let entries = fs::read_dir(mount.mountpoint()).expect("to list");
        entries.map(|entry| entry.expect("an entry").file_name()).collect()
    };
    let mount = builder().cache(&place.cache).kind("index").spawn().expect("to mount");
    assert_eq!(names(&mount), ["f"]);
    drop(mount);
    let error = builder()
        .cache(&place.cache)
        .kind("gopher")
        .spawn()
        .expect_err("no kind");
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
}

#[test]
fn changed_file_fails_and_reopens_as_the_new_version() {
    let (origin, old) = origin_with("/f", 8 * MIB);
    let place = Place::new();
    let file = place.cache.open_url(&origin.url("/f")).expect("to open");
    assert_eq!(read_at(&file, 0, 1000).expect("to read"), old.read(0..1000));
    let new = Content::noise(8 * MIB, 99);
    origin.add("/f", new.clone());
    let error = read_at(&file, 6 * MIB, 1000).expect_err("another version");
    assert_eq!(
        (kind_of(&error), error.kind()),
        (ErrorKind::Changed, io::ErrorKind::StaleNetworkFileHandle)
    );
    let again = place.cache.open_url(&origin.url("/f")).expect("to open");
    assert_ne!(again.version(), file.version());
    assert_eq!(
        read_at(&again, 6 * MIB, 1000).expect("to read"),
        new.read(6 * MIB..6 * MIB + 1000)
    );
}

#[test]
fn cached_file_is_served_without_the_server() {
    let (origin, content) = origin_with("/f", 8 * MIB);
    let place = Place::new();
    let url = origin.url("/f");
    let folder = place.cache.dir().to_owned();
    let file = place.cache.open_url(&url).expect("to open");
    // All of some chunks: of one in part the bytes that are here are gone with the process.
    assert_same(
        &read_at(&file, 0, MIB as usize).expect("to read"),
        &content.read(0..MIB),
        "the beginning",
    );
    origin.go_down();
    assert_eq!(read_at(&file, 0, 1000).expect("to read"), content.read(0..1000));
    drop((file, place.cache));
    let later = Cache::builder().dir(folder).read_timeout(Duration::from_secs(3));
    let later = later.open().expect("a cache");
    let file = later.open_url(&url).expect("to open what is known");
    assert_eq!(read_at(&file, 0, 1000).expect("to read"), content.read(0..1000));
    let error = read_at(&file, 7 * MIB, 1000).expect_err("it is not here");
    assert_eq!(kind_of(&error), ErrorKind::TimedOut, "{error}");
}

#[test]
fn files_outlive_their_cache_and_are_shared_by_threads() {
    let (origin, content) = origin_with("/f", 8 * MIB);
    let place = Place::new();
    let file = place.cache.open_url(&origin.url("/f")).expect("to open");
    drop(place.cache);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (file, content) = (&file, &content);
            scope.spawn(move || {
                let mut own = file.clone();
                own.seek(SeekFrom::Start(thread * MIB)).expect("to seek");
                let mut bytes = vec![0; 2 << 20];
                own.read_exact(&mut bytes).expect("to read");
                assert_same(&bytes, &content.read(thread * MIB..(thread + 2) * MIB), "its part");
                assert_same(
                    &read_at(file, 7 * MIB, 1000).expect("to read"),
                    &content.read(7 * MIB..7 * MIB + 1000),
                    "the shared one",
                );
            });
        }
    });
}

#[test]
fn one_process_can_open_a_cache_dir_twice() {
    let (origin, content) = origin_with("/f", 2 * MIB);
    let place = Place::new();
    let other = open(place.cache.dir());
    for cache in [&place.cache, &other] {
        let file = cache.open_url(&origin.url("/f")).expect("to open");
        assert_same(
            &read_at(&file, 0, 2 << 20).expect("to read"),
            &content.whole(),
            "all of it",
        );
    }
}

#[test]
fn closed_cache_leaves_no_thread() {
    let (origin, _) = origin_with("/f", MIB);
    let home = temporary_directory();
    let mut of_caches = HashSet::new();
    for round in 0..3 {
        let before = threads();
        let cache = open(&home.path().join("cache"));
        let file = cache.open_url(&origin.url("/f")).expect("to open");
        read_at(&file, round * 1000, 10).expect("to read");
        of_caches.extend(threads().difference(&before).copied());
        drop((cache, file));
    }
    // Those of other tests end as well.
    wait_until("the threads of the caches end", || of_caches.is_disjoint(&threads()));
}

/// The threads of this process that have a name of fetchfs's.
fn threads() -> HashSet<u32> {
    let tasks = fs::read_dir("/proc/self/task").expect("procfs").flatten();
    let ours = tasks.filter(|task| {
        let name = fs::read_to_string(task.path().join("comm")).unwrap_or_default();
        ["download", "file-writer", "index-writer", "evictor"]
            .iter()
            .any(|ours| name.starts_with(ours))
    });
    ours.filter_map(|task| task.file_name().to_str()?.parse().ok())
        .collect()
}

#[tokio::test]
async fn the_library_can_be_used_inside_another_runtime() {
    let (origin, content) = origin_with("/f", 2 * MIB);
    let place = Place::new();
    let mut file = place.cache.open_url(&origin.url("/f")).expect("to open");
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).expect("to read");
    assert_same(&bytes, &content.whole(), "all of it");
    let mount = place.mount(&origin);
    let path = mount.mountpoint().join("f");
    let through_mount = tokio::task::spawn_blocking(move || fs::read(path));
    let through_mount = through_mount.await.expect("no panic").expect("to read");
    assert_same(&through_mount, &content.whole(), "through the mount");
    // All of it ends here, on a thread of the runtime.
    drop((file, mount, place));
}

/// An example, built with the tests.
fn example(name: &str) -> Command {
    let tests = std::env::current_exe().expect("this program");
    let built = tests.parent().and_then(Path::parent).expect("target/debug");
    let path = built.join("examples").join(name);
    assert!(path.exists(), "`cargo build --examples` builds {}", path.display());
    Command::new(path)
}

#[test]
fn zip_example_fetches_little() {
    let origin = Origin::start();
    let mut archive = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let stored = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    for number in 0..4 {
        archive
            .start_file(format!("part {number}"), stored)
            .expect("a file in it");
        archive
            .write_all(&Content::noise(8 * MIB, number).whole())
            .expect("its bytes");
    }
    let bytes = archive.finish().expect("an archive").into_inner();
    origin.add("/a.zip", bytes);
    let home = temporary_directory();
    let ran = run(example("zip_directory").arg(origin.url("/a.zip")).arg(home.path())).succeeded();
    let lines: Vec<&str> = ran.out.lines().collect();
    let expected: Vec<String> = (0..4).map(|number| format!("{}\tpart {number}", 8 * MIB)).collect();
    assert_eq!(lines, expected);
    let fetched = origin.log().all().body_bytes("/a.zip");
    assert!(fetched < 4 * MIB, "{fetched}");
}

#[test]
fn range_example_writes_exactly_the_range() {
    let (origin, content) = origin_with("/f", 3 * MIB);
    let home = temporary_directory();
    let (start, end) = (MIB + 1, 2 * MIB + 77);
    let mut example = example("serve_range");
    let example = example.arg(origin.url("/f")).args([start.to_string(), end.to_string()]);
    let output = example.arg(home.path()).output().expect("to run");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_same(&output.stdout, &content.read(start..end), "the range");
}

#[test]
fn mount_example_unmounts_at_end_of_input() {
    let (origin, content) = origin_with("/f", MIB);
    let home = temporary_directory();
    let mountpoint = home.path().join("mnt");
    fs::create_dir(&mountpoint).expect("a mountpoint");
    let mut example = example("mount");
    let example = example
        .arg(origin.url("/"))
        .arg(&mountpoint)
        .arg(home.path().join("cache"));
    let mut running = example.stdin(Stdio::piped()).spawn().expect("to run");
    wait_until("it is mounted", || is_mounted(&mountpoint));
    assert_same(
        &fs::read(mountpoint.join("f")).expect("to read"),
        &content.whole(),
        "the mount",
    );
    drop(running.stdin.take());
    assert!(running.wait().expect("it ends").success());
    assert!(!is_mounted(&mountpoint));
}
