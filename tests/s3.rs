//! Buckets: `rclone serve s3`, and a server that verifies signatures.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, SystemTime};

use crate::common::files::{drop_pages, write_file};
use crate::common::servers::WebServer;
use crate::common::{Mount, fetchfs, run, temporary_directory, wait_until};
use crate::origin::Content;

const ACCESS: &str = "AKIDEXAMPLE";
const SECRET: &str = "s3cret/Key+";
const REGION: &str = "eu-test-1";

/// A server that demands signatures, and a mount of this source there.
#[track_caller]
fn signed(source: &str) -> (WebServer, Mount) {
    let server = WebServer::case("s3.py", &[ACCESS, SECRET, REGION, "PORT"]);
    let mount = Mount::of(source)
        .with("--endpoint-url", &server.url("/"))
        .with("--region", REGION)
        .with("--attr-ttl", "0")
        .with("--retries", "0")
        .with_env("AWS_ACCESS_KEY_ID", ACCESS)
        .with_env("AWS_SECRET_ACCESS_KEY", SECRET)
        .start();
    (server, mount)
}

#[track_caller]
fn names(directory: &Path) -> BTreeSet<String> {
    let listed = fs::read_dir(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let name = |entry: std::io::Result<fs::DirEntry>| entry.expect("an entry").file_name().into_string().expect("text");
    listed.map(name).collect()
}

/// Asserts that the mount shows the bucket of `s3.py`.
#[track_caller]
fn assert_shows(mount: &Mount) {
    let root = mount.root();
    let top = ["big.bin", "both", "deep", "many", "marked", "names", "odd"];
    assert_eq!(names(&root), top.map(str::to_owned).into());
    assert_eq!(names(&mount.path("marked")).len(), 0);
    assert_eq!(names(&mount.path("many")).len(), 100);
    assert_eq!(names(&mount.path("odd")), ["fine".to_owned()].into());
    let listed = names(&mount.path("names"));
    assert_eq!(listed.len(), 8, "{listed:?}");
    for name in listed {
        let read = fs::read(mount.path("names").join(&name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(String::from_utf8(read).expect("text"), name.repeat(3));
    }
    for (path, text) in [
        ("deep/a/b/leaf", "leaf\n"),
        ("both/below", "below\n"),
        ("many/0042", "42\n"),
    ] {
        assert_eq!(fs::read_to_string(mount.path(path)).expect("to read"), text);
    }
    let big = fs::metadata(mount.path("big.bin")).expect("to stat");
    let date = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    assert_eq!((big.len(), big.modified().expect("a date")), (640_000, date));
    assert_eq!(fs::read(mount.path("big.bin")).expect("to read").len(), 640_000);
}

/// What a mount that fails says, with these variables.
#[track_caller]
fn refused(server: &WebServer, source: &str, variables: &[(&str, &str)], options: &[&str]) -> String {
    let home = temporary_directory();
    let mut command = fetchfs();
    command
        .args(["mount", source])
        .arg(home.path())
        .args(["--endpoint-url", &server.url("/"), "--cache-dir"])
        .arg(home.path().join("cache"))
        .args(options)
        .env("HOME", home.path())
        .envs(variables.iter().copied());
    let Output { status, stderr, .. } = command.output().expect("fetchfs runs");
    assert!(!status.success(), "{source} is mounted");
    String::from_utf8(stderr).expect("text")
}

/// Files with these names in a directory, each with its own size, bytes and date.
fn write_names(directory: &Path, names: &[&str]) {
    for (number, name) in names.iter().enumerate() {
        let path = directory.join(name);
        write_file(&path, &Content::noise(1000 + number as u64, number as u64));
        let date = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000 + 61 * number as u64);
        let file = fs::File::options().write(true).open(&path).expect("to open");
        file.set_modified(date).expect("a date");
    }
}

/// Asserts that a mount shows these files, and no others at the top; a copy of it differs in nothing.
#[track_caller]
fn assert_same_tree(mount: &Mount, directory: &Path, names: &[&str]) {
    for name in names {
        let facts = |path: &Path| {
            let found = fs::metadata(path).unwrap_or_else(|error| panic!("{name}: {error}"));
            (found.len(), std::os::unix::fs::MetadataExt::mtime(&found))
        };
        assert_eq!(facts(&mount.path(name)), facts(&directory.join(name)), "{name}");
    }
    let copy = temporary_directory();
    run(Command::new("cp").arg("-r").arg(mount.root()).arg(copy.path())).succeeded();
    run(Command::new("diff")
        .arg("-r")
        .arg(directory)
        .arg(copy.path().join("mnt")))
    .succeeded();
}

/// Names of a file system that servers have trouble with.
const NAMES: [&str; 23] = [
    "a+b",
    "%41",
    "100%",
    "a b",
    " lead",
    "trail ",
    "a#b?c=d",
    "what?",
    "a=b&c=d",
    "&;",
    "&amp;",
    "it's",
    "\"quoted\"",
    "semi;colon",
    "co:lon",
    "-dash",
    ".hidden",
    "trail.",
    "gr\u{fc}\u{df}e \u{65e5}",
    "e\u{301}",
    "\u{e9}",
    "\u{1f3ac}.mkv",
    "dir%20x/a+b/leaf",
];

/// [`NAMES`], and one as long as file systems allow.
fn names_of_255() -> Vec<&'static str> {
    let longest: &str = "n".repeat(255).leak();
    NAMES.into_iter().chain([longest]).collect()
}

#[test]
fn rclone_serve_s3() {
    let root = temporary_directory();
    let bucket = root.path().join("bucket");
    let names = &names_of_255();
    write_names(&bucket, names);
    let server = WebServer::rclone_s3(root.path());
    let mount = Mount::of("s3://bucket")
        .with("--endpoint-url", &server.url("/"))
        .with("--no-sign-request", "")
        .start();
    assert_same_tree(&mount, &bucket, names);
}

#[test]
fn moto_shows_the_bucket() {
    let root = temporary_directory();
    let names = &names_of_255();
    write_names(root.path(), names);
    let server = WebServer::moto_s3(root.path());
    let mount = Mount::of("s3://bucket")
        .with("--endpoint-url", &server.url("/"))
        .with_env("AWS_ACCESS_KEY_ID", ACCESS)
        .with_env("AWS_SECRET_ACCESS_KEY", SECRET)
        .start();
    assert_same_tree(&mount, root.path(), names);
}

#[test]
fn signed_requests_show_the_bucket() {
    let (_server, mount) = signed("s3://bucket/");
    assert_shows(&mount);
    let log = mount.log();
    for secret in [SECRET, "X-Amz-Signature=", ACCESS] {
        log.assert_hides(secret);
    }
}

/// `ls -l` and `find` cost the pages of listings, and `cp` one request for each file with bytes.
#[test]
fn requests_of_ls_find_and_cp() {
    let (server, mut mount) = signed("s3://bucket/many/");
    mount.unmount();
    mount.replace_option("--attr-ttl", "1h");
    std::fs::remove_dir_all(mount.cache()).expect("an empty cache");
    let requests = |since: usize| -> Vec<String> {
        let printed = server.printed();
        printed.lines().skip(since).map(str::to_owned).collect()
    };
    let before = requests(0).len();
    mount.start();
    run(Command::new("ls").arg("-l").arg(mount.root())).succeeded();
    run(Command::new("find").arg(mount.root()).args(["-size", "+1k"])).succeeded();
    // Three names are on a page.
    assert_eq!(requests(before).len(), 34, "{:?}", requests(before));
    let copy = temporary_directory();
    run(Command::new("cp").arg("-r").arg(mount.root()).arg(copy.path())).succeeded();
    let of_keys = requests(before)
        .into_iter()
        .filter(|line| line.starts_with("GET /bucket/many/"))
        .count();
    assert_eq!((of_keys, requests(before).len()), (100, 134), "{:?}", requests(before));
}

#[test]
fn prefix_or_single_key_is_mounted() {
    let (_server, mount) = signed("s3://bucket/deep/a");
    assert_eq!(fs::read_to_string(mount.path("b/leaf")).expect("to read"), "leaf\n");
    let (_server, mount) = signed("s3://bucket/names/a%23b%3Fc=d");
    assert_eq!(fs::read_to_string(mount.path("a#b?c=d")).expect("to read").len(), 21);
}

#[test]
fn cached_bucket_is_there_without_the_server() {
    let (server, mut mount) = signed("s3://bucket/");
    assert_shows(&mount);
    drop(server);
    drop_pages(&mount.path("big.bin"));
    assert_shows(&mount);
    mount.remount();
    assert_shows(&mount);
}

#[test]
fn refusals_are_clear_sentences() {
    let server = WebServer::case("s3.py", &[ACCESS, SECRET, REGION, "PORT"]);
    let says = |source: &str, secret: &str, region: &str| {
        let variables = [
            ("AWS_ACCESS_KEY_ID", ACCESS),
            ("AWS_SECRET_ACCESS_KEY", secret),
            ("AWS_REGION", region),
        ];
        refused(&server, source, &variables, &[])
    };
    let home = temporary_directory();
    let config = |name: &str, text: &str| {
        let path = home.path().join(name);
        fs::write(&path, format!("[default]\n{text}\n")).expect("to write");
        path.to_str().expect("text").to_owned()
    };
    let (sso, command) = (
        config("sso", "sso_session = corp"),
        config("command", "credential_process = exit 3"),
    );
    let by_sso = [("AWS_CONFIG_FILE", sso.as_str())];
    let by_command = [("AWS_CONFIG_FILE", command.as_str())];
    for (said, expected) in [
        (says("s3://bucket/", "wrong", REGION), "the secret key is wrong"),
        (says("s3://other/", SECRET, REGION), "there is no bucket `other`"),
        (
            says("s3://bucket/none/", SECRET, REGION),
            "no key that begins with `none/`",
        ),
        (says("s3://bucket/a?b", SECRET, REGION), "write %3F"),
        (refused(&server, "s3://bucket/", &[], &[]), "there are no AWS keys"),
        (
            refused(&server, "s3://bucket/", &by_sso, &[]),
            "aws configure export-credentials --profile default",
        ),
        (
            refused(&server, "s3://bucket/", &by_command, &[]),
            "credential_process of the profile `default` failed",
        ),
        (
            refused(&server, "s3://bucket/", &[], &["--no-sign-request"]),
            "the bucket is not public",
        ),
        (refused(&server, "s3://bucket/", &[], &["--type", "index"]), "--type"),
    ] {
        assert!(said.contains(expected), "{said}");
        assert!(!said.contains(SECRET) && !said.contains("Signature="), "{said}");
    }
}

/// The stored listing is there with any keys; what is not cached needs the right ones.
#[test]
fn wrong_secret_is_eacces() {
    let (server, home) = (
        WebServer::case("s3.py", &[ACCESS, SECRET, REGION, "PORT"]),
        temporary_directory(),
    );
    let file = home.path().join("credentials");
    let write = |secret: &str| {
        let text =
            format!("[mine]\naws_access_key_id = {ACCESS}\naws_secret_access_key = {secret}\nregion = {REGION}\n");
        fs::write(&file, text).expect("to write the keys");
    };
    write(SECRET);
    let mut mount = Mount::of("s3://bucket/")
        .with("--endpoint-url", &server.url("/"))
        .with("--profile", "mine")
        .with("--retries", "0")
        .with_env("AWS_SHARED_CREDENTIALS_FILE", file.to_str().expect("text"))
        .start();
    assert_eq!(names(&mount.root()).len(), 7);
    assert_eq!(
        fs::read_to_string(mount.path("both/below")).expect("to read"),
        "below\n"
    );
    write("wrong");
    mount.remount();
    let error = fs::read(mount.path("big.bin")).expect_err("it is signed with a wrong key");
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    write(SECRET);
    mount.remount();
    assert_eq!(fs::read(mount.path("big.bin")).expect("to read").len(), 640_000);
}

/// Its region is found by what the server says, for listings and for what is read.
#[test]
fn bucket_in_another_region_is_found() {
    let server = WebServer::case("s3.py", &[ACCESS, SECRET, REGION, "PORT"]);
    let mount = Mount::of("s3://bucket/")
        .with("--endpoint-url", &server.url("/"))
        .with("--region", "us-east-1")
        .with_env("AWS_ACCESS_KEY_ID", ACCESS)
        .with_env("AWS_SECRET_ACCESS_KEY", SECRET)
        .start();
    assert_shows(&mount);
    let refused = server.printed().lines().filter(|line| line.ends_with(" 400")).count();
    assert_eq!(refused, 1, "it is learnt once");
}

/// A service that wants the bucket in the host name is asked so once it has said it, or at once if the profile says so.
#[test]
fn bucket_is_sent_in_the_host_name() {
    let home = temporary_directory();
    let file = home.path().join("config");
    for (style, refusals) in [("auto", 1), ("virtual", 0)] {
        let server = WebServer::case("s3.py", &[ACCESS, SECRET, REGION, "PORT", "virtual"]);
        fs::write(&file, format!("[default]\ns3 =\n    addressing_style = {style}\n")).expect("to write");
        let mount = Mount::of("s3://bucket/")
            .with("--endpoint-url", "http://s3.example.test/")
            .with("--region", REGION)
            .with("--proxy", &server.url("/"))
            .with_env("AWS_CONFIG_FILE", file.to_str().expect("text"))
            .with_env("AWS_ACCESS_KEY_ID", ACCESS)
            .with_env("AWS_SECRET_ACCESS_KEY", SECRET)
            .start();
        assert_shows(&mount);
        let refused = server.printed().lines().filter(|line| line.ends_with(" 403")).count();
        assert_eq!(refused, refusals, "{style}");
    }
}

/// The command is run again before its keys expire, and not for each request.
#[test]
fn credential_process_gives_keys_and_renews_them() {
    let server = WebServer::case("s3.py", &[ACCESS, SECRET, REGION, "PORT"]);
    let home = temporary_directory();
    let (config, runs) = (home.path().join("config"), home.path().join("runs"));
    let keys = |lifetime: &str| {
        let keys = format!(r#""Version": 1, "AccessKeyId": "{ACCESS}", "SecretAccessKey": "{SECRET}""#);
        let command = format!(
            "echo run >> {}; printf '{{%s, \"Expiration\": \"%s\"}}' '{keys}' $(date -u -d '{lifetime}' +%FT%TZ)",
            runs.display()
        );
        fs::write(home.path().join("keys"), command).expect("to write");
        let text = format!(
            "[default]\nregion = {REGION}\ncredential_process = sh {}\n",
            home.path().join("keys").display()
        );
        fs::write(&config, text).expect("to write");
    };
    keys("1 hour");
    let count = || fs::read_to_string(&runs).unwrap_or_default().lines().count();
    let mut mount = Mount::of("s3://bucket/")
        .with("--endpoint-url", &server.url("/"))
        .with("--attr-ttl", "0")
        .with_env("AWS_CONFIG_FILE", config.to_str().expect("text"))
        .start();
    assert_shows(&mount);
    assert_eq!(count(), 1);
    mount.unmount();
    keys("2 seconds");
    mount.start();
    wait_until("keys are renewed", || {
        assert_eq!(names(&mount.path("deep")).len(), 1);
        count() >= 3
    });
    mount.log().assert_hides(SECRET);
}

#[test]
fn program_opens_keys_and_mounts_buckets() {
    let server = WebServer::case("s3.py", &["", "", REGION, "PORT"]);
    let home = temporary_directory();
    let cache = fetchfs::Cache::builder()
        .dir(home.path().join("cache"))
        .endpoint_url(server.url("/"))
        .no_sign_request(true)
        .open()
        .expect("a cache");
    let mut file = cache.open_url("s3://bucket/names/a%23b%3Fc=d").expect("the key");
    let mut text = String::new();
    std::io::Read::read_to_string(&mut file, &mut text).expect("to read");
    assert_eq!(text, "a#b?c=d".repeat(3));
    let mountpoint = home.path().join("mnt");
    fs::create_dir(&mountpoint).expect("a mountpoint");
    let builder = fetchfs::Mount::builder()
        .source("s3://bucket/deep/")
        .mountpoint(&mountpoint)
        .cache(&cache);
    let _mount = builder.spawn().expect("a mount");
    assert_eq!(
        fs::read_to_string(mountpoint.join("a/b/leaf")).expect("to read"),
        "leaf\n"
    );
}
