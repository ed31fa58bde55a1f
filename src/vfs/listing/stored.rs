//! The stored form of a listing: one line for each name.
//!
//! ```text
//! d TAB href TAB date TAB name
//! f SIZE TAB href TAB date TAB name
//! ```
//!
//! - A first line `k KIND` names the kind of the source that listed it, unless that is `index`.
//! - A line `v VALIDATOR` before the names has the validator by which the server can tell whether the listing has
//!   changed. It is left out if the listing has links that are not shown, because their number is not stored.
//! - `SIZE` is `123`, `~123` (rounded) or `?`.
//! - The date is in nanoseconds since 1970, or `-`. A `~` before it means that the page has no seconds.
//! - The href is the part of the entry's URL after the directory's URL. An entry elsewhere (a directory that
//!   redirects), or one whose part begins with `=`, has its whole URL after a `=`.
//! - URLs have no control characters, and few names do. Such a name is left empty, and follows percent-encoded after
//!   another TAB. So the `sqlite3` shell shows every line.
//! - What else the source publishes of a file follows as JSON after one more TAB, and the name is percent-encoded then.
//!
//! A listing whose links have credentials, or a query that is not [harmless](super::harmless_query), is not stored: they
//! may be secret, and without them the files could not be fetched. A listing with links to other origins is not stored either: another mount over the same
//! cache must not be led to follow them.

use std::fmt::Write;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::time::SystemTime;

use percent_encoding::{NON_ALPHANUMERIC, percent_decode, percent_encode};
use serde::{Deserialize, Serialize};
use url::Url;

use super::harmless_query::is_harmless;
use crate::cache::{Cache, StoredListing};
use crate::http::Validator;
use crate::origin::{Hash, HashAlgorithm, Pieces, Published};
use crate::source::library::KnownListings;
use crate::source::{Entries, Entry, EntryKind, INDEX, LIBRARY, ListedSize, ListedTime, Listing, Name};
use crate::vfs::nodes::file_text::{DateText, SizeText};

/// Capacity per line in bytes, so that a text of megabytes need not grow often.
const LINE: usize = 80;

/// The beginning of the line with the kind.
const KIND: &str = "k ";

/// The beginning of the line with the validator.
const VALIDATOR: &str = "v ";

/// The stored form of a listing by a source of this kind; `None` if it contains links that must not be stored.
pub(in crate::vfs) fn write(directory: &Url, kind: &str, listing: &Listing) -> Option<StoredListing> {
    if listing.has_external {
        return None;
    }
    let entries = &listing.entries;
    let has_login = |url: &Url| !url.username().is_empty() || url.password().is_some();
    if Url::parse(entries.base()).is_ok_and(|base| has_login(&base)) {
        return None;
    }
    let mut names = Vec::with_capacity(entries.len() * LINE);
    if kind != INDEX {
        names.extend_from_slice(format!("{KIND}{kind}\n").as_bytes());
    }
    if listing.validator != Validator::None && listing.left_out.is_nothing() {
        names.extend_from_slice(format!("{VALIDATOR}{}\n", listing.validator.to_key()).as_bytes());
    }
    let (mut line, mut address) = (String::new(), String::new());
    for at in 0..entries.len() {
        let (link, is_below) = entries.link(at);
        if !is_below || link.contains('?') {
            let url = entries.url(at);
            if has_login(&url) || !is_harmless(&url, entries.name(at).as_bytes(), directory) {
                return None;
            }
        }
        line.clear();
        // Writing to a string does not fail.
        let _ = match entries.kind(at) {
            EntryKind::Directory => write!(line, "d"),
            EntryKind::File(size) => write!(line, "{}", SizeText(size)),
        };
        address.clear();
        entries.write_url(at, &mut address);
        let rest = address.strip_prefix(directory.as_str());
        let _ = match rest.filter(|rest| !rest.starts_with('=')) {
            Some(rest) => write!(line, "\t{rest}\t"),
            None => write!(line, "\t={address}\t"),
        };
        let _ = write!(line, "{}\t", DateText(entries.modified(at)));
        names.extend_from_slice(line.as_bytes());
        let name = entries.name(at).as_bytes();
        let published = entries.published(at);
        if published.is_some() || name.iter().any(u8::is_ascii_control) {
            names.push(b'\t');
            names.extend(percent_encode(name, NON_ALPHANUMERIC).flat_map(str::bytes));
        } else {
            names.extend_from_slice(name);
        }
        if let Some(published) = published {
            if published
                .alternates
                .iter()
                .any(|url| url.query().is_some() || has_login(url))
            {
                return None;
            }
            names.push(b'\t');
            names.extend(published_text(published).bytes());
        }
        names.push(b'\n');
    }
    Some(StoredListing {
        names,
        modified: listing.modified,
    })
}

/// Parses a stored listing; `None` if it is malformed, or by a source of another kind.
pub(in crate::vfs) fn read(directory: &Url, kind: &str, stored: &StoredListing) -> Option<Listing> {
    let mut lines = stored
        .names
        .split(|&byte| byte == b'\n')
        .filter(|line| !line.is_empty())
        .peekable();
    let stored_kind = lines.peek().and_then(|line| line.strip_prefix(KIND.as_bytes()));
    if stored_kind.unwrap_or(INDEX.as_bytes()) != kind.as_bytes() {
        return None;
    }
    if stored_kind.is_some() {
        lines.next();
    }
    let mut listing = listing_of(directory, stored.modified);
    if kind == LIBRARY {
        // Its files have the URLs of their servers, and names with URLs below the base take the least memory.
        let file = lines.clone().find(|line| line.starts_with(b"f"));
        if let Some(Entry { url, .. }) = file.and_then(|line| read_line(directory, line)) {
            listing.entries = Entries::of(&url);
        }
    }
    let validator = lines.peek().and_then(|line| line.strip_prefix(VALIDATOR.as_bytes()));
    if let Some(validator) = validator {
        listing.validator = Validator::parse(std::str::from_utf8(validator).ok()?)?;
        lines.next();
    }
    for line in lines {
        let is_taken = listing.entries.push(&read_line(directory, line)?);
        is_taken.then_some(())?;
    }
    listing.entries.shrink_to_fit();
    Some(listing)
}

/// The listings of a library's directories in the index.
pub(crate) struct StoredListings(pub Arc<Cache>);

impl KnownListings for StoredListings {
    fn last_known(&self, directory: &Url) -> Option<Listing> {
        read(directory, LIBRARY, &self.0.catalog().listing(directory)?)
    }
}

/// A stored listing without names, of a source of this kind.
pub(in crate::vfs) fn write_kind(kind: &str) -> StoredListing {
    StoredListing {
        names: format!("{KIND}{kind}\n").into_bytes(),
        modified: None,
    }
}

/// The kind in a stored listing that [`write_kind`] has written.
pub(in crate::vfs) fn read_kind(stored: &StoredListing) -> Option<String> {
    let text = std::str::from_utf8(&stored.names).ok()?;
    Some(text.strip_prefix(KIND)?.strip_suffix('\n')?.to_owned())
}

/// A listing without names.
pub(super) fn listing_of(directory: &Url, modified: Option<SystemTime>) -> Listing {
    Listing {
        modified,
        ..Listing::of(Entries::of(directory))
    }
}

fn read_line(directory: &Url, line: &[u8]) -> Option<Entry> {
    let mut fields = line.split(|&byte| byte == b'\t');
    let mut text = || std::str::from_utf8(fields.next()?).ok();
    let kind = match text()? {
        "d" => EntryKind::Directory,
        "f ?" => EntryKind::File(ListedSize::Unknown),
        file => {
            let size = file.strip_prefix("f ")?;
            EntryKind::File(match size.strip_prefix('~') {
                Some(rounded) => ListedSize::Rounded(rounded.parse().ok()?),
                None => ListedSize::Exact(size.parse().ok()?),
            })
        }
    };
    let href = text()?;
    let url = match href.strip_prefix('=') {
        Some(elsewhere) => Url::parse(elsewhere).ok()?,
        None => Url::parse(&format!("{directory}{href}")).ok()?,
    };
    let modified = match text()? {
        "-" => None,
        date => {
            let digits = date.strip_prefix('~');
            Some(ListedTime {
                time: time(digits.unwrap_or(date).parse().ok()?)?,
                exact: digits.is_none(),
            })
        }
    };
    let name = match fields.next()? {
        b"" => percent_decode(fields.next()?).collect(),
        name => name.to_vec(),
    };
    let name = Name::new(name)?;
    let published = match fields.next() {
        Some(text) => Some(Arc::new(read_published(text)?)),
        None => None,
    };
    fields.next().is_none().then_some(Entry {
        name,
        url,
        kind,
        modified,
        published,
    })
}

/// The JSON form of [`Published`].
#[derive(Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct StoredPublished {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    alternates: Vec<String>,
    /// Algorithm and hexadecimal digest.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    hashes: Vec<(String, String)>,
    /// Bytes of a piece, algorithm, and all digests in one text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pieces: Option<(u64, String, String)>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    headers: Vec<(String, String)>,
}

fn published_text(published: &Published) -> String {
    let pieces = published.pieces.as_ref().and_then(|pieces| {
        let algorithm = pieces.hashes.first()?.algorithm.to_string();
        let digests = pieces.hashes.iter().map(Hash::to_string).collect();
        Some((pieces.length, algorithm, digests))
    });
    let hash = |hash: &Hash| (hash.algorithm.to_string(), hash.to_string());
    let stored = StoredPublished {
        alternates: published.alternates.iter().map(Url::to_string).collect(),
        hashes: published.hashes.iter().map(hash).collect(),
        pieces,
        headers: published.headers.clone(),
    };
    // It has nothing but texts and numbers, so it can't fail; and JSON has no control characters.
    serde_json::to_string(&stored).unwrap_or_default()
}

fn read_published(text: &[u8]) -> Option<Published> {
    let stored: StoredPublished = serde_json::from_slice(text).ok()?;
    let hash = |(algorithm, digest): &(String, String)| Hash::from_hex(HashAlgorithm::named(algorithm)?, digest);
    let pieces = match &stored.pieces {
        None => None,
        Some((length, algorithm, digests)) => {
            let algorithm = HashAlgorithm::named(algorithm)?;
            let digests = digests.as_bytes().chunks(2 * algorithm.len());
            let hash = |digest| Hash::from_hex(algorithm, std::str::from_utf8(digest).ok()?);
            Some(Pieces {
                length: *length,
                hashes: digests.map(hash).collect::<Option<_>>()?,
            })
        }
    };
    Some(Published {
        alternates: stored
            .alternates
            .iter()
            .map(|url| Url::parse(url).ok())
            .collect::<Option<_>>()?,
        hashes: stored.hashes.iter().map(hash).collect::<Option<_>>()?,
        pieces,
        headers: stored.headers,
    })
}

fn time(nanoseconds: i128) -> Option<SystemTime> {
    let seconds = i64::try_from(nanoseconds.div_euclid(1_000_000_000)).ok()?;
    crate::source::time(seconds, nanoseconds.rem_euclid(1_000_000_000) as u32)
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::time::{Duration, UNIX_EPOCH};

    use percent_encoding::{NON_ALPHANUMERIC, percent_encode};
    use proptest::collection::vec;
    use proptest::option;
    use proptest::prelude::*;

    use super::*;

    fn directory() -> Url {
        Url::parse("http://h/a%20b/").unwrap()
    }

    fn entry(url: &str) -> Entry {
        Entry {
            name: Name::new(b"x".to_vec()).unwrap(),
            url: directory().join(url).unwrap(),
            kind: EntryKind::File(ListedSize::Unknown),
            modified: None,
            published: None,
        }
    }

    fn listing(entries: Vec<Entry>) -> Listing {
        let mut listing = listing_of(&directory(), None);
        assert!(entries.iter().all(|entry| listing.entries.push(entry)));
        listing
    }

    #[test]
    fn a_line_reads_as_the_module_says() {
        let entry = Entry {
            kind: EntryKind::File(ListedSize::Rounded(1200)),
            modified: Some(ListedTime {
                time: UNIX_EPOCH + Duration::from_secs(2),
                exact: false,
            }),
            ..entry("x%20y")
        };
        let stored = write(&directory(), INDEX, &listing(vec![entry])).unwrap();
        assert_eq!(stored.names, b"f ~1200\tx%20y\t~2000000000\tx\n");
    }

    #[test]
    fn a_name_that_begins_like_an_address_comes_back() {
        for url in ["=x", "=http://h/x", "http:x", "%3Dx"] {
            let listing = listing(vec![entry(&format!("./{url}"))]);
            let stored = write(&directory(), INDEX, &listing).unwrap();
            assert_eq!(read(&directory(), INDEX, &stored), Some(listing), "{url}");
        }
    }

    #[test]
    fn what_may_hold_a_secret_is_not_written_down() {
        for url in ["x?token=secret", "http://me:secret@h/a%20b/x", "x?"] {
            assert!(
                write(&directory(), INDEX, &listing(vec![entry("fine"), entry(url)])).is_none(),
                "{url}"
            );
        }
    }

    #[test]
    fn published_facts_come_back() {
        let hash = |byte| Hash::new(HashAlgorithm::Sha1, &[byte; 20]).unwrap();
        let published = Published {
            alternates: vec![Url::parse("https://mirror/x%20y").unwrap()],
            hashes: vec![hash(1), Hash::new(HashAlgorithm::Sha256, &[7; 32]).unwrap()],
            pieces: Some(Pieces {
                length: 1 << 18,
                hashes: vec![hash(2), hash(3)],
            }),
            headers: vec![("referer".into(), "https://h/a\tb".into())],
        };
        let with = |published: &Published| Entry {
            published: Some(Arc::new(published.clone())),
            ..entry("x%20y")
        };
        for published in [Published::default(), published.clone()] {
            let listing = listing(vec![entry("z"), with(&published)]);
            let stored = write(&directory(), "list", &listing).unwrap();
            assert_eq!(read(&directory(), "list", &stored), Some(listing));
        }
        let secret = Published {
            alternates: vec![Url::parse("https://mirror/x?token=1").unwrap()],
            ..published
        };
        assert_eq!(
            write(&directory(), "list", &listing(vec![with(&secret)])).map(|_| ()),
            None
        );
    }

    #[test]
    fn only_its_own_kind_reads_a_stored_listing() {
        let listing = listing(vec![entry("x")]);
        for written in [INDEX, "webdav"] {
            let stored = write(&directory(), written, &listing).unwrap();
            for kind in [INDEX, "webdav", "k webdav"] {
                let expected = (kind == written).then(|| listing.clone());
                assert_eq!(read(&directory(), kind, &stored), expected, "{written} {kind}");
            }
        }
    }

    #[test]
    fn a_text_that_is_no_listing_is_refused() {
        for names in [
            "x",
            "f 1",
            "f 1\tx\t-",
            "f 1\tx\t-\t..",
            "f 1\tx\t-\ta\tb",
            "f -1\tx\t-\tx",
            "g 1\tx\t-\tx",
            "f 1\tx\tnoon\tx",
            "f 1\t=x\t-\tx",
            "f 1\tx\t999999999999999999999999999999999999\tx",
        ] {
            let stored = StoredListing {
                names: names.into(),
                modified: None,
            };
            assert_eq!(read(&directory(), INDEX, &stored), None, "{names}");
        }
    }

    fn any_entry() -> impl Strategy<Value = Entry> {
        let kind = prop_oneof![
            Just(EntryKind::Directory),
            Just(EntryKind::File(ListedSize::Unknown)),
            any::<u64>().prop_map(|size| EntryKind::File(ListedSize::Exact(size))),
            any::<u64>().prop_map(|size| EntryKind::File(ListedSize::Rounded(size))),
        ];
        let time = (-5_000_000_000_i64..5_000_000_000, 0..1_000_000_000_u32, any::<bool>()).prop_map(
            |(seconds, nanoseconds, exact)| ListedTime {
                time: time(i128::from(seconds) * 1_000_000_000 + i128::from(nanoseconds)).unwrap(),
                exact,
            },
        );
        let name = vec(any::<u8>(), 1..20).prop_filter_map("a name", Name::new);
        (name, kind, option::of(time), any::<bool>()).prop_map(|(name, kind, modified, is_here)| {
            let base = if is_here { "http://h/a%20b" } else { "https://mirror/=" };
            let href = percent_encode(OsStr::as_bytes(name.as_os_str()), NON_ALPHANUMERIC);
            let slash = if kind == EntryKind::Directory { "/" } else { "" };
            Entry {
                url: Url::parse(&format!("{base}/{href}{slash}")).unwrap(),
                name,
                kind,
                modified,
                published: None,
            }
        })
    }

    proptest! {
        #[test]
        fn a_listing_survives_the_index(entries in vec(any_entry(), 0..20)) {
            let listing = listing(entries);
            let stored = write(&directory(), INDEX, &listing).unwrap();
            prop_assert_eq!(read(&directory(), INDEX, &stored), Some(listing));
        }

        #[test]
        fn any_bytes_can_be_read(names: Vec<u8>) {
            read(&directory(), INDEX, &StoredListing { names, modified: None });
        }
    }
}
