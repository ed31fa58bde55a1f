use super::*;
use proptest::prelude::*;

fn file(text: &str) -> Result<ConfigFile, String> {
    parse(&mount_command(), text).map_err(|faults| faults[0].to_string())
}

/// The flags that the file adds to these arguments, for this source.
fn flags(text: &str, given: &[&str], source: &str) -> Result<Vec<String>, String> {
    let command = mount_command();
    let typed = given.iter().copied().chain([source, "/mnt"]);
    let given = command
        .clone()
        .no_binary_name(true)
        .try_get_matches_from(typed)
        .expect("what was typed");
    let (file, sources) = (file(text)?, [SourceSpec::of(source).unwrap()]);
    let used = file.used(&command, &given, &sources).into_iter();
    Ok(used.flat_map(|entry| entry.flags.clone()).collect())
}

/// The mistake in the second line of a file.
fn mistake(line: &str) -> String {
    flags(&format!("# one\n{line}\n"), &[], "http://h/").unwrap_err()
}

#[test]
fn a_key_is_the_option_of_the_same_name() {
    let text = r#"
# mine
cache_size = "20GiB" # a comment
min-free = 1_000_000
allow_other = true
netrc = false
verbose = 2
timeout = 1.5
retries = 0x10
umask = 0o077
uid = 0
header = ["X: a=b # c", 'Y: "d"']
mirror = "https://m/"
"#;
    let expected = [
        "--cache-size=20GiB",
        "--min-free=1000000",
        "--allow-other",
        "--verbose",
        "--verbose",
        "--timeout=1.5",
        "--retries=16",
        "--umask=077",
        "--uid=0",
        "--header=X: a=b # c",
        "--header=Y: \"d\"",
        "--mirror=https://m/",
    ];
    assert_eq!(flags(text, &[], "http://h/").unwrap(), expected);
}

#[test]
fn a_name_that_is_unknown_or_not_for_here_is_refused() {
    insta::assert_snapshot!(mistake(r#"cash_size = "1G""#), @"2:1: `cash_size`: unknown option; did you mean `cache_size`?");
    insta::assert_snapshot!(mistake("zzz = 1"), @"2:1: `zzz`: unknown option; `fetchfs mount --help` lists the options");
    insta::assert_snapshot!(mistake(r#"config = "x""#), @"2:1: `config` is only for the command line; remove it from the config file");
    insta::assert_snapshot!(mistake("retries = 1\nretries = 2"), @"3:1: duplicate key; delete one of the two");
    insta::assert_snapshot!(mistake("max_age = \"1d\"\nmax-age = \"2d\""), @"3:1: `max-age` is also in line 2; delete one of them");
    insta::assert_snapshot!(mistake("[[source]]\nurl = \"https://h/\""), @"2:3: `source` is for libraries; give the file a name that ends in .toml and mount it: fetchfs mount FILE MOUNTPOINT");
    insta::assert_snapshot!(mistake("[host]"), @r#"2:2: the name of a table is a URL; write ["https://HOST/PATH/"] for the sources at that URL and below it"#);
    insta::assert_snapshot!(mistake(r#"["https://ann:hunter2@host/"]"#), @r#"2:2: the name of a table is a URL; write ["https://HOST/PATH/"] for the sources at that URL and below it"#);
    insta::assert_snapshot!(mistake("[\"https://host/\"]\n  é = 1"), @"3:3: invalid unquoted key; write NAME = VALUE in TOML, with text in quotes");
}

#[test]
fn a_value_that_an_option_does_not_take_is_refused() {
    insta::assert_snapshot!(mistake(r#"retries = "3""#), @"2:11: `retries` is a string; write an integer");
    insta::assert_snapshot!(mistake("  retries =   -3"), @"2:15: `retries`: write a number from 0 to 4294967295");
    insta::assert_snapshot!(mistake("max_connections = 70000"), @"2:19: `max_connections`: write a number from 1 to 65535");
    insta::assert_snapshot!(mistake("cache_size = true"), @r#"2:14: `cache_size` is a boolean; write a size in quotes, for example "20GiB", or a number of bytes"#);
    insta::assert_snapshot!(mistake(r#"cache_size = "much""#), @"2:14: `cache_size`: not a size; write for example 20%, 20G or 1000000");
    insta::assert_snapshot!(mistake("chunk_size = 5"), @"2:14: `chunk_size`: must be a power of two from 4KiB to 64MiB");
    insta::assert_snapshot!(mistake("timeout = [1]"), @r#"2:11: `timeout` is an array; write a time in quotes, for example "30s", or a number of seconds"#);
    insta::assert_snapshot!(mistake("bwlimit = 1.5"), @r#"2:11: `bwlimit` is a float; write a rate in quotes, for example "10MB", or a number of bytes per second"#);
    insta::assert_snapshot!(mistake("umask = 22"), @r#"2:9: `umask` is an integer; write octal digits in quotes, for example "0022""#);
    insta::assert_snapshot!(mistake("uid = 1.0"), @"2:7: `uid` is a float; write a name in quotes, or a number");
    insta::assert_snapshot!(mistake("allow_other = 1"), @"2:15: `allow_other` is an integer; write true or false");
    insta::assert_snapshot!(mistake("verbose = 10"), @"2:11: `verbose` is out of range; write an integer from 0 to 9");
    insta::assert_snapshot!(mistake("login = 5"), @"2:9: `login` is an integer; write text in quotes");
    insta::assert_snapshot!(mistake("log_file = 1979-05-27"), @"2:12: `log_file` is a datetime; write text in quotes");
    insta::assert_snapshot!(mistake("login = ''"), @"2:9: `login` is empty; write text in quotes");
    insta::assert_snapshot!(mistake("header = [\"A: b\",\n  3]"), @r#"3:3: `header` is an integer; write text in quotes, or several in brackets: ["...", "..."]"#);
    insta::assert_snapshot!(mistake("[header]\na = 1"), @r#"2:1: `header` is a table; write text in quotes, or several in brackets: ["...", "..."]"#);
}

#[test]
fn what_is_no_toml_is_refused_with_what_to_write() {
    let quoted = "log_file = \"l\"\n";
    let mistake = |line: &str| mistake(&format!("{quoted}{line}"));
    insta::assert_snapshot!(mistake("cache_size = 20G"), @r#"3:14: string values must be quoted; write `cache_size = "20G"`"#);
    insta::assert_snapshot!(mistake("login = ann:hunter2"), @r#"3:9: string values must be quoted; write `login = "..."`"#);
    insta::assert_snapshot!(mistake("hunter2 = ann:hunter2"), @"3:11: string values must be quoted; write NAME = VALUE in TOML, with text in quotes");
    insta::assert_snapshot!(mistake("netrc = yes"), @"3:9: string values must be quoted; write `netrc = true`");
    insta::assert_snapshot!(mistake("allow_other"), @"3:12: key with no value; write `allow_other = true`");
    insta::assert_snapshot!(mistake("umask = 022"), @r#"3:9: unexpected leading zero; write `umask = "022"`"#);
    insta::assert_snapshot!(mistake("cache_size = 20G # big"), @"3:14: string values must be quoted; write NAME = VALUE in TOML, with text in quotes");
    insta::assert_snapshot!(mistake("cache_size = \"20G"), @"3:18: invalid basic string; write NAME = VALUE in TOML, with text in quotes");
    insta::assert_snapshot!(mistake("header = [\"A: b\""), @"3:17: unclosed array; write NAME = VALUE in TOML, with text in quotes");
    insta::assert_snapshot!(mistake("https://ann:hunter2@host/"), @"3:26: key with no value; write NAME = VALUE in TOML, with text in quotes");
    insta::assert_snapshot!(mistake("[https://host/]"), @r#"3:7: invalid unquoted key; write `["https://host/"]`"#);
}

#[test]
fn every_kind_of_value_is_known() {
    for flag in mount_command().get_arguments() {
        if let Some(placeholder) = flag.get_value_names().and_then(|names| names.first())
            && flag.get_long().is_some()
            && matches!(kind::Kind::of(flag), kind::Kind::Text | kind::Kind::Texts)
        {
            let texts = [
                "DIR",
                "FILE",
                "FORM",
                "URL",
                "IP",
                "TEXT",
                "HEADER",
                "NAME",
                "TOKEN",
                "COMMAND",
                "OPTS",
                "KIND",
                "COUNTRY",
                "REGION",
                "POLICY",
                "NODES",
                "ADDR:PORT",
                "HOST",
            ];
            assert!(
                texts.contains(&placeholder.as_str()),
                "{flag}: add the placeholder to `Kind::of`"
            );
        }
    }
}

#[test]
fn what_was_typed_wins_and_so_does_what_excludes_it() {
    let text = "timeout = \"5s\"\nbearer_token_file = '/t'\nretries = 7\nheader = 'A: b'\n";
    let given = ["--timeout=9s", "--bearer-token=x", "--header=C: d"];
    assert_eq!(
        flags(text, &given, "http://h/").unwrap(),
        ["--retries=7", "--header=A: b"]
    );
}

#[test]
fn a_section_is_for_the_sources_below_its_url_and_no_others() {
    let text = r#"
retries = 1
header = "A: b"
netrc = true
"https://host/private/".login = "a:b"
["https://host/private"]
retries = 2
header = "C: d"
netrc = false
"#;
    let of = |source| flags(text, &[], source).unwrap().join(" ");
    assert_eq!(
        of("https://host/private/x/"),
        "--header=A: b --login=a:b --retries=2 --header=C: d"
    );
    assert_eq!(of("https://host/private"), "--header=A: b --retries=2 --header=C: d");
    for source in [
        "https://host/privateer",
        "http://host/private/",
        "https://host:444/private/",
        "https://host.example/private/",
        "https://host@evil/private/",
        "https://host/",
        "https://host/x/../pub/",
    ] {
        assert_eq!(of(source), "--retries=1 --header=A: b --netrc", "{source}");
    }
    // A mistake is an error whatever is mounted.
    assert!(flags("[\"http://other/\"]\nretires = 1\n", &[], "http://h/").is_err());
}

#[test]
fn a_file_in_the_old_form_is_read_with_a_warning() {
    let text = "# mine\ncache_size = 20G\n\n  allow-other\nnetrc=yes\nhttp2 = 0\nverbose = 2\numask = 022\nretries = 1\n\
                retries = 2\nheader = X: \"a\"=b # c\nheader = Y: \\d\n[http://h/]\nlogin = ann:hunter2\n";
    let expected = [
        "--cache-size=20G",
        "--allow-other",
        "--netrc",
        "--verbose",
        "--verbose",
        "--umask=022",
        "--retries=2",
        "--header=X: \"a\"=b # c",
        "--header=Y: \\d",
        "--login=ann:hunter2",
    ];
    assert_eq!(flags(text, &[], "http://h/").unwrap(), expected);
    assert_eq!(flags(text, &[], "http://i/").unwrap(), expected[..9]);

    let warning = |text| file(text).unwrap().warning().unwrap().to_owned();
    insta::assert_snapshot!(warning(text), @r#"2: this config file is in the form of earlier versions, which is still read; rewrite it in TOML, this line as `cache_size = "20G"`"#);
    for (line, toml) in [
        ("allow_other", "`allow_other = true`"),
        ("retries = 3\ntimeout = 5s", "`timeout = \"5s\"`"),
        ("[https://host/a/]\nretries = 3", "`[\"https://host/a/\"]`"),
        ("login = ann:hunter2", "`login = \"...\"`"),
        ("mirror = https://h/?key=hunter2", "`mirror = \"...\"`"),
    ] {
        assert!(warning(line).contains(toml), "{}", warning(line));
    }
    assert_eq!(file("retries = 3\nnetrc = true").unwrap().warning(), None);

    insta::assert_snapshot!(mistake("cash_size = 1G"), @"2:1: `cash_size`: unknown option; did you mean `cache_size`?");
    insta::assert_snapshot!(mistake("cache_size"), @r#"2:1: `cache_size` is empty; write a size in quotes, for example "20GiB", or a number of bytes"#);
    insta::assert_snapshot!(mistake("allow_other = perhaps"), @"2:1: `allow_other` is a string; write true or false");
}

#[test]
fn a_file_with_secrets_is_its_owners_alone() {
    let check = |mode, text: &str| {
        let entries = file(text).unwrap().entries;
        check_exposure(Path::new("/c"), mode, &entries).map_err(|error| error.to_string())
    };
    insta::assert_snapshot!(check(0o100644, "retries=1\nlogin = 'ann:pw'").unwrap_err(), @"/c: others can read it, and line 2 has a secret (login); chmod 600 /c");
    insta::assert_snapshot!(check(0o100602, "retries=1").unwrap_err(), @"/c: all users can write to it; chmod o-w /c");
    for (mode, text) in [
        (0o100600, "login = 'ann:pw'"),
        (
            0o100644,
            "login = 'ann'\npassword_file = '/f'\nheader = '@/h'\nproxy = 'http://h:1'",
        ),
        (0o100664, "cache_size = '1G'"),
    ] {
        assert_eq!(check(mode, text), Ok(()), "{text}");
    }
    for secret in [
        "header = ['@/h', 'A: b']",
        "\"http://h/\".bearer_token = 't'",
        "bearer_token_command = 'c'",
        "proxy = 'http://u:p@h:1'",
        "login = ann:pw",
    ] {
        assert!(check(0o100640, secret).is_err(), "{secret}");
    }
}

#[test]
fn example_in_the_documents_is_understood() {
    let page = include_str!("../../../docs/servers.md");
    let (_, rest) = page.rsplit_once("```toml\n").expect("an example");
    let (example, _) = rest.split_once("```").expect("its end");
    let expected = [
        "--cache-size=50GiB",
        "--max-connections=8",
        "--allow-other",
        "--login=ann:correct horse",
        "--header=X-Key: battery staple",
        "--header=X-Team: films",
    ];
    assert_eq!(flags(example, &[], "https://example.org/private/a").unwrap(), expected);
}

#[test]
fn a_large_file_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config");
    std::fs::write(&path, "#".repeat(LARGEST as usize + 1)).unwrap();
    let error = ConfigFile::read(Some(&path), &mount_command()).unwrap_err();
    assert!(matches!(error, FileError::Unreadable { .. }), "{error}");
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
fn the_cache_directory_is_found_without_a_mount() {
    let found = |text| file(text).unwrap().cache_dir();
    assert_eq!(
        found("cache-dir = '/a'\n['http://h/']\ncache_dir = '/c'"),
        Some("/a".into())
    );
    assert_eq!(found("cache-dir = /a\ncache_dir = /b"), Some("/b".into()));
    assert_eq!(found("retries = 1"), None);
}

proptest! {
    #[test]
    fn nothing_that_can_be_written_panics(text in "(header|netrc|retries|umask|\"http://h/\"|[a-z_=\\[\\]:/# é'\"\n0-9.-]){0,30}") {
        let _ = flags(&text, &[], "http://h/");
    }

    #[test]
    fn every_mistake_in_a_library_has_its_place(
        text in "(\\[\\[source\\]\\]\n|url = \"http://h/\"\n|at = |include = |retries|[a-z_=\\[\\]:/# é'\"\n0-9.-]){0,30}",
    ) {
        let source = clap::Command::new("source").arg(clap::Arg::new("url").long("url"));
        let content = toml_form::read(&mount_command(), &text, Form::Library(&source));
        let lines = text.lines().count().max(1) + 1;
        prop_assert!(content.faults.iter().all(|fault| (1..=lines).contains(&fault.place.line)));
        prop_assert!(content.faults.is_sorted_by_key(|fault| (fault.place.line, fault.place.column)));
    }
}
