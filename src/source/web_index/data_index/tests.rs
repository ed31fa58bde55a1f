//! Documents that real servers sent, such as a person writes, and such as no server sends.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use percent_encoding::percent_decode_str;
use proptest::prelude::*;
use serde_json::{Value, json};
use url::Url;

use super::*;
use crate::source::receiving::Collected;
use crate::source::{Entry, EntryKind, LeftOut, ListedSize, Name};

const PAGE: &str = "http://origin.test/corpus/";

/// Parses a document. Asserts that it is the same if it is read piece by piece, and that what is certain before the end is so at the
/// end.
fn parse_with(body: &[u8], config: &ListingConfig) -> Option<Result<Listing, NotAListing>> {
    let page = Url::parse(PAGE).unwrap();
    let whole = parse(&page, body, config);
    if is_json(body) {
        let (early, in_pieces) = Collected::of(|early| {
            let mut directory = Directory::new(&page, config);
            let reader = serde_json::de::IoRead::new(without_mark(body));
            let read = json::read_from(reader, &mut directory, early.clone());
            finish(read, directory, config)
        });
        let listing = whole.as_ref().and_then(|whole| whole.as_ref().ok());
        assert_eq!(in_pieces.as_ref().ok(), listing);
        if let Some(listing) = listing {
            Collected::assert_is_part_of(&early, listing);
        }
    }
    whole
}

/// The listing in a document.
#[track_caller]
fn read(body: impl AsRef<[u8]>) -> Listing {
    parse_with(body.as_ref(), &ListingConfig::default()).unwrap().unwrap()
}

/// Why a document is no listing.
#[track_caller]
fn refusal(body: &str) -> String {
    let read = parse_with(body.as_bytes(), &ListingConfig::default()).expect("JSON or XML");
    read.expect_err(body).to_string()
}

/// The entries as `name size seconds`, a `/` after a directory's name, `?` for what is unknown.
fn lines(listing: &Listing) -> Vec<String> {
    let line = |entry: Entry| {
        let name = entry.name.as_bytes().escape_ascii().to_string();
        let what = match entry.kind {
            EntryKind::Directory => "/".to_owned(),
            EntryKind::File(ListedSize::Exact(size)) => format!(" {size}"),
            EntryKind::File(_) => " ?".to_owned(),
        };
        let seconds = entry.modified.map_or("?".to_owned(), |date| {
            assert!(date.exact, "{entry:?}");
            let since = date.time.duration_since(SystemTime::UNIX_EPOCH).unwrap();
            assert_eq!(since.subsec_nanos(), 0, "{entry:?}");
            since.as_secs().to_string()
        });
        format!("{name}{what} {seconds}")
    };
    listing.entries.iter().map(line).collect()
}

/// The size and the date of each name; a `/` after a directory's.
type Truth = BTreeMap<Vec<u8>, (Option<u64>, SystemTime)>;

/// The pages of the corpus that the recorded servers served.
fn corpus() -> BTreeMap<String, Truth> {
    let mut pages: BTreeMap<String, Truth> = BTreeMap::new();
    for line in fs::read_to_string(folder().join("corpus.tsv")).unwrap().lines() {
        let fields: Vec<&str> = line.split('\t').collect();
        let [page, name, size, date] = fields[..] else {
            panic!("{line}")
        };
        let truth = (size.parse().ok(), humantime::parse_rfc3339(date).unwrap());
        let name = percent_decode_str(name).collect();
        pages.entry(page.to_owned()).or_default().insert(name, truth);
    }
    pages
}

fn folder() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/servers")
}

/// A recorded server.
struct Recorded {
    /// Its files are `json/NAME.PAGE.json`; for a set-up that always sends data, `NAME.PAGE.html`.
    name: &'static str,
    hides_dots: bool,
    /// Names that it can't serve, or had not.
    lost: &'static [&'static [u8]],
    has_sizes: bool,
    has_dates: bool,
}

impl Recorded {
    const fn new(name: &'static str, hides_dots: bool, lost: &'static [&'static [u8]]) -> Recorded {
        Recorded {
            name,
            hides_dots,
            lost,
            has_sizes: true,
            has_dates: true,
        }
    }

    /// The answer for a page, if it was recorded.
    fn answer(&self, page: &str) -> Option<Vec<u8>> {
        let name = format!("{}.{page}", self.name);
        let json = fs::read(folder().join(format!("json/{name}.json")));
        let always =
            |page: &Vec<u8>| !page.to_ascii_lowercase().starts_with(b"<html") && !page.starts_with(b"<!DOCTYPE");
        json.or_else(|_| fs::read(folder().join(format!("{name}.html"))))
            .ok()
            .filter(always)
    }
}

const LATIN1: &[&[u8]] = &[b"latin1-\xe9"];

const RECORDED: [Recorded; 9] = [
    Recorded::new("nginx-json", true, &[]),
    Recorded::new("nginx-xml", true, &[]),
    Recorded::new("caddy", false, &[]),
    Recorded::new("sws", true, LATIN1),
    Recorded::new("copyparty", true, &[]),
    Recorded::new("dufs", false, LATIN1),
    Recorded::new("lighttpd", true, &[]),
    Recorded::new("fastify-extended", false, LATIN1),
    Recorded {
        has_sizes: false,
        has_dates: false,
        ..Recorded::new("fastify", false, LATIN1)
    },
];

#[test]
fn recorded_answers_are_read_exactly() {
    let corpus = corpus();
    for recorded in RECORDED {
        let mut pages = 0;
        for (page, truth) in &corpus {
            let Some(answer) = recorded.answer(page) else { continue };
            pages += 1;
            assert_reads(
                &recorded,
                &format!("{}.{page}", recorded.name),
                &read(answer),
                truth.clone(),
            );
        }
        assert_ne!(pages, 0, "{}", recorded.name);
    }
}

fn assert_reads(recorded: &Recorded, of: &str, listing: &Listing, mut truth: Truth) {
    truth.retain(|name, _| !recorded.hides_dots || !name.starts_with(b"."));
    truth.retain(|name, _| !recorded.lost.contains(&&name[..]));
    assert!(listing.is_marked, "{of}");
    for entry in listing.entries.iter() {
        let mut name = entry.name.as_bytes().to_vec();
        let path = percent_decode_str(entry.url.as_str().strip_prefix(PAGE).unwrap());
        if entry.kind == EntryKind::Directory {
            name.push(b'/');
        }
        assert_eq!(path.collect::<Vec<u8>>(), name, "{of}");
        // With characters in place of the bytes that are lost.
        if !recorded.lost.is_empty() && name.starts_with(b"latin1-") {
            continue;
        }
        let (size, date) = truth.remove(&name).unwrap_or_else(|| panic!("{of}: {entry:?}"));
        match entry.kind {
            EntryKind::Directory => {}
            EntryKind::File(listed) if recorded.has_sizes => {
                assert_eq!(listed, ListedSize::Exact(size.unwrap()), "{of}: {entry:?}");
            }
            EntryKind::File(listed) => assert_eq!(listed, ListedSize::Unknown, "{of}"),
        }
        let listed = entry.modified.map(|listed| listed.time);
        assert_eq!(listed, recorded.has_dates.then_some(date), "{of}: {entry:?}");
    }
    assert!(truth.is_empty(), "{of}: {:?}", truth.keys());
}

/// Their sizes are rounded, or they have none: their pages in HTML say as much.
#[test]
fn answers_without_sizes_are_refused() {
    for page in ["root", "names", "dates"] {
        for server in ["serve", "serve-index"] {
            let body = fs::read_to_string(folder().join(format!("json/{server}.{page}.json"))).unwrap();
            assert!(refusal(&body).contains("no directory listing"), "{server}.{page}");
        }
    }
}

#[test]
fn empty_directories_are_marked() {
    for body in [
        "[\r\n]\r\n",
        "[]",
        "\u{feff} []",
        r#"{"kind": "Index", "paths": []}"#,
        r#"{"dirs": [], "files": [], "perms": ["read"]}"#,
        r#"{"dirs": [], "files": []}"#,
        "<?xml version=\"1.0\"?>\r\n<list>\r\n</list>\r\n",
        "<list/>",
    ] {
        let listing = read(body);
        assert!(
            listing.is_marked && listing.entries.is_empty() && listing.left_out.is_nothing(),
            "{body}"
        );
    }
}

#[test]
fn details_of_each_form() {
    let lighttpd = r#"[{"name":"d","type":"dir","size":4096,"mtime":1700000007},
                       {"name":"f","type":"file","size":5,"mtime":1700000000}]"#;
    assert_eq!(lines(&read(lighttpd)), ["d/ 1700000007", "f 5 1700000000"]);

    let nginx = r#"[{ "name":"socket", "type":"other", "mtime":"Tue, 14 Nov 2023 22:13:20 GMT" }]"#;
    assert_eq!(lines(&read(nginx)), ["socket ? 1700000000"]);

    // A symbolic link's size and date are its own, not the file's.
    let caddy = r#"[{"name":"d/","size":4096,"url":"./d/","mod_time":"2023-11-14T22:13:20.987654321Z","mode":1,
                     "is_dir":true,"is_symlink":false},
                    {"name":"l","size":3,"url":"./l","mod_time":"2023-11-14T22:13:20Z","mode":1,"is_dir":false,
                     "is_symlink":true,"symlink_path":"f"},
                    {"name":"x\ufffd","size":3,"url":"./x%E9","mod_time":"2023-11-14T22:13:20+01:00","mode":1,
                     "is_dir":false,"is_symlink":false}]"#;
    assert_eq!(lines(&read(caddy)), ["d/ 1700000000", "l ? ?", "x\\xe9 3 1699996400"]);

    // A directory's size is the number of names in it.
    let dufs = r#"{"href":"/","kind":"Index","paths":[
                   {"path_type":"Dir","name":"d","mtime":1700000007999,"size":12,"revisions":null},
                   {"path_type":"SymlinkDir","name":"e","mtime":1700000007000,"size":1},
                   {"path_type":"SymlinkFile","name":"f","mtime":1700000007000,"size":7},
                   {"path_type":"File","name":"","mtime":1700000007000,"size":8}],"user":null}"#;
    let listing = read(dufs);
    assert_eq!(lines(&listing), ["d/ 1700000007", "e/ 1700000007", "f 7 1700000007"]);
    assert_eq!(listing.left_out.refused, 1);

    let fastify = r#"{"dirs":[{"name":"d","stats":{"size":4096,"mtime":"2023-11-14T22:13:27.000Z"}}],
                      "files":[{"name":"f","stats":{"size":9,"mtime":"2023-11-14T22:13:20.123Z","mode":1}}]}"#;
    assert_eq!(lines(&read(fastify)), ["d/ 1700000007", "f 9 1700000000"]);

    let xml = "<list><other mtime=\"2023-11-14T22:13:20Z\">s</other>\
               <file mtime=\"2023-11-14T22:13:20Z\" size=\"3\">a&amp;amp;&lt;&#233;\n</file></list>";
    assert_eq!(
        lines(&read(xml)),
        ["s ? 1700000000", "a&amp;<\\xc3\\xa9\\n 3 1700000000"]
    );
}

/// With keys for its files, copyparty's links have a query.
#[test]
fn links_with_a_key_need_the_option() {
    let body = r#"{"dirs":[{"href":"d/?k=1","sz":1,"ts":1}],"files":[{"href":"a%3Fb?k=2","sz":1,"ts":1}],"perms":[]}"#;
    let listing = read(body);
    assert_eq!((listing.entries.len(), listing.left_out.queries), (0, 2));
    let config = ListingConfig {
        query_links: true,
        ..ListingConfig::default()
    };
    let listing = parse_with(body.as_bytes(), &config).unwrap().unwrap();
    let urls: Vec<String> = listing.entries.iter().map(|entry| entry.url.to_string()).collect();
    assert_eq!(urls, [format!("{PAGE}d/?k=1"), format!("{PAGE}a%3Fb?k=2")]);
    assert_eq!(lines(&listing), ["d/ 1", "a?b 1 1"]);
}

#[test]
fn an_array_may_be_written_by_hand() {
    let body = r#"[{"name": "d/", "mtime": "2023-11-14"}, {"name": "e", "type": "directory"},
                   {"name": "f", "size": 7, "mtime": 1700000000.75}, {"name": "g", "size": null, "type": "file"}]"#;
    let listing = read(body);
    let names: Vec<_> = listing
        .entries
        .iter()
        .map(|entry| entry.url.path().to_owned())
        .collect();
    assert_eq!(names, ["/corpus/d/", "/corpus/e/", "/corpus/f", "/corpus/g"]);
    let day = listing.entries.modified(0).unwrap();
    assert_eq!(
        (day.time, day.exact),
        (SystemTime::UNIX_EPOCH + Duration::from_secs(1_699_920_000), false)
    );
    assert_eq!(listing.entries.kind(2), EntryKind::File(ListedSize::Exact(7)));
}

#[test]
fn answers_of_other_apis_are_refused() {
    for (body, why) in [
        ("[1]", "expected an object for each name"),
        (r#"["a", "b"]"#, "expected an object for each name"),
        (r#"[{"id": 1, "title": "x"}]"#, "element 1 has no `name`"),
        (r#"[{"name": "ann", "id": 1}]"#, "element 1 has the key `id`"),
        (r#"[{"name": "ann"}]"#, "neither `type` nor `size` nor `mtime`"),
        (
            r#"[{"name": "a", "type": "file", "url": "https://api.example/a"}]"#,
            "the key `url`",
        ),
        (r#"[{"name": 7, "size": 1}]"#, "expected a string"),
        (r#"[{"name": "a", "type": "blob", "size": 1}]"#, "the `type` \"blob\""),
        (r#"[{"name": "a", "type": 1, "size": 1}]"#, "a `type` that is no text"),
        (r#"[{"name": "a", "size": "1"}]"#, "a `size` that is no number"),
        (
            r#"[{"name": "a", "size": 1, "mtime": {}}]"#,
            "an `mtime` that is no date",
        ),
        (
            r#"[{"name": "a", "size": 1}, {"name": "b", "url": "./b", "is_dir": false, "mod_time": "2023-11-14T22:13:20Z"}]"#,
            "element 2 is of another form than the first",
        ),
        (r#"{"error": "not found"}"#, "not the members"),
        (
            r#"{"paths": {"/pets": {"get": {}}}, "openapi": "3.0.0"}"#,
            "expected an array of names",
        ),
        (r#"{"paths": [], "kind": "Edit"}"#, "not the members"),
        (r#"{"files": ["a"]}"#, "not the members"),
        (r#"{"files": ["a"], "dirs": [], "page": 2}"#, "not the members"),
        (r#"{"files": [{"id": 1}], "dirs": []}"#, "neither a link nor a name"),
        (r#"{"dirs": [], "files": [{"name": "x"}]}"#, "neither a link nor a name"),
        ("<list><item mtime='1'>x</item></list>", "other elements"),
        ("<list><file>x</file></list>", "without `mtime`"),
        ("<list>x</list>", "more than names"),
        ("<list><file mtime='1'>x<b>y</b></file></list>", "more than names"),
    ] {
        let said = refusal(body);
        assert!(
            said.contains(why) && said.contains("no directory listing"),
            "{body}: {said}"
        );
    }
}

#[test]
fn a_cut_document_is_refused() {
    for whole in [
        r#"[{"name":"f","type":"file","size":5,"mtime":1700000000}]"#,
        r#"{"kind":"Index","paths":[{"path_type":"File","name":"f","mtime":1,"size":7}]}"#,
        "<list><file mtime=\"2023-11-14T22:13:20Z\" size=\"3\">a</file></list>",
    ] {
        read(whole);
        for end in 1..whole.len() {
            let cut = parse_with(&whole.as_bytes()[..end], &ListingConfig::default());
            assert!(!matches!(cut, Some(Ok(_))), "{}", &whole[..end]);
        }
        refusal(&format!("{whole}x"));
    }
}

#[test]
fn other_documents_are_left_to_others() {
    for body in [
        "",
        " ",
        "<!DOCTYPE html><a href=x>x</a>",
        "<?xml version=\"1.0\"?><!DOCTYPE html><html/>",
        "<?xml version=\"1.0\"?><ListBucketResult></ListBucketResult>",
        "null",
        "x",
    ] {
        assert_eq!(parse_with(body.as_bytes(), &ListingConfig::default()), None, "{body}");
    }
}

#[test]
fn a_name_is_one_component_and_is_there_once() {
    let body = r#"[{"name":"..","size":1},{"name":"a/b","size":1},{"name":"","size":1},{"name":"a\u0000","size":1},
                   {"name":"x","size":1},{"name":"x","size":2},{"name":"y","size":3},{"name":"y/","type":"directory"},
                   {"name":"z","type":"directory"},{"name":"z","size":1}]"#;
    let listing = read(body);
    assert_eq!(lines(&listing), ["x ? ?", "y/ ?", "z/ ?"]);
    let left_out = LeftOut {
        refused: 4,
        both: 2,
        ..LeftOut::default()
    };
    assert_eq!(listing.left_out, left_out);
}

#[test]
fn impossible_sizes_and_dates_are_unknown() {
    for value in [
        "-1",
        "1.5",
        "-1e300",
        "1e300",
        "18446744073709551615",
        "9223372036854775808",
    ] {
        let body = format!(r#"[{{"name":"a","type":"file","mtime":1,"size":{value}}}]"#);
        assert_eq!(lines(&read(&body)), ["a ? 1"], "{value}");
    }
    for value in [
        "\"soon\"",
        "\"\"",
        "-1e300",
        "1e300",
        "9223372036854775807",
        "-9223372036854775808",
        "253402300800",
    ] {
        let body = format!(r#"[{{"name":"a","type":"file","mtime":{value},"size":1}}]"#);
        assert_eq!(lines(&read(&body)), ["a 1 ?"], "{value}");
    }
}

#[test]
fn too_many_names_are_an_error() {
    let config = ListingConfig {
        max_entries: 2,
        ..ListingConfig::default()
    };
    let body = |names: &[&str]| {
        let elements: Vec<Value> = names.iter().map(|name| json!({"name": name, "size": 1})).collect();
        serde_json::to_vec(&elements).unwrap()
    };
    for (names, fits) in [
        (&["a", "b"][..], true),
        (&["a", "b", "b"], true),
        (&["a", "b", "c"], false),
        (&["a", "..", ".."], false),
    ] {
        let read = parse_with(&body(names), &config).unwrap();
        assert_eq!(read.is_ok(), fits, "{names:?}");
        assert!(fits || read == Err(NotAListing::TooManyNames(2)));
    }
}

/// Parts of documents, which get further than random bytes do.
const PARTS: [&str; 34] = [
    "[",
    "]",
    "{",
    "}",
    ",",
    ":",
    "\"",
    "null",
    "true",
    "1",
    "-1",
    "1.5",
    "\"name\":",
    "\"a\"",
    "\"type\":",
    "\"file\"",
    "\"directory\"",
    "\"size\":",
    "\"mtime\":",
    "\"2023-11-14T22:13:20Z\"",
    "\"url\":",
    "\"mod_time\":",
    "\"is_dir\":",
    "\"paths\":",
    "\"dirs\":",
    "\"files\":",
    "\"href\":",
    "\"kind\":\"Index\"",
    "\"perms\":[]",
    "\\udce9",
    "<list>",
    "</list>",
    "<file mtime=\"1\" size=\"1\">",
    "</file>",
];

fn any_document() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        12 => prop::sample::select(PARTS.to_vec()).prop_map(|part| part.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..6),
    ];
    let start = prop::sample::select(vec!["[", "[{", "{", "<list>", "[{\"name\":\"a\",\"size\":1},", ""]);
    (start, prop::collection::vec(part, 0..40)).prop_map(|(start, parts)| [start.as_bytes(), &parts.concat()].concat())
}

/// Bytes that are one path component.
fn safe_name() -> impl Strategy<Value = Vec<u8>> {
    let bytes = prop_oneof![
        prop::collection::vec(any::<u8>(), 1..40),
        "[ -~]{1,12}".prop_map(String::into_bytes),
        "\\PC{1,20}".prop_map(String::into_bytes),
        "[.%/?#&;:+ ~a2e<>\"'\\\\\t\n]{1,5}".prop_map(String::into_bytes),
    ];
    bytes.prop_filter("one component", |bytes| {
        Name::new(bytes.clone()).is_some_and(|name| name.as_bytes() == bytes)
    })
}

/// A string of JSON as nginx writes it: bytes as they are, but for what JSON must escape.
fn nginx_string(bytes: &[u8]) -> Vec<u8> {
    let mut text = vec![b'"'];
    for &byte in bytes {
        match byte {
            b'"' | b'\\' => text.extend([b'\\', byte]),
            0..0x20 => text.extend(format!("\\u{byte:04x}").into_bytes()),
            byte => text.push(byte),
        }
    }
    text.push(b'"');
    text
}

/// The text of an element as nginx writes it.
fn nginx_text(bytes: &[u8]) -> Vec<u8> {
    let escape = |&byte: &u8| match byte {
        b'<' => b"&lt;".to_vec(),
        b'>' => b"&gt;".to_vec(),
        b'&' => b"&amp;".to_vec(),
        b'"' => b"&quot;".to_vec(),
        byte => vec![byte],
    };
    bytes.iter().flat_map(escape).collect()
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(body in any_document()) {
        let page = Url::parse(PAGE).unwrap();
        if let Some(Ok(listing)) = parse(&page, &body, &ListingConfig::default()) {
            for entry in listing.entries.iter() {
                prop_assert!(Name::new(entry.name.as_bytes().to_vec()).is_some());
                let below = entry.url.as_str().strip_prefix(PAGE).unwrap();
                prop_assert!(!below.trim_end_matches('/').contains('/'), "{}", entry.url);
            }
        }
    }

    #[test]
    fn what_nginx_would_write_is_read_back(
        files in prop::collection::btree_map(safe_name(), (any::<bool>(), 0..=i64::MAX as u64, 0u64..4_000_000_000), 0..12)
    ) {
        let (mut json, mut xml) = (b"[\r\n".to_vec(), b"<?xml version=\"1.0\"?>\r\n<list>\r\n".to_vec());
        for (index, (name, (is_directory, size, seconds))) in files.iter().enumerate() {
            let date = SystemTime::UNIX_EPOCH + Duration::from_secs(*seconds);
            let (kind, of_file) = if *is_directory { ("directory", false) } else { ("file", true) };
            let comma = if index > 0 { ",\r\n" } else { "" };
            json.extend(format!("{comma}{{ \"name\":").into_bytes());
            json.extend(nginx_string(name));
            json.extend(format!(", \"type\":\"{kind}\", \"mtime\":\"{}\"", httpdate::fmt_http_date(date)).into_bytes());
            json.extend(if of_file { format!(", \"size\":{size} }}") } else { " }".to_owned() }.into_bytes());
            let attribute = if of_file { format!(" size=\"{size}\"") } else { String::new() };
            let date = humantime::format_rfc3339_seconds(date);
            xml.extend(format!("<{kind} mtime=\"{date}\"{attribute}>").into_bytes());
            xml.extend(nginx_text(name));
            xml.extend(format!("</{kind}>\r\n").into_bytes());
        }
        json.extend(b"\r\n]");
        xml.extend(b"</list>\r\n");
        for body in [json, xml] {
            let listing = read(&body);
            prop_assert_eq!(listing.entries.len(), files.len());
            for (entry, (name, (is_directory, size, seconds))) in listing.entries.iter().zip(&files) {
                prop_assert_eq!(entry.name.as_bytes(), &name[..]);
                prop_assert_eq!(entry.kind, EntryKind::of(*is_directory, ListedSize::Exact(*size)));
                let date = SystemTime::UNIX_EPOCH + Duration::from_secs(*seconds);
                prop_assert_eq!(entry.modified.map(|listed| listed.time), Some(date));
                let below = entry.url.as_str().strip_prefix(PAGE).unwrap();
                let below = below.strip_suffix('/').filter(|_| *is_directory).unwrap_or(below);
                prop_assert_eq!(percent_decode_str(below).collect::<Vec<u8>>(), &name[..]);
            }
        }
    }
}
