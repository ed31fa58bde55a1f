//! The pages of ninety server set-ups over one corpus (`tests/fixtures/servers/`), compared with the corpus.
//!
//! `corpus.tsv` there has the expected values: page, name, size, date. The result is the table in `docs/servers.md`;
//! the test fails if the two differ. `UPDATE_DOCS=1 cargo test --lib tests::servers` regenerates it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use percent_encoding::percent_decode_str;

use super::super::size::agree;
use super::*;
use crate::source::web_index::data_index;

/// Servers whose pages are not at the top of their URL.
const PREFIXES: [(&str, &str); 1] = [("aiohttp", "s/")];

/// The pages of the corpus that are compared.
const PAGES: [&str; 6] = ["root", "names", "sizes", "dates", "dirs", "types"];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/servers")
}

/// A name of the corpus.
struct Truth {
    size: Option<u64>,
    date: SystemTime,
}

/// The names of each page, a `/` after a directory's.
fn truth() -> BTreeMap<String, BTreeMap<Vec<u8>, Truth>> {
    let text = fs::read_to_string(folder().join("corpus.tsv")).unwrap();
    let mut pages: BTreeMap<String, BTreeMap<Vec<u8>, Truth>> = BTreeMap::new();
    for line in text.lines() {
        let fields: Vec<&str> = line.split('\t').collect();
        let [page, name, size, date] = fields[..] else {
            panic!("{line}")
        };
        let truth = Truth {
            size: size.parse().ok(),
            date: humantime::parse_rfc3339(date).unwrap(),
        };
        let name = percent_decode_str(name).collect();
        pages.entry(page.to_owned()).or_default().insert(name, truth);
    }
    pages
}

/// An answer's status, type and charset.
struct Head {
    status: String,
    content_type: String,
    charset: Option<String>,
}

fn head(server: &str, page: &str) -> Head {
    let text = fs::read(folder().join(format!("{server}.{page}.head"))).unwrap();
    let text = String::from_utf8_lossy(&text);
    let status = text.split_whitespace().nth(1).unwrap_or_default().to_owned();
    let content_type = text
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-type"))
        .map(|(_, value)| value.trim().to_owned())
        .unwrap_or_default();
    let charset = content_type
        .split_once("charset=")
        .map(|(_, charset)| charset.trim_matches('"').to_owned());
    Head {
        status,
        content_type,
        charset,
    }
}

/// Servers whose listings in JSON are recorded beside their pages, and how the table calls them.
const IN_JSON: [(&str, &str); 6] = [
    ("caddy", "caddy, JSON"),
    ("copyparty", "copyparty, JSON"),
    ("fastify", "fastify, JSON"),
    ("fastify-extended", "fastify, extended JSON"),
    ("lighttpd", "lighttpd 1.4.85, JSON"),
    ("sws", "sws, JSON"),
];

/// The listing that the recorded server sent in JSON.
fn read_json(server: &str, page: &str) -> Result<Listing, String> {
    let url = Url::parse(PAGE).unwrap();
    let file = folder().join(format!("json/{server}.{page}.json"));
    let body = fs::read(&file).map_err(|_| "not recorded")?;
    let read = data_index::parse(&url, &body, &ListingConfig::default()).ok_or("not JSON")?;
    read.map_err(|error| error.to_string())
}

fn read_page(server: &str, page: &str) -> Result<Listing, String> {
    if let Some((file, _)) = IN_JSON.iter().find(|(_, name)| *name == server) {
        return read_json(file, page);
    }
    let head = head(server, page);
    if head.status != "200" {
        return Err(format!("status {}", head.status));
    }
    let body = fs::read(folder().join(format!("{server}.{page}.html"))).map_err(|error| error.to_string())?;
    let prefix = PREFIXES
        .iter()
        .find(|(of, _)| *of == server)
        .map_or("", |(_, prefix)| prefix);
    let directory = if page == "root" {
        String::new()
    } else {
        format!("{page}/")
    };
    let url = Url::parse(&format!("http://origin.test/{prefix}{directory}")).unwrap();
    if let Some(listing) = data_index::parse(&url, &body, &ListingConfig::default()) {
        return listing.map_err(|error| error.to_string());
    }
    if !head.content_type.starts_with("text/html") {
        return Err(head.content_type);
    }
    parse(&url, &body, head.charset.as_deref()).map_err(|error| error.to_string())
}

fn servers() -> BTreeSet<String> {
    let files = fs::read_dir(folder()).unwrap();
    let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    names
        .filter_map(|name| name.strip_suffix(".root.head").map(str::to_owned))
        .chain(IN_JSON.map(|(_, name)| name.to_owned()))
        .collect()
}

/// The result for one server's pages.
#[derive(Default)]
struct Reading {
    /// Names that are read, and those that exist on pages that the server gave.
    names: usize,
    all: usize,
    missing: Vec<Vec<u8>>,
    extra: Vec<Vec<u8>>,
    exact: usize,
    rounded: usize,
    without_size: usize,
    dates: usize,
    without_date: usize,
    /// Dates that are wrong by whole hours, because they are in the server's local time.
    local_dates: usize,
}

impl Reading {
    /// Reads all pages of a server.
    ///
    /// # Panics
    /// At a wrong size or date.
    fn of(server: &str, truth: &BTreeMap<String, BTreeMap<Vec<u8>, Truth>>) -> Result<Reading, String> {
        let mut reading = Reading::default();
        for page in PAGES {
            match read_page(server, page) {
                Ok(listing) => reading.compare(&format!("{server}.{page}"), &listing, &truth[page]),
                Err(error) if page == "root" => return Err(error),
                Err(_) => {}
            }
        }
        Ok(reading)
    }

    fn compare(&mut self, of: &str, listing: &Listing, truth: &BTreeMap<Vec<u8>, Truth>) {
        let mut found = BTreeSet::new();
        self.all += truth.len();
        for entry in listing.entries.iter() {
            let mut name = entry.name.as_bytes().to_vec();
            if entry.kind == EntryKind::Directory {
                name.push(b'/');
            }
            let Some(truth) = truth.get(&name) else {
                self.extra.push(name);
                continue;
            };
            self.names += 1;
            found.insert(name);
            match (entry.kind, truth.size) {
                (EntryKind::File(ListedSize::Unknown), _) => self.without_size += 1,
                (EntryKind::File(ListedSize::Exact(size)), Some(is)) => {
                    assert_eq!(size, is, "{of}: {entry:?}");
                    self.exact += 1;
                }
                (EntryKind::File(size), Some(is)) => {
                    assert!(agree(size, is), "{of}: {entry:?} has {is}");
                    self.rounded += 1;
                }
                _ => {}
            }
            self.compare_date(of, &entry, truth.date);
        }
        self.missing
            .extend(truth.keys().filter(|name| !found.contains(*name)).cloned());
    }

    fn compare_date(&mut self, of: &str, entry: &Entry, is: SystemTime) {
        let Some(listed) = entry.modified else {
            return self.without_date += 1;
        };
        let seconds = |time: SystemTime| {
            let since = time.duration_since(SystemTime::UNIX_EPOCH);
            since.map_or_else(
                |before| -(before.duration().as_secs() as i64),
                |after| after.as_secs() as i64,
            )
        };
        let (shown, is) = (seconds(listed.time), seconds(is));
        let precision = match listed {
            ListedTime { exact: true, .. } => 1,
            _ if shown % 86_400 == 0 => 86_400,
            _ => 60,
        };
        if shown / precision == is / precision {
            self.dates += 1;
        } else {
            let hours = (shown - is / precision * precision) as f64 / 3600.0;
            assert!(hours.fract() == 0.0 && hours.abs() <= 14.0, "{of}: {entry:?} is {is}");
            self.local_dates += 1;
        }
    }

    /// The reasons for missing names, as far as the pages show them.
    fn reasons(&self) -> Vec<String> {
        let mut reasons = Vec::new();
        let is_flat = |name: &[u8]| name.last() == Some(&b'/') && self.extra.contains(&name[..name.len() - 1].to_vec());
        let (hidden, rest): (Vec<_>, Vec<_>) = self.missing.iter().partition(|name| name.starts_with(b"."));
        let (flat, unescaped): (Vec<_>, Vec<_>) = rest.into_iter().partition(|name| is_flat(name));
        if !hidden.iter().all(|name| is_flat(name)) {
            reasons.push("it hides names that begin with a dot".to_owned());
        }
        if !flat.is_empty() {
            reasons.push(
                "it lists directories as it lists files: which they are shows when they are looked into".to_owned(),
            );
        }
        if !unescaped.is_empty() {
            let mut shown: Vec<_> = unescaped
                .iter()
                .map(|name| format!("`{}`", name.escape_ascii().to_string().replace('|', "\\|")))
                .collect();
            let more = shown.len().saturating_sub(4);
            shown.truncate(4);
            let more = if more > 0 {
                format!(" and {more} more")
            } else {
                String::new()
            };
            reasons.push(format!("its links do not lead to {}{more}", shown.join(", ")));
        }
        if self.local_dates > 0 {
            reasons.push("its dates are local time and name no zone".to_owned());
        }
        reasons
    }
}

/// Remarks that the pages do not show.
const REMARKS: [(&str, &str); 19] = [
    (
        "apache-aptmirror",
        "another directory, which is read: a text above its table is no part of it",
    ),
    ("apache-nodate", "it shows no dates"),
    ("apache-nosize", "it shows no sizes"),
    ("apache-plain", "it shows neither sizes nor dates"),
    (
        "copyparty",
        "coloured text for what is no browser; JSON is asked for instead",
    ),
    ("copyparty-moz", "likewise"),
    ("dufs", "its pages without scripts; JSON is asked for instead"),
    ("dufs-all", "likewise"),
    ("caddy", "JSON comes instead, because it is accepted"),
    ("caddy-gzip", "likewise"),
    ("caddy2.11", "likewise"),
    ("fancyindex-time1", "years of two digits are not read"),
    ("lighttpd-excl", "it hides what it is configured to"),
    ("pypiserver", "a home page, whose two links are read"),
    (
        "rack",
        "below its top, links lead to `/sizes//sizes/…`; they are counted as left out",
    ),
    ("servefile", "it leaves out what it can't show"),
    ("twisted", "an error instead of the page of awkward names"),
    ("webfs", "recent dates have no year and are not read"),
    (
        "yaws",
        "names in Latin-1 where it says UTF-8; `all.zip` is shown in an empty directory",
    ),
];

/// A line of the table.
fn line_of(server: &str, truth: &BTreeMap<String, BTreeMap<Vec<u8>, Truth>>) -> String {
    let remark = REMARKS
        .iter()
        .find(|(of, _)| *of == server)
        .map(|(_, remark)| (*remark).to_owned());
    let reading = match Reading::of(server, truth) {
        Ok(reading) => reading,
        Err(why) => {
            let why = [Some(why), remark].into_iter().flatten().collect::<Vec<_>>().join("; ");
            return format!("| {server} | – | – | – | – | {why} |");
        }
    };
    let of_names = |number: usize| match number {
        0 => "none".to_owned(),
        _ if number == reading.names => "all".to_owned(),
        _ => number.to_string(),
    };
    let sizes = match (reading.exact, reading.rounded) {
        (0, 0) => "none".to_owned(),
        (exact, 0) => format!("{exact} exact"),
        (0, rounded) => format!("{rounded} rounded"),
        (exact, rounded) => format!("{exact} exact, {rounded} rounded"),
    };
    let empty = match read_page(server, "empty") {
        Ok(listing) if listing.entries.is_empty() && listing.is_marked => "marked",
        Ok(listing) if listing.entries.is_empty() => "by its parent",
        Ok(_) => "no",
        Err(_) => "–",
    };
    let ghosts = reading.extra.len();
    let ghosts = if ghosts > 0 {
        format!(", {ghosts} other")
    } else {
        String::new()
    };
    let reasons = remark
        .into_iter()
        .chain(reading.reasons())
        .collect::<Vec<_>>()
        .join("; ");
    format!(
        "| {server} | {} of {}{ghosts} | {sizes} | {} | {empty} | {reasons} |",
        reading.names,
        reading.all,
        of_names(reading.dates + reading.local_dates)
    )
}

#[test]
fn what_is_read_of_every_servers_pages_is_in_the_docs() {
    const BEGIN: &str = "<!-- what is read of every server: begin -->\n";
    const END: &str = "<!-- what is read of every server: end -->\n";
    let truth = truth();
    let lines: Vec<String> = servers().iter().map(|server| line_of(server, &truth)).collect();
    let table = format!(
        "| server | names | sizes | dates | empty directory | why not all |\n|---|---|---|---|---|---|\n{}\n",
        lines.join("\n")
    );
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/servers.md");
    let text = fs::read_to_string(&docs).unwrap();
    let (before, rest) = text.split_once(BEGIN).unwrap();
    let (written, after) = rest.split_once(END).unwrap();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&docs, format!("{before}{BEGIN}{table}{END}{after}")).unwrap();
    } else {
        for (is, should_be) in written.lines().zip(table.lines()) {
            assert_eq!(is, should_be, "UPDATE_DOCS=1 writes the table of docs/servers.md anew");
        }
        assert_eq!(written, table, "UPDATE_DOCS=1 writes the table of docs/servers.md anew");
    }
}
