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

mod parse;

pub(super) use parse::is_list;
#[cfg(any(test, fuzzing))]
pub(super) use parse::parse;

use url::Url;

use super::document::{Format, Recognition, has_extension, is_text};

/// Size in bytes up to which a `.txt` is requested to find out whether it is a list. Larger ones are texts or data,
/// unless the user names the kind.
const LONGEST: u64 = 16 << 20;

/// The kind.
pub(super) const FORMAT: Format = Format {
    kind: "list",
    document: Url::clone,
    recognition: Recognition::ByContent {
        may_be_one: |url, answer| {
            let is_named_so = has_extension(url, &["txt"]) && is_text(answer);
            let is_typed_so = answer.content_type.as_deref() == Some("text/uri-list");
            (is_named_so || is_typed_so) && answer.size.is_some_and(|size| size <= LONGEST)
        },
        is_one: |body| is_list(body),
    },
    parse: |document, body, _| parse::parse(document, body),
    may_be_nested: None,
    is_described: false,
};
