//! Versions of a remote file, and the validators that identify them.
//!
//! A cache entry belongs to exactly one version, and a reader must never see a mix of two (docs/semantics.md, promise
//! 1). So every response is compared with the version that the reader opened. This module compares;
//! [`validation`](super::validation) draws the consequences.
//!
//! Where a server offers several validators (RFC 9110 §8.8), the first of these counts:
//!
//! 1. A strong `ETag`: it changes whenever a byte changes (§8.8.1).
//! 2. `Last-Modified`, even beside a weak `ETag`. Servers make weak tags of size and date, so that the tag adds nothing
//!    to these. A date has a resolution of one second.
//! 3. The weak `ETag`: the origin only promises that two responses with the same tag are equivalent (§8.8.1). Such a
//!    server offers nothing better, and to refuse it would make its files unreadable.
//! 4. A `Last-Modified` that is not a date, which is better than nothing.
//! 5. Nothing: only the size counts.
//!
//! **A malformed validator is compared as text** (an unquoted tag, two tags, a date in another format than HTTP's). It
//! changes when the file does; to ignore it would mix two versions silently.
//!
//! **Range requests carry no precondition**, neither `If-Range` nor `If-Match`. The response's validators are compared
//! in any case, so a precondition proves nothing more. It has costs:
//!
//! - Some servers answer `If-Range` with the whole file although the tag is the file's, as if they did not support
//!   ranges.
//! - nginx's slice module then fetches a file's first slice for each request.
//! - For a changed file, `If-Range` brings the whole new version, which has no use here, instead of a part.
//! - Some servers refuse `If-Match` with 412 for a tag that they sent, or ignore it, so that it would not prove a
//!   part's version either.
//!
//! Requests to a [tier that machines share](crate::origin::SharedTier) do carry one, which keeps the versions apart in it.

use std::time::SystemTime;

use sha2::{Digest as _, Sha256};

/// Identifies a version of a remote file.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub enum Validator {
    /// A strong entity tag with its quotes, or the text in its place.
    Strong(String),
    /// `Last-Modified`, as the server wrote it, whether it is a date or not.
    Dated(String),
    /// A weak entity tag, `W/"…"`: it only says that two versions are equivalent.
    Weak(String),
    /// The server sends no validator.
    #[default]
    None,
}

/// One version of a remote file: its size and its validator.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Version {
    /// Bytes in the whole file.
    pub size: u64,
    /// The server's validator of this version.
    pub validator: Validator,
}

/// How a response's validators compare with a known version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sameness {
    /// The same version; or none was known.
    Same,
    /// Another version.
    Different,
    /// Unknown: the response has no comparable validator.
    Silent,
}

impl Validator {
    /// The validator to remember from a response with these headers, by the order of preference above.
    pub(crate) fn of(etag: Option<&str>, last_modified: Option<&str>) -> Validator {
        match (etag, last_modified) {
            (Some(tag), _) if !is_weak(tag) => Validator::Strong(tag.to_owned()),
            (Some(tag), Some(date)) if parse_date(date).is_none() => Validator::Weak(tag.to_owned()),
            (_, Some(date)) => Validator::Dated(date.to_owned()),
            (Some(tag), None) => Validator::Weak(tag.to_owned()),
            (None, None) => Validator::None,
        }
    }

    /// A stable text for the cache's index, which only [`parse`](Self::parse) reads.
    pub fn to_key(&self) -> String {
        match self {
            Validator::Strong(tag) => format!("strong:{tag}"),
            Validator::Dated(date) => format!("dated:{date}"),
            Validator::Weak(tag) => format!("weak:{tag}"),
            Validator::None => "none".to_owned(),
        }
    }

    /// Reads the result of [`to_key`](Self::to_key); `None` for any other text.
    pub fn parse(key: &str) -> Option<Validator> {
        let (kind, value) = key.split_once(':').unwrap_or((key, ""));
        match kind {
            "strong" if is_short_text(value) && !is_weak(value) => Some(Validator::Strong(value.to_owned())),
            "dated" if !value.is_empty() => Some(Validator::Dated(value.to_owned())),
            "weak" if is_short_text(value) && is_weak(value) => Some(Validator::Weak(value.to_owned())),
            "none" if key == "none" => Some(Validator::None),
            _ => None,
        }
    }

    /// Returns true if the validator is valid across servers. On two servers, weak tags and sizes may be equal by
    /// chance.
    pub(crate) fn names_a_version_anywhere(&self) -> bool {
        matches!(self, Validator::Strong(_) | Validator::Dated(_))
    }

    /// How much the validator proves. A server's responses do not normally become weaker than before.
    pub(crate) fn strength(&self) -> u8 {
        match self {
            Validator::Strong(_) => 3,
            Validator::Dated(_) => 2,
            Validator::Weak(_) => 1,
            Validator::None => 0,
        }
    }

    /// How a response with these headers compares with this version.
    pub(crate) fn compare(&self, etag: Option<&str>, last_modified: Option<&str>) -> Sameness {
        let same_if = |same| if same { Sameness::Same } else { Sameness::Different };
        match (self, etag, last_modified) {
            (Validator::None, ..) => Sameness::Same,
            // Weakened on its way by a proxy, which may have rewritten the body: no proof of the same bytes.
            (Validator::Strong(known), Some(tag), _) if is_weak(tag) && opaque(tag) == opaque(known) => {
                Sameness::Silent
            }
            (Validator::Strong(known), Some(tag), _) => same_if(is_same_tag(known, tag)),
            (Validator::Weak(known), Some(tag), _) => same_if(is_same_tag(opaque(known), opaque(tag))),
            (Validator::Dated(known), _, Some(date)) => same_if(is_same_date(known, date)),
            (Validator::Strong(_) | Validator::Weak(_), None, _) | (Validator::Dated(_), _, None) => Sameness::Silent,
        }
    }
}

/// Maximum bytes of a validator in the cache. Real tags have 10 to 80; one of a megabyte is an attack on the index.
const LONGEST: usize = 1024;

/// The values of a validator header as one text that fits into a header and into the index. Equal values count once,
/// different ones are joined, and a text that is too long is replaced by its hash. `None` if there is no value, or only
/// an empty one.
pub(crate) fn text_of<'a>(values: impl Iterator<Item = &'a [u8]>) -> Option<String> {
    let mut distinct: Vec<&[u8]> = Vec::new();
    for value in values.map(<[u8]>::trim_ascii) {
        if !distinct.contains(&value) {
            distinct.push(value);
        }
    }
    let text = distinct.join(&b", "[..]);
    if matches!(text.as_slice(), b"" | b"\"\"" | b"W/\"\"") {
        return None;
    }
    if text.len() > LONGEST {
        let hash = Sha256::digest(&text);
        return Some(
            hash.iter()
                .fold("sha256-".to_owned(), |text, byte| format!("{text}{byte:02x}")),
        );
    }
    // Non-ASCII bytes may be in any charset; each must stay distinct.
    Some(text.iter().map(|&byte| char::from(byte)).collect())
}

/// Returns true for texts that [`text_of`] can produce.
fn is_short_text(text: &str) -> bool {
    !text.is_empty() && text.chars().count() <= LONGEST && !text.contains(['\n', '\0'])
}

/// A weak tag has the prefix `W/`; some servers write it in lower case.
fn is_weak(tag: &str) -> bool {
    tag.starts_with("W/") || tag.starts_with("w/")
}

/// The quoted part, which weak comparison uses (RFC 9110 §8.8.3.2).
fn opaque(tag: &str) -> &str {
    if is_weak(tag) { &tag[2..] } else { tag }
}

/// Returns true if two tags are equal apart from a coding suffix, which servers append for a compressed form (Apache
/// and Jetty `-gzip`, Jetty `--gzip`, lighttpd `-br`, Caddy `;gzip`). Content-Encoding shows whether the body is
/// compressed.
fn is_same_tag(one: &str, other: &str) -> bool {
    one == other || without_coding(one) == without_coding(other)
}

/// A tag's text without quotes and coding suffix.
fn without_coding(tag: &str) -> &str {
    let tag = tag.strip_prefix('"').unwrap_or(tag);
    // The suffix is before the closing quote or, wrongly, after it.
    let tag = tag.strip_suffix('"').unwrap_or(tag);
    for coding in ["gzip", "br", "zstd", "deflate"] {
        if let Some(rest) = tag.strip_suffix(coding)
            && let Some(rest) = rest.strip_suffix("--").or_else(|| rest.strip_suffix(['-', ';', ':']))
            && !rest.is_empty()
        {
            return rest.strip_suffix('"').unwrap_or(rest);
        }
    }
    tag
}

/// The date in a header, if it has one of HTTP's formats.
pub(crate) fn parse_date(text: &str) -> Option<SystemTime> {
    httpdate::parse_http_date(text).ok()
}

/// A normalised tag: without `W/`, quotes and coding suffix.
pub(crate) fn plain_tag(tag: &str) -> &str {
    without_coding(opaque(tag))
}

/// Returns true for the same moment: servers of a cluster may write it in different ones of the three formats.
fn is_same_date(one: &str, other: &str) -> bool {
    one == other || matches!((parse_date(one), parse_date(other)), (Some(one), Some(other)) if one == other)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DAY: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

    #[test]
    fn validator_order_is_strong_etag_date_weak_etag() {
        assert_eq!(
            Validator::of(Some("\"a\""), Some(DAY)),
            Validator::Strong("\"a\"".into())
        );
        assert_eq!(Validator::of(Some("W/\"a\""), Some(DAY)), Validator::Dated(DAY.into()));
        assert_eq!(Validator::of(Some("W/\"a\""), None), Validator::Weak("W/\"a\"".into()));
        assert_eq!(Validator::of(None, Some(DAY)), Validator::Dated(DAY.into()));
        assert_eq!(Validator::of(None, None), Validator::None);
    }

    #[test]
    fn what_is_written_wrongly_is_compared_as_text() {
        let text = |values: &[&[u8]]| text_of(values.iter().copied());
        assert_eq!(text(&[b"5f3-abc"]).as_deref(), Some("5f3-abc"));
        assert_eq!(
            text(&[b" \"a\"", b"\"a\" "]).as_deref(),
            Some("\"a\""),
            "twice the same"
        );
        assert_eq!(text(&[b"\"a\"", b"\"b\""]).as_deref(), Some("\"a\", \"b\""));
        assert_ne!(text(&[b"\"\xe4\""]), text(&[b"\"\xf6\""]), "letters beyond ASCII");
        let (long, other) = ([b'a'; 5000], [b'b'; 5000]);
        assert_ne!(text(&[&long]), text(&[&other]));
        assert!(text(&[&long]).unwrap().len() < 100);
        for nothing in [&[] as &[&[u8]], &[b""], &[b"\"\""], &[b"W/\"\""], &[b"", b" "]] {
            assert_eq!(text(nothing), None, "{nothing:?}");
        }
        for tag in ["abc", "'abc'", "W/abc", "w/\"abc\"", "\"a\", \"b\"", "\"abc"] {
            let known = Validator::of(Some(tag), None);
            assert_eq!(known.compare(Some(tag), None), Sameness::Same, "{tag}");
            assert_eq!(known.compare(Some("\"other\""), None), Sameness::Different, "{tag}");
            assert_eq!(Validator::parse(&known.to_key()), Some(known), "{tag}");
        }
        for date in [
            "Mon, 01 Jan 2024 00:00:00 UTC",
            "Mon, 01 Jan 2024 00:00:00 +0000",
            "2024-01-01T00:00:00Z",
            "1704067200",
        ] {
            let known = Validator::of(None, Some(date));
            assert_eq!(known.compare(None, Some(date)), Sameness::Same, "{date}");
            assert_eq!(
                known.compare(None, Some(&date.replacen('0', "9", 1))),
                Sameness::Different,
                "{date}"
            );
        }
        let (weak, odd) = (Some("W/\"a\""), Some("0"));
        assert_eq!(
            Validator::of(weak, odd),
            Validator::of(weak, None),
            "a tag says more than what is no date"
        );
    }

    #[test]
    fn a_mark_of_the_coding_makes_no_other_version() {
        for (one, other, same) in [
            ("\"abc\"", "\"abc-gzip\"", true),
            ("\"abc\"", "\"abc\"-gzip", true),
            ("\"abc;br\"", "\"abc--gzip\"", true),
            ("\"abc\"", "\"abd-gzip\"", false),
            ("\"-gzip\"", "\"-br\"", false),
            ("\"gzip\"", "\"br\"", false),
        ] {
            let known = Validator::Strong(one.into());
            assert_eq!(
                known.compare(Some(other), None) == Sameness::Same,
                same,
                "{one} {other}"
            );
        }
    }

    #[test]
    fn a_date_is_the_same_in_each_of_its_three_forms() {
        let known = Validator::Dated(DAY.into());
        for date in [DAY, "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"] {
            assert_eq!(known.compare(Some("\"new\""), Some(date)), Sameness::Same, "{date}");
        }
        assert_eq!(
            known.compare(None, Some("Sun, 06 Nov 1994 08:49:38 GMT")),
            Sameness::Different
        );
        assert_eq!(known.compare(Some("\"a\""), None), Sameness::Silent);
    }

    #[test]
    fn tags_prove_as_much_as_they_say() {
        let strong = Validator::Strong("\"a\"".into());
        let weak = Validator::Weak("W/\"a\"".into());
        assert_eq!(strong.compare(Some("\"a\""), None), Sameness::Same);
        assert_eq!(strong.compare(Some("\"b\""), Some(DAY)), Sameness::Different);
        assert_eq!(strong.compare(Some("W/\"a\""), Some(DAY)), Sameness::Silent);
        assert_eq!(strong.compare(Some("W/\"b\""), None), Sameness::Different);
        assert_eq!(strong.compare(None, Some(DAY)), Sameness::Silent);
        assert_eq!(weak.compare(Some("W/\"a\""), None), Sameness::Same);
        assert_eq!(weak.compare(Some("\"a\""), None), Sameness::Same);
        assert_eq!(weak.compare(Some("W/\"b\""), None), Sameness::Different);
        assert_eq!(weak.compare(None, Some(DAY)), Sameness::Silent);
    }

    #[test]
    fn a_text_that_is_no_key_is_refused() {
        for key in [
            "",
            "nothing",
            "none:",
            "none:x",
            "strong:",
            "strong:W/\"a\"",
            "weak:\"a\"",
            "dated:",
        ] {
            assert_eq!(Validator::parse(key), None, "{key}");
        }
    }

    proptest! {
        #[test]
        fn a_validator_survives_the_index(tag in "(W/)?\"[!#-~é]{0,40}\"", date in "[ -~]{1,40}") {
            for validator in [Validator::of(Some(&tag), None), Validator::of(None, Some(&date)), Validator::None] {
                prop_assert_eq!(Validator::parse(&validator.to_key()), Some(validator));
            }
        }

        #[test]
        fn any_text_can_be_compared_and_parsed(one: String, other: String) {
            Validator::parse(&one);
            let _ = text_of(std::iter::once(one.as_bytes()));
            Validator::Strong(one.clone()).compare(Some(&other), None);
            Validator::Dated(one).compare(None, Some(&other));
        }
    }
}
