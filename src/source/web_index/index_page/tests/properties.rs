//! Properties of every page.

use percent_encoding::{AsciiSet, CONTROLS, NON_ALPHANUMERIC, percent_encode};
use proptest::prelude::*;

use super::*;
use crate::source::{NAME_MAX, Name};

/// The characters that Apache escapes in a path (`T_OS_ESCAPE_PATH` in its `gen_test_char.c`): all but these.
const APACHE: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'[')
    .add(b'\\')
    .add(b']')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}')
    .add(b'/');

/// `ngx_escape_uri` with `NGX_ESCAPE_URI_COMPONENT`: all but the unreserved characters.
const NGINX: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Parts of index pages, which get further than random bytes do.
const PARTS: [&str; 66] = [
    "<a href=",
    "<a href='x'>",
    "<a href=\"../\">",
    "<a href='?C=N;O=D'>",
    "</a>",
    "<pre>",
    "</pre>",
    "<table>",
    "</table>",
    "<tr>",
    "<td>",
    "<th>",
    "<td data-order=12>",
    "<td colspan=99999999999>",
    "<td colspan=18446744073709551615>",
    "<br>",
    "<li>",
    "<hr>",
    "<title>",
    "</title>",
    "<h1>",
    "Index of /",
    "Name",
    "Size",
    "Last modified",
    "<time datetime='",
    "<data value=7>",
    "<base href='/'>",
    "<base href=':'>",
    "2026-11-22 12:00",
    "22-Nov-2026 12:00:59",
    "12K",
    "1.5 MiB",
    "512 ",
    "-",
    "&amp;",
    "&nbsp",
    "&#",
    "<script>",
    "</script>",
    "<!--",
    "-->",
    "\n",
    "\u{feff}",
    "'",
    ">",
    "%2f",
    "é",
    "<ul>",
    "</ul>",
    "</li>",
    "</tr>",
    "</td>",
    "<div>",
    "</div>",
    "<span class=size>",
    "<div class=date>",
    "</span>",
    "<i class='icon-folder'>",
    "<img alt='[DIR]'>",
    "<a href='x/?noscript'>",
    "<a href='?path=x'>",
    "<a href='/store/x'>",
    "11/12/2026 1:02 PM ",
    "Nov 22 12:00:00 2026",
    "1,234 bytes",
];

fn any_page() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        8 => prop::sample::select(PARTS.to_vec()).prop_map(|part| part.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..8),
        1 => "[a-z/.%:?#]{0,6}".prop_map(String::into_bytes),
    ];
    prop::collection::vec(part, 0..60).prop_map(|parts| parts.concat())
}

/// Bytes that are one path component, of any length that one may have.
fn safe_name() -> impl Strategy<Value = Vec<u8>> {
    let bytes = prop_oneof![
        prop::collection::vec(any::<u8>(), 1..=NAME_MAX),
        "[ -~]{1,12}".prop_map(String::into_bytes),
        "\\PC{1,20}".prop_map(String::into_bytes),
        "[.%/?#&;:+ ~a2e<>\"'\\\\]{1,5}".prop_map(String::into_bytes),
    ];
    bytes
        .prop_filter("one component", |bytes| {
            Name::new(bytes.clone()).is_some_and(|name| name.as_bytes() == bytes)
        })
        .prop_filter("not Python's way to write a byte", |bytes| {
            !bytes
                .windows(2)
                .any(|pair| pair == [0xed, 0xb2] || pair == [0xed, 0xb3])
        })
}

/// Name, size, whether it is a directory.
type File = (Vec<u8>, u64, bool);

/// The files of a directory, each name once.
fn directory() -> impl Strategy<Value = Vec<File>> {
    prop::collection::hash_map(safe_name(), (0..=i64::MAX as u64, any::<bool>()), 0..20).prop_map(|files| {
        files
            .into_iter()
            .map(|(name, (size, directory))| (name, size, directory))
            .collect()
    })
}

fn html(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

fn visible(name: &[u8]) -> String {
    html(&String::from_utf8_lossy(name))
}

fn nginx_page(files: &[File]) -> String {
    let rows = files.iter().map(|(name, size, directory)| {
        let slash = if *directory { "/" } else { "" };
        let size = if *directory { "-".to_owned() } else { size.to_string() };
        let (href, name) = (percent_encode(name, NGINX), visible(name));
        format!("<a href=\"{href}{slash}\">{name}{slash}</a> 22-Nov-2026 12:00 {size:>19}\r\n")
    });
    let head = "<html><head><title>Index of /corpus/</title></head><body><h1>Index of /corpus/</h1><hr><pre>";
    format!(
        "{head}<a href=\"../\">../</a>\r\n{}</pre><hr></body></html>",
        rows.collect::<String>()
    )
}

/// With `HTMLTable` and `IconsAreLinks`.
fn apache_page(files: &[File]) -> String {
    let rows = files.iter().map(|(name, size, directory)| {
        let slash = if *directory { "/" } else { "" };
        let size = if *directory {
            "  - ".to_owned()
        } else {
            format!("{:>3} ", size % 973)
        };
        let href = percent_encode(name, APACHE).to_string();
        let colon = if href.contains(':') { "./" } else { "" };
        let (href, name) = (html(&format!("{colon}{href}{slash}")), visible(name));
        let icon = format!("<td valign=\"top\"><a href=\"{href}\"><img alt=\"[   ]\"></a></td>");
        let date = "<td align=\"right\">2026-11-22 12:00  </td>";
        format!("<tr>{icon}<td><a href=\"{href}\">{name}</a></td>{date}<td align=\"right\">{size}</td></tr>\n")
    });
    let head = "<th>&nbsp;</th><th><a href=\"?C=N;O=D\">Name</a></th><th>Last modified</th><th>Size</th>";
    let rule = "<tr><th colspan=\"4\"><hr></th></tr>";
    format!("<table><tr>{head}</tr>\n{rule}\n{}</table>", rows.collect::<String>())
}

/// Checks for the listing of `files`, with sizes as `page` shows them.
fn check(page: &str, files: &[File], shown: impl Fn(u64) -> u64) -> Result<(), TestCaseError> {
    let listing = read(page).map_err(|error| TestCaseError::fail(error.to_string()))?;
    prop_assert_eq!(listing.left_out.refused, 0);
    prop_assert_eq!(listing.entries.len(), files.len());
    for (entry, (name, size, directory)) in listing.entries.iter().zip(files) {
        let kind = if *directory {
            EntryKind::Directory
        } else {
            EntryKind::File(ListedSize::Exact(shown(*size)))
        };
        prop_assert_eq!(entry.name.as_bytes(), name);
        prop_assert_eq!(entry.kind, kind);
        prop_assert_eq!(entry.modified.map(shown_date), Some("2026-11-22 12:00".to_owned()));
        check_entry(&entry)?;
        let segment = entry
            .url
            .path_segments()
            .and_then(|segments| segments.rev().find(|part| !part.is_empty()));
        let asked: Vec<u8> = percent_encoding::percent_decode_str(segment.unwrap_or_default()).collect();
        prop_assert_eq!(&asked, name, "the URL asks for the name");
    }
    Ok(())
}

/// The guarantees for every entry of every page.
fn check_entry(entry: &Entry) -> Result<(), TestCaseError> {
    prop_assert!(Name::new(entry.name.as_bytes().to_vec()).as_ref() == Some(&entry.name));
    let page = Url::parse(PAGE).unwrap();
    prop_assert_eq!(entry.url.origin(), page.origin());
    prop_assert_eq!((entry.url.query(), entry.url.fragment()), (None, None));
    let below = entry.url.path().strip_prefix(page.path()).unwrap_or_default();
    prop_assert_eq!(below.ends_with('/'), entry.kind == EntryKind::Directory);
    let segment = below.strip_suffix('/').unwrap_or(below);
    prop_assert!(!segment.is_empty() && !segment.contains('/'), "{}", entry.url);
    // Parsing it again gives the same URL.
    prop_assert_eq!(Url::parse(entry.url.as_str()), Ok(entry.url.clone()));
    Ok(())
}

proptest! {
    #[test]
    fn an_nginx_page_gives_back_what_it_was_made_of(files in directory()) {
        check(&nginx_page(&files), &files, |size| size)?;
    }

    #[test]
    fn an_apache_page_gives_back_what_it_was_made_of(files in directory()) {
        check(&apache_page(&files), &files, |size| size % 973)?;
    }

    #[test]
    fn any_bytes_at_all_are_read(body in prop::collection::vec(any::<u8>(), 0..2000), charset in "[a-z0-9-]{0,12}") {
        let _ = parse(&Url::parse(PAGE).unwrap(), &body, Some(&charset));
    }

    #[test]
    fn every_entry_is_one_level_below_at_the_same_origin(body in any_page()) {
        if let Ok(listing) = parse(&Url::parse(PAGE).unwrap(), &body, None) {
            for entry in listing.entries.iter() {
                check_entry(&entry)?;
            }
            let mut names: Vec<Name> = listing.entries.iter().map(|entry| entry.name).collect();
            names.sort();
            names.dedup();
            prop_assert_eq!(names.len(), listing.entries.len());
        }
    }
}

proptest! {
    #[test]
    fn dates_and_sizes_are_read_of_any_text(text in "([0-9]{1,5}|[-/.,: TZ+]|Nov|Tue|PM|GMT|\\[|\\]|\\PC){0,14}") {
        if let Some((_, rest)) = crate::source::listing::date::read(&text) {
            prop_assert!(text.ends_with(rest));
        }
        if let Some((_, rest)) = super::super::size::read(&text) {
            prop_assert!(text.ends_with(rest));
        }
    }
}

/// A page of `count` files, as nginx writes it.
fn big_page(count: usize) -> String {
    let rows: String = (0..count)
        .map(|n| format!("<a href=\"f{n}\">f{n}</a>  22-Nov-2026 12:00  {n}\r\n"))
        .collect();
    format!("<h1>Index of /</h1><pre>{rows}</pre>")
}

#[test]
fn a_long_listing_is_read_whole() {
    let listing = read(&big_page(20_000)).unwrap();
    assert_eq!(listing.entries.len(), 20_000);
    assert!(
        listing
            .entries
            .iter()
            .enumerate()
            .all(|(n, entry)| size(entry) == ListedSize::Exact(n as u64))
    );
}

/// Pages that would take hours if the time were quadratic; html5ever alone takes that long for the first.
#[test]
fn hostile_pages_are_read_in_linear_time() {
    const BIG: usize = 50_000;
    let attributes: String = (0..BIG).map(|n| format!(" a{n}")).collect();
    assert_eq!(read(&format!("<a{attributes} href=x>")), Err(NotAnIndex::EndlessTag));
    for part in [
        "<a href=x>",
        "<a href=",
        "<td>",
        "<",
        "&",
        "<tr><td colspan=9>",
        "\n",
        "<!--",
        "<a href=../>",
    ] {
        let page = format!("<title>Index of /</title><pre>{}", part.repeat(BIG));
        assert!(read(&page).map_or(true, |listing| listing.entries.len() <= 1), "{part}");
    }
    assert!(read(&format!("<pre><a href=x>x</a>{}2026-11-22", " 2026-11-22 ".repeat(BIG))).is_ok());
    assert_eq!(
        read(&format!("<a href={}>x</a>", "x".repeat(BIG))).map(|listing| listing.left_out.refused),
        Ok(1)
    );
}
