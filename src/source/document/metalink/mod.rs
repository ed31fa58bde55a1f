//! The kind `metalink`: files with their mirrors and hashes, in Metalink 3 and 4 (RFC 5854).
//!
//! A Metalink gives each file a name with folders, a size, several URLs, and hashes of the whole file and of its pieces.
//! URLs are asked in this order: those at a location that the user prefers, then by the document's own priority.
//!
//! Both versions are read by one reader, because their elements have the same meanings wherever they have the same
//! names.

mod element;
mod parse;

#[cfg(any(test, fuzzing))]
pub(in crate::source) use parse::parse;

use url::Url;

use super::{Format, Recognition, has_extension};

/// Extensions of Metalinks.
const EXTENSIONS: &[&str] = &["meta4", "metalink"];

/// The kind.
pub(in crate::source) const FORMAT: Format = Format {
    kind: "metalink",
    document: Url::clone,
    recognition: Recognition::ByContent {
        may_be_one: |url, answer| {
            let kind = answer.content_type.as_deref().unwrap_or_default();
            let is_typed_so = matches!(kind, "application/metalink4+xml" | "application/metalink+xml");
            let is_xml = matches!(kind, "application/xml" | "text/xml");
            is_typed_so || is_xml || has_extension(url, EXTENSIONS)
        },
        is_one: parse::is_metalink,
        is_local_one: |url, body| has_extension(url, EXTENSIONS) || parse::is_metalink(body),
    },
    parse: |document, body, config| parse::parse(document, body, &config.metalink_locations),
    is_described: true,
    may_be_nested: None,
};
