//! What tells one version of a remote file from the next.
//!
//! A cache entry belongs to exactly one version, and a reader must never see a mix of two (docs/semantics.md, promise 1). So
//! every answer is compared with the version that the reader opened. The comparison lives here, the consequences that
//! it has for an answer live in [`judge`](super::judge).
//!
//! Which validator is taken, where a server offers several (RFC 9110 §8.8):
//!
//! 1. a strong `ETag`: it changes whenever a byte changes (§8.8.1);
//! 2. else `Last-Modified`, even beside a weak `ETag`: servers that send weak tags make them of the size and the
//!    date, so that the tag says nothing that date and length do not. A date has a resolution of one second;
//! 3. else the weak `ETag`: the origin only promises that two answers with the same tag mean the same (§8.8.1). Nothing
//!    better is to be had from such a server, and refusing it would make its files unreadable;
//! 4. else nothing: the size alone must do.

/// Tells two versions of a remote file apart.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub enum Validator {
    /// A strong entity tag, with its quotes. **Always of the form `"…"`.**
    Strong(String),
    /// `Last-Modified`, as the server wrote it.
    Dated(String),
    /// A weak entity tag, `W/"…"`: it only says that two versions are equivalent.
    Weak(String),
    /// The server names no version.
    #[default]
    None,
}

/// One version of a remote file: what the size was, and what the server calls it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Version {
    /// Bytes in the whole file.
    pub size: u64,
    /// What the server calls this version.
    pub validator: Validator,
}

/// What an answer's own validators say about a version that was known before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sameness {
    /// It is that version; or none was known.
    Same,
    /// It is another one.
    Different,
    /// The answer does not say: it carries nothing that can be compared.
    Silent,
}

impl Validator {
    /// The validator to remember of an answer with these headers, by the preference in the module's story.
    pub(super) fn of(etag: Option<&str>, last_modified: Option<&str>) -> Validator {
        match (etag, last_modified) {
            (Some(tag), _) if !is_weak(tag) => Validator::Strong(tag.to_owned()),
            (_, Some(date)) => Validator::Dated(date.to_owned()),
            (Some(tag), None) => Validator::Weak(tag.to_owned()),
            (None, None) => Validator::None,
        }
    }

    /// A stable text for the index, and for nobody else: what [`parse`](Self::parse) reads back.
    pub fn to_key(&self) -> String {
        match self {
            Validator::Strong(tag) => format!("strong:{tag}"),
            Validator::Dated(date) => format!("dated:{date}"),
            Validator::Weak(tag) => format!("weak:{tag}"),
            Validator::None => "none".to_owned(),
        }
    }

    /// Reads what [`to_key`](Self::to_key) wrote; `None` if this is not such a text.
    pub fn parse(key: &str) -> Option<Validator> {
        let (kind, value) = key.split_once(':').unwrap_or((key, ""));
        match kind {
            "strong" if is_entity_tag(value) && !is_weak(value) => Some(Validator::Strong(value.to_owned())),
            "dated" if !value.is_empty() => Some(Validator::Dated(value.to_owned())),
            "weak" if is_entity_tag(value) && is_weak(value) => Some(Validator::Weak(value.to_owned())),
            "none" if key == "none" => Some(Validator::None),
            _ => None,
        }
    }

    /// The value of an `If-Range` header: a strong tag.
    ///
    /// A weak tag may not stand there, and a date only if it is known that the file was not written twice within that
    /// second (RFC 9110 §13.1.5, §8.8.2.2), which a client can't know for sure. Apache takes every date of the last
    /// minute for such a one and answers with the whole file, which looks as if it had no ranges. Nothing is lost
    /// without the header: a part that is sent without it must carry Last-Modified (§15.3.7), which is compared.
    pub(super) fn if_range(&self) -> Option<&str> {
        match self {
            Validator::Strong(value) => Some(value),
            Validator::Dated(_) | Validator::Weak(_) | Validator::None => None,
        }
    }

    /// Whether it is more than one server's word: of two servers, weak tags and sizes may be the same by chance.
    pub(super) fn names_a_version_anywhere(&self) -> bool {
        matches!(self, Validator::Strong(_) | Validator::Dated(_))
    }

    /// How much it proves: a server's answers do not normally fall back behind what it sent before.
    pub(super) fn strength(&self) -> u8 {
        match self {
            Validator::Strong(_) => 3,
            Validator::Dated(_) => 2,
            Validator::Weak(_) => 1,
            Validator::None => 0,
        }
    }

    /// What an answer with these headers says about this version.
    pub(super) fn compare(&self, etag: Option<&str>, last_modified: Option<&str>) -> Sameness {
        let same_if = |same| if same { Sameness::Same } else { Sameness::Different };
        match (self, etag, last_modified) {
            (Validator::None, ..) => Sameness::Same,
            // Weakened on its way, by a proxy that may have rewritten the body: no proof of the same bytes.
            (Validator::Strong(known), Some(tag), _) if is_weak(tag) && opaque(tag) == opaque(known) => {
                Sameness::Silent
            }
            (Validator::Strong(known), Some(tag), _) => same_if(tag == known),
            (Validator::Weak(known), Some(tag), _) => same_if(opaque(tag) == opaque(known)),
            (Validator::Dated(known), _, Some(date)) => same_if(is_same_date(known, date)),
            (Validator::Strong(_) | Validator::Weak(_), None, _) | (Validator::Dated(_), _, None) => Sameness::Silent,
        }
    }
}

/// Whether this is an entity tag (RFC 9110 §8.8.3), short enough to be kept beside every file.
pub(super) fn is_entity_tag(value: &str) -> bool {
    /// Bytes. Real tags have 10 to 80; one of a megabyte is an attack on the index.
    const LONGEST_TAG: usize = 1024;
    let quoted = value.strip_prefix("W/").unwrap_or(value);
    value.len() <= LONGEST_TAG
        && quoted.len() >= 2
        && quoted.starts_with('"')
        && quoted.ends_with('"')
        && quoted[1..quoted.len() - 1]
            .bytes()
            .all(|byte| byte == 0x21 || (0x23..=0x7e).contains(&byte) || byte >= 0x80)
}

fn is_weak(tag: &str) -> bool {
    tag.starts_with("W/")
}

/// The quoted part, by which weak comparison goes (RFC 9110 §8.8.3.2).
fn opaque(tag: &str) -> &str {
    tag.strip_prefix("W/").unwrap_or(tag)
}

/// The same moment, although one server of a cluster may write it in another of the three forms.
fn is_same_date(one: &str, other: &str) -> bool {
    one == other
        || matches!((httpdate::parse_http_date(one), httpdate::parse_http_date(other)), (Ok(one), Ok(other)) if one == other)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DAY: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

    #[test]
    fn a_strong_tag_is_preferred_to_a_date_and_a_date_to_a_weak_tag() {
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
    fn entity_tags_are_what_rfc_9110_says() {
        for tag in ["\"\"", "W/\"\"", "\"xyzzy\"", "W/\"xyzzy\"", "\"!#[]~\"", "\"é\""] {
            assert!(is_entity_tag(tag), "{tag}");
        }
        for tag in [
            "",
            "\"",
            "a",
            "W/",
            "W/a",
            "w/\"a\"",
            "\"a",
            "a\"",
            "\"a\"b\"",
            "\"a b\"",
            "\"a\"-gzip",
            "\"a\", \"b\"",
        ] {
            assert!(!is_entity_tag(tag), "{tag}");
        }
        assert!(!is_entity_tag(&format!("\"{}\"", "a".repeat(5000))));
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
    fn only_what_may_stand_in_if_range_does() {
        assert_eq!(Validator::Strong("\"a\"".into()).if_range(), Some("\"a\""));
        assert_eq!(Validator::Dated(DAY.into()).if_range(), None);
        assert_eq!(Validator::Weak("W/\"a\"".into()).if_range(), None);
        assert_eq!(Validator::None.if_range(), None);
    }

    #[test]
    fn a_text_that_is_no_key_is_refused() {
        for key in [
            "",
            "nothing",
            "none:",
            "none:x",
            "strong:",
            "strong:a",
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
            let _ = is_entity_tag(&one);
            Validator::Strong(one.clone()).compare(Some(&other), None);
            Validator::Dated(one).compare(None, Some(&other));
        }
    }
}
