use super::*;
use crate::config::mount_command;
use proptest::prelude::*;

fn file(text: &str) -> Result<ConfigFile, String> {
    let entries = parse(text).map_err(|(line, fault)| format!("{line}: {fault}"))?;
    Ok(ConfigFile {
        path: "c".into(),
        entries,
    })
}

/// What the file makes of these arguments, for these sources.
fn arguments(text: &str, given: &[&str], source: &str) -> Result<Vec<String>, String> {
    let command = mount_command();
    let typed = given.iter().copied().chain([source, "/mnt"]);
    let given = command
        .clone()
        .no_binary_name(true)
        .try_get_matches_from(typed)
        .expect("what was typed");
    let arguments = file(text)?.arguments(&command, &given, &[Url::parse(source).unwrap()]);
    arguments.map_err(|error| error.to_string())
}

#[test]
fn a_line_is_the_option_of_the_same_name() {
    let text = "# mine\ncache_size = 20G\n\n  allow-other\nnetrc=yes\nhttp2 = no\nverbose = 2\nheader = X: a=b # c\n";
    let expected = [
        "--cache-size=20G",
        "--allow-other",
        "--netrc",
        "--verbose",
        "--verbose",
        "--header=X: a=b # c",
    ];
    assert_eq!(arguments(text, &[], "http://h/").unwrap(), expected);
}

#[test]
fn what_is_wrong_with_a_line_is_said_in_one_sentence_with_its_place() {
    let sentence = |line: &str| arguments(&format!("# one\n{line}\n"), &[], "http://h/").unwrap_err();
    insta::assert_snapshot!(sentence("cash_size = 1G"), @"c:2: `cash-size`: fetchfs has no such option; `fetchfs mount --help` lists those it has");
    insta::assert_snapshot!(sentence("cache_size"), @"c:2: `cache-size`: a value is missing; write `cache-size = <SIZE>`");
    insta::assert_snapshot!(sentence("cache_size = much"), @"c:2: `cache-size`: not a size; write for example 20%, 20G or 1000000");
    insta::assert_snapshot!(sentence("chunk_size = 5"), @"c:2: `chunk-size`: must be a power of two from 4KiB to 64MiB");
    insta::assert_snapshot!(sentence("allow_other = perhaps"), @"c:2: `allow-other` is a switch; write `allow-other = yes` or `allow-other = no`");
    insta::assert_snapshot!(sentence("config = x"), @"c:2: `config` is for the command line, not for a config file");
    insta::assert_snapshot!(sentence("verbose = very"), @"c:2: `verbose`: not a number from 0 to 9");
    insta::assert_snapshot!(sentence("[host]"), @"2: not a section; write [https://HOST/PATH/] for the sources at that URL and below it");
    insta::assert_snapshot!(sentence("https://ann:hunter2@host/"), @"2: not a line `name = value`");
}

#[test]
fn what_was_typed_wins_and_so_does_what_excludes_it() {
    let text = "timeout = 5s\nbearer_token_file = /t\nretries = 7\nheader = A: b\n";
    let given = ["--timeout=9s", "--bearer-token=x", "--header=C: d"];
    assert_eq!(
        arguments(text, &given, "http://h/").unwrap(),
        ["--retries=7", "--header=A: b"]
    );
}

#[test]
fn a_section_is_for_the_sources_below_its_url_and_no_others() {
    let text = "retries = 1\n[https://host/private]\nretries = 2\n[https://host/private/]\nlogin = a:b\n";
    let of = |source| arguments(text, &[], source).unwrap().join(" ");
    assert_eq!(of("https://host/private/x/"), "--retries=1 --retries=2 --login=a:b");
    assert_eq!(of("https://host/private"), "--retries=1 --retries=2");
    for source in [
        "https://host/privateer",
        "http://host/private/",
        "https://host:444/private/",
        "https://host.example/private/",
        "https://host@evil/private/",
        "https://host/",
        "https://host/x/../pub/",
    ] {
        assert_eq!(of(source), "--retries=1", "{source}");
    }
    // A mistake is one whatever is mounted.
    assert!(arguments("[http://other/]\nretires = 1\n", &[], "http://h/").is_err());
}

#[test]
fn a_file_with_secrets_is_its_owners_alone() {
    let check =
        |mode, text: &str| check_exposure(Path::new("/c"), mode, &parse(text).unwrap()).map_err(|e| e.to_string());
    insta::assert_snapshot!(check(0o100644, "retries=1\nlogin = ann:pw").unwrap_err(), @"/c: others can read it, and line 2 has a secret (login); chmod 600 /c");
    insta::assert_snapshot!(check(0o100602, "retries=1").unwrap_err(), @"/c: everybody can change it, and so what fetchfs does; chmod o-w /c");
    for (mode, text) in [
        (0o100600, "login = ann:pw"),
        (
            0o100644,
            "login = ann\npassword_file = /f\nheader = @/h\nproxy = http://h:1",
        ),
        (0o100664, "cache_size = 1G"),
    ] {
        assert_eq!(check(mode, text), Ok(()), "{text}");
    }
    for secret in [
        "header = A: b",
        "bearer_token = t",
        "bearer_token_command = c",
        "proxy = http://u:p@h:1",
    ] {
        assert!(check(0o100640, secret).is_err(), "{secret}");
    }
}

#[test]
fn the_file_is_where_such_files_are() {
    let (xdg, home) = (|text: &str| Some(text.into()), || Some(PathBuf::from("/home/a")));
    assert_eq!(
        standard_path(true, xdg("/x"), home()),
        Some("/etc/fetchfs/config".into())
    );
    assert_eq!(
        standard_path(false, xdg("/x"), home()),
        Some("/x/fetchfs/config".into())
    );
    assert_eq!(
        standard_path(false, xdg("rel"), home()),
        Some("/home/a/.config/fetchfs/config".into())
    );
    assert_eq!(standard_path(false, None, None), None);
}

#[test]
fn the_caches_directory_is_found_for_who_mounts_nothing() {
    let found = |text| file(text).unwrap().cache_dir();
    assert_eq!(
        found("cache-dir = /a\ncache_dir = /b\n[http://h/]\ncache_dir = /c"),
        Some("/b".into())
    );
    assert_eq!(found("retries = 1"), None);
}

proptest! {
    #[test]
    fn nothing_that_can_be_written_panics(text in "[a-z_=\\[\\]:/# é\n-]{0,60}") {
        let _ = arguments(&text, &[], "http://h/");
    }
}
