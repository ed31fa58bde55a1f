//! The kind `list`: a list of URLs, one in each line.
//!
//! ```text
//! # a comment
//! https://host/pub/a.iso
//! https://host/get?id=7 TAB films/b.mkv TAB 734003200 TAB e3b0c44298fc1c14...
//! ```
//!
//! After the URL, and each after a tab, come the name in the mount with its folders, the size in bytes, and the SHA-256.
//! Each may be left out, empty, or `-`. A name that ends in `/` is only the folder. Without a name, a file is called by
//! the last part of its URL's path.
//!
//! A list may also be in JSON ([`json`]).

mod json;
mod parse;

use url::Url;

use super::{DocumentError, Format, Parsed, Recognition, has_extension, is_text};

/// Size in bytes up to which a `.txt` or `.json` is requested to find out whether it is a list. Larger ones are texts or data,
/// unless the user names the kind.
const LONGEST: u64 = 16 << 20;

/// The kind.
pub(in crate::source) const FORMAT: Format = Format {
    kind: "list",
    document: Url::clone,
    recognition: Recognition::ByContent {
        may_be_one: |url, answer| {
            let kind = answer.content_type.as_deref().unwrap_or_default();
            let is_named_so = has_extension(url, &["txt", "json"]) && is_text(answer);
            let is_typed_so = matches!(kind, "text/uri-list" | "application/json");
            (is_named_so || is_typed_so) && answer.size.is_some_and(|size| size <= LONGEST)
        },
        is_one: is_list,
        // The last kind that is asked. Its errors name the line.
        is_local_one: |_, _| true,
    },
    parse: |document, body, _| parse(document, body),
    may_be_nested: None,
    is_described: false,
};

/// Parses a list that came from `document`, in whichever form.
pub(in crate::source) fn parse(document: &Url, body: &[u8]) -> Result<Parsed, DocumentError> {
    if json::is_json(body) {
        json::parse(document, body)
    } else {
        parse::parse(document, body)
    }
}

/// Returns true if a document is a list by its content.
pub(in crate::source) fn is_list(body: &[u8]) -> bool {
    json::is_list(body) || parse::is_list(body)
}
