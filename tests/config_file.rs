//! The config file and source files: their values count as if they were typed, and no other user can see them.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::common::mount::mount_line;
use crate::common::process::Ran;
use crate::common::{Mount, fetchfs, run, temporary_directory};
use crate::origin::{Content, Fault, Origin};

const SIZE: u64 = 3000;

fn origin() -> Origin {
    let origin = Origin::start();
    origin.add("/file", Content::noise(SIZE, 1));
    origin
}

/// A file in this directory that only its owner can read.
fn write(directory: &Path, name: &str, text: &str) -> PathBuf {
    let path = directory.join(name);
    fs::write(&path, text).expect("to write");
    fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("to close it");
    path
}

fn shown(path: &Path) -> &str {
    path.to_str().expect("a path of the harness")
}

/// Runs a mount that must be refused.
fn refused(arguments: &[&str], config: &Path) -> Ran {
    let home = temporary_directory();
    let mut command = fetchfs();
    command.arg("mount").args(arguments).arg("--config").arg(config);
    run(command.arg("http://127.0.0.1:9/").arg(home.path()))
}

/// Asserts that the secret is visible neither in the list of processes, nor in that of mounts, nor in the log.
#[track_caller]
fn assert_hidden(mount: &Mount, secret: &str) {
    let line = fs::read(format!("/proc/{}/cmdline", mount.pid())).expect("its command line");
    let table = mount_line(&mount.root()).expect("it is mounted");
    for text in [String::from_utf8_lossy(&line).into_owned(), table] {
        assert!(!text.contains(secret), "{text}");
    }
    mount.log().assert_hides(secret);
}

#[test]
fn config_file_applies_and_its_secrets_are_hidden() {
    let (origin, home) = (origin(), temporary_directory());
    origin.on_any().fault(Fault::Demand("X-Key", "hunter2".to_owned()));
    let text = format!(
        r#"# of mine
cache_size = "77MiB" # a comment
min_free = 0
verbose = 2
content_disposition = false
["http://127.0.0.1:1/"]
header = "X-Key: wrong"
["{}"]
header = ["X-Other: a, b = c", "X-Key: hunter2"]
"#,
        origin.url("/")
    );
    let config = write(home.path(), "config", &text);
    let mount = Mount::of(&origin.url("/")).with("--config", shown(&config)).start();
    assert_eq!(
        fs::read(mount.path("file")).expect("to read"),
        Content::noise(SIZE, 1).whole()
    );
    assert_eq!(cache_limit(&mount), 77 << 20);
    assert_hidden(&mount, "hunter2");
}

fn cache_limit(mount: &Mount) -> u64 {
    let ran = run(fetchfs().args(["status", "--json"]).arg(mount.root())).succeeded();
    let status: serde_json::Value = serde_json::from_str(&ran.out).expect("JSON");
    status[0]["cache_limit"].as_u64().expect("a number")
}

#[test]
fn flag_overrides_o_environment_and_config_file() {
    let (origin, home) = (origin(), temporary_directory());
    let config = write(home.path(), "config", "cache-size = \"40MiB\"\n");
    let of = || Mount::of(&origin.url("/")).with_env("FETCHFS_CONFIG", shown(&config));
    let by_environment = || of().with_env("FETCHFS_CACHE_SIZE", "50MiB");
    let by_option = || by_environment().with("-o", "cache_size=60MiB");
    let plans = [
        (of(), 40),
        (by_environment(), 50),
        (by_option(), 60),
        (by_option().with("--cache-size", "70MiB"), 70),
        (of().with("-o", "config=/dev/null,cache_size=45MiB"), 45),
    ];
    for (plan, wanted) in plans {
        assert_eq!(cache_limit(&plan.start()), wanted << 20);
    }
}

#[test]
fn config_file_error_is_one_sentence_with_its_line() {
    let home = temporary_directory();
    let cases = [
        (
            "retries = 1\ncash_size = \"1G\"\n",
            "config:2:1: `cash_size`: unknown option; did you mean `cache_size`?",
        ),
        ("retries = 1\n  retries = 2\n", "config:2:3: duplicate key"),
        (
            "retries = \"3\"",
            "config:1:11: `retries` is a string; write an integer",
        ),
        ("cache_size = \"much\"", "config:1:14: `cache_size`: not a size"),
        (
            "log_file = \"l\"\ncache_size = 1G",
            "config:2:14: string values must be quoted; write `cache_size = \"1G\"`",
        ),
        ("[example]", "config:1:2: the name of a table is a URL"),
        (
            "[[source]]\nurl = \"http://h/\"",
            "config:1:3: `source` is for libraries",
        ),
    ];
    for (text, said) in cases {
        let ran = refused(&[], &write(home.path(), "config", text));
        assert_eq!((ran.code, ran.err.lines().count()), (2, 1), "{ran:?}");
        assert!(ran.err.contains(said), "{ran:?}");
    }
    let ran = refused(&[], Path::new("/no/such/config"));
    assert!(
        ran.code == 1 && ran.err.contains("can't read the config file /no/such/config"),
        "{ran:?}"
    );
}

#[test]
fn old_config_format_is_read_with_one_warning() {
    let (origin, home) = (origin(), temporary_directory());
    origin.on_any().fault(Fault::Demand("X-Key", "hunter2".to_owned()));
    let text = format!(
        "# of mine\ncache_size = 77MiB\nmin_free = 0\nnetrc = no\n[{}]\nheader = X-Other: a\nheader = X-Key: hunter2\n",
        origin.url("/")
    );
    let config = write(home.path(), "config", &text);
    let mount = Mount::of(&origin.url("/")).with("--config", shown(&config)).start();
    assert_eq!(
        fs::read(mount.path("file")).expect("to read"),
        Content::noise(SIZE, 1).whole()
    );
    assert_eq!(cache_limit(&mount), 77 << 20);
    assert_hidden(&mount, "hunter2");

    let mut command = fetchfs();
    command.arg("mount").arg("--config").arg(&config);
    let ran = run(command.arg("http://127.0.0.1:9/").arg("/no/such/directory"));
    let warnings: Vec<&str> = ran.err.lines().filter(|line| line.contains("config:2: ")).collect();
    assert_eq!(warnings.len(), 1, "{ran:?}");
    assert!(warnings[0].contains("`cache_size = \"77MiB\"`"), "{ran:?}");
    assert!(!ran.err.contains("hunter2"), "{ran:?}");
}

#[test]
fn readable_config_file_with_a_secret_is_rejected() {
    let home = temporary_directory();
    let config = write(home.path(), "config", "login = \"ann:hunter2\"\n");
    fs::set_permissions(&config, Permissions::from_mode(0o640)).expect("to open it");
    let ran = refused(&[], &config);
    assert!(ran.code == 1 && ran.err.contains("others can read it"), "{ran:?}");
    assert!(ran.err.contains("chmod 600") && !ran.err.contains("hunter2"), "{ran:?}");
}

#[test]
fn source_from_a_file_is_mounted_and_hidden() {
    let (origin, home) = (origin(), temporary_directory());
    let text = format!("# signed\n{}?signature=hunter2\n", origin.url("/file"));
    let file = format!("@{}", shown(&write(home.path(), "sources", &text)));
    let mount = Mount::of(&file).start();
    assert_eq!(
        fs::read(mount.path("file")).expect("to read"),
        Content::noise(SIZE, 1).whole()
    );
    assert_hidden(&mount, "hunter2");
    let line = mount_line(&mount.root()).expect("it is mounted");
    assert!(line.contains(&file), "fstab's word for it: {line}");
}
