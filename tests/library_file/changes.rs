//! Changed files and files with mistakes: `fetchfs reload`, SIGHUP, `fetchfs config check`.

use std::fs::{self, Permissions};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;

use fetchfs::internals::events;
use nix::sys::signal::Signal;

use super::{Library, assert_text, names, origin_with, set};
use crate::common::files::errno_of;
use crate::common::{Mount, fetchfs, run};
use crate::origin::{Content, Fault};

#[test]
fn reload_takes_a_changed_file_over_and_open_files_go_on() {
    let size = 3_000_000;
    let origin = origin_with(&[("/stays/a", "a"), ("/new/b", "b"), ("/guarded/c", "c")]);
    origin.add("/goes/large", Content::noise(size, 1));
    let demand = || Fault::Demand("X-Key", "k".to_owned());
    origin.on("/guarded/").fault(demand());
    origin.on("/guarded/c").fault(demand());
    let source = |at: &str, more: &str| {
        format!(
            "[[source]]\nurl = \"{}\"\nat = \"{at}\"\n{more}",
            origin.url(&format!("/{at}/"))
        )
    };
    let stays = || "attr_ttl = \"1h\"\n".to_owned() + &source("stays", "");
    let library = Library::new(&(stays() + &source("goes", "") + &source("guarded", "")));
    let mount = library.mount();
    assert_eq!(errno_of(fs::read_dir(mount.path("guarded"))), libc::EACCES);
    let mut open = fs::File::open(mount.path("goes/large")).expect("to open");
    let mut first = vec![0; 1000];
    open.read_exact(&mut first).expect("its beginning");
    let reload = || run(fetchfs().arg("reload").arg(mount.root()));

    library.write(&(stays() + &source("new", "") + &source("guarded", "header = \"X-Key: k\"\n")));
    let said = reload().succeeded().out;
    for expected in ["3 sources", "added    http", "removed  http", "changed  http"] {
        assert!(said.contains(expected), "{said}");
    }
    assert_eq!(names(&mount.root()), set(&["guarded", "new", "stays"]));
    assert_eq!(errno_of(fs::metadata(mount.path("goes"))), libc::ENOENT);
    assert_text(&mount.path("new/b"), "b");
    assert_text(&mount.path("stays/a"), "a");
    assert_text(&mount.path("guarded/c"), "c");
    let mut rest = Vec::new();
    open.read_to_end(&mut rest).expect("the rest of the open file");
    assert_eq!([first, rest].concat(), Content::noise(size, 1).whole());

    library.write(&(stays() + &source("new", "no_such_option = 1\n")));
    let ran = reload();
    assert!(
        ran.code == 1 && ran.err.contains("library.toml:8:1: `no_such_option`"),
        "{}",
        ran.err
    );
    assert_eq!(mount.events(events::RELOAD_FAILED), 1);
    assert_eq!(names(&mount.root()), set(&["guarded", "new", "stays"]));

    library.write(&(stays() + &source("goes", "")));
    mount.signal(Signal::SIGHUP);
    mount.wait_for_event(events::LIBRARY_RELOADED, 2);
    assert_eq!(names(&mount.root()), set(&["goes", "stays"]));
    assert_eq!(names(&mount.path("goes")), set(&["large"]));
}

#[test]
fn reload_of_another_mount_is_refused() {
    let origin = origin_with(&[("/a", "a")]);
    let mount = Mount::start_of(&origin.url("/"));
    let ran = run(fetchfs().arg("reload").arg(mount.root()));
    assert!(
        ran.code == 1 && ran.err.contains("no library is mounted"),
        "{}",
        ran.err
    );
}

#[test]
fn source_that_contains_the_mountpoint_is_refused() {
    let origin = origin_with(&[("/a", "a")]);
    let around = "[[source]]\nurl = \"/\"\nat = \"all\"\n";
    let ran = Library::new(around).refused();
    assert!(ran.code == 1 && ran.err.contains("is inside the source"), "{ran:?}");
    let library = Library::new(&format!("[[source]]\nurl = \"{}\"\n", origin.url("/")));
    let mount = library.mount();
    assert_eq!(names(&mount.root()), set(&["a"]));
    library.write(around);
    let ran = run(fetchfs().arg("reload").arg(mount.root()));
    assert!(ran.code == 1 && ran.err.contains("is inside the source"), "{ran:?}");
    assert_eq!(names(&mount.root()), set(&["a"]));
}

#[test]
fn config_check_says_all_mistakes() {
    let check = |library: &Library| run(fetchfs().args(["config", "check"]).arg(library.path()));
    let library = Library::new(
        "cash_size = 1\nretries = \"x\"\n[[source]]\nurl = \"gopher://h/\"\n[[source]]\nurl = \"https://h/\"\nmin_size = \"big\"\n\
         x = = 2\nlogin = \"ann\"\n",
    );
    let ran = check(&library);
    assert_eq!(ran.code, 1);
    let places: Vec<_> = ran
        .err
        .lines()
        .filter_map(|line| line.split("library.toml:").nth(1))
        .collect();
    let expected = [
        "1:1: `cash_size`: unknown option; did you mean `cache_size`?",
        "2:11: `retries` is a string",
        "4:7: `gopher://h/` is not a source",
        "7:12: `min_size`: not a size",
        "8:5: ",
        "9:9: login: the password is missing",
    ];
    assert_eq!(places.len(), expected.len(), "{}", ran.err);
    for (said, expected) in places.iter().zip(expected) {
        assert!(said.starts_with(expected), "{said}\n{expected}");
    }
    library.write("[[source]]\nurl = \"https://ann:hunter2@h/\"\nat = \"x/y\"\n");
    assert_eq!(
        check(&library).succeeded().out,
        "a library of 1 source\n  /x/y  https://h/\n"
    );
    library.write("cache_size = \"1G\"\n[\"https://h/\"]\nheader = \"A: b\"\n");
    assert_eq!(check(&library).succeeded().out, "a config file with 2 options\n");
    library.write("cache_size = \"1G\"\n[\"https://h/\"]\nheadr = \"A: b\"\nretries = -1\n");
    let ran = check(&library);
    assert_eq!((ran.code, ran.err.lines().count()), (1, 2), "{}", ran.err);
}

#[test]
fn example_library_has_no_mistake() {
    let library = Library::new(include_str!("../../examples/library.toml"));
    library.add("ann.secret", "hunter2\n");
    let said = run(fetchfs().args(["config", "check"]).arg(library.path()))
        .succeeded()
        .out;
    assert!(said.starts_with("a library of 6 sources\n"), "{said}");
}

#[test]
fn mistake_in_a_library_is_a_sentence_with_its_place() {
    let source = "[[source]]\nurl = \"http://127.0.0.1:9/\"\n";
    let cases = [
        ("", "library.toml:1:1: it has no source"),
        ("[[source]]\nat = \"x\"\n", "library.toml:1:1: a source needs a `url`"),
        ("[source]\nurl = \"x\"\n", "library.toml:1:2: write [[source]]"),
        (
            &format!("{source}inclde = \"*\"\n"),
            "library.toml:3:1: `inclde`: unknown option; did you mean `include`?",
        ),
        (
            &format!("{source}cache_size = 1\n"),
            "library.toml:3:1: `cache_size` is for the whole mount; write it above the first [[source]]",
        ),
        (
            &format!("at = \"x\"\n{source}"),
            "library.toml:1:1: `at` is for a source; write it below a [[source]]",
        ),
        (
            &format!("login = \"ann:1\"\n{source}"),
            "library.toml:1:9: `login` is for one source",
        ),
        (
            &format!("{source}include = [\"a\", \"[\"]\n"),
            "library.toml:3:17: `include`: not a pattern",
        ),
        (&format!("{source}at = \"a/../b\"\n"), "library.toml:3:6: `..` can't be"),
        (
            &format!("{source}password_file = \"none\"\nlogin = \"ann\"\n"),
            "library.toml:3:17: can't read password_file",
        ),
        (
            &format!("{source}login = \"ann\"\n"),
            "library.toml:3:9: login: the password is missing; give a password_file or password_command",
        ),
        (
            &format!("{source}newer = \"soon\"\n"),
            "library.toml:3:9: `newer`: not an age",
        ),
        (
            "[[source]]\nurl = \"none.txt\"\n",
            "library.toml:2:7: can't read the source",
        ),
    ];
    for (text, expected) in cases {
        let ran = Library::new(text).refused();
        assert!(ran.code == 2 && ran.err.contains(expected), "{text}\n{}", ran.err);
    }
    let library = Library::new(&format!("{source}login = \"ann:hunter2\"\n"));
    fs::set_permissions(library.path(), Permissions::from_mode(0o644)).expect("to open it");
    let ran = library.refused();
    assert!(ran.code == 1 && ran.err.contains("others can read it"), "{}", ran.err);
    assert!(!ran.err.contains("hunter2"));
}
