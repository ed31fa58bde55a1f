//! Buckets: `rclone serve s3`, and a server that verifies signatures.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::process::Output;
use std::time::{Duration, SystemTime};

use crate::common::files::{drop_pages, write_file};
use crate::common::servers::WebServer;
use crate::common::{Mount, fetchfs, temporary_directory};
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

#[test]
fn rclone_serve_s3() {
    let root = temporary_directory();
    let all = [
        "a+b",
        "%41",
        "a b",
        "a#b?c=d",
        "gr\u{fc}\u{df}e \u{65e5}",
        "dir%20x/a+b/leaf",
    ];
    for (number, name) in all.iter().enumerate() {
        let path = root.path().join("bucket").join(name);
        write_file(&path, &Content::noise(number as u64, 1000 + number as u64));
    }
    let server = WebServer::rclone_s3(root.path());
    let mount = Mount::of("s3://bucket")
        .with("--endpoint-url", &server.url("/"))
        .with("--no-sign-request", "")
        .start();
    for name in all {
        let real = root.path().join("bucket").join(name);
        assert_eq!(
            fs::read(mount.path(name)).expect("to read"),
            fs::read(&real).expect("to read"),
            "{name}"
        );
        let seconds = |path: &Path| {
            let date = fs::metadata(path)
                .and_then(|metadata| metadata.modified())
                .expect("a date");
            date.duration_since(SystemTime::UNIX_EPOCH)
                .expect("after 1970")
                .as_secs()
        };
        assert_eq!(seconds(&mount.path(name)), seconds(&real), "{name}");
    }
    assert_eq!(names(&mount.root()).len(), all.len());
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
    for (said, expected) in [
        (says("s3://bucket/", "wrong", REGION), "the secret key is wrong"),
        (says("s3://bucket/", SECRET, "us-east-1"), "give --region eu-test-1"),
        (says("s3://other/", SECRET, REGION), "there is no bucket `other`"),
        (
            says("s3://bucket/none/", SECRET, REGION),
            "no key that begins with `none/`",
        ),
        (says("s3://bucket/a?b", SECRET, REGION), "write %3F"),
        (refused(&server, "s3://bucket/", &[], &[]), "there are no AWS keys"),
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
